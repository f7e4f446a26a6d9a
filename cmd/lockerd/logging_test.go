package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

type word string

func (w word) String() string { return string(w) }

func TestLogHoldsNothingThatATerminalObeys(t *testing.T) {
	const hostile = "a\x1b[31m\nlockerd: b\xff\u202ec\u009b\a"
	for _, form := range []string{"text", "json"} {
		var out strings.Builder
		l := newLogger(options{logLevel: "trace", logForm: form}, &out)
		for _, log := range []func(string, ...any){l.Trace, l.Debug, l.Info, l.Warn, l.Error} {
			log("message", "path", hostile, "error", errors.New(hostile), "stringer", word(hostile), "n", 5)
		}
		lines := strings.SplitAfter(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) != 5 {
			t.Errorf("%s: %d lines, want 5: %q", form, len(lines), out.String())
		}
		for _, line := range lines {
			for _, b := range []byte(strings.TrimSuffix(line, "\n")) {
				if b < ' ' || b >= 0x7f {
					t.Fatalf("%s: byte %#x in %q", form, b, line)
				}
			}
			if form == "json" && !json.Valid([]byte(line)) {
				t.Errorf("not JSON: %q", line)
			}
		}
	}
}

func TestPlainTextIsLoggedAsItIs(t *testing.T) {
	for in, want := range map[string]string{
		"":                    "",
		`/srv/a b "c" \d`:     `/srv/a b "c" \d`,
		"/srv/é":              `/srv/\u00e9`,
		"two\nlines \"x\"":    `two\nlines \"x\"`,
		"not \xff UTF-8":      `not \xff UTF-8`,
		"\u202eright-to-left": `\u202eright-to-left`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}
