package locker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/testscript"
)

func scriptCommands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	all := map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"start": scriptStart, "end": scriptEnd, "reload": scriptReload, "settled": scriptSettled,
		"slay": scriptSlay, "guarded": scriptGuarded, "upgrade": scriptUpgrade, "install": scriptInstall,
		"exit": scriptExit, "until": scriptUntil, "policy": scriptPolicy, "json": scriptJSON, "shape": scriptShape, "plain": scriptPlain,
		"socket": scriptSocket, "hostile": scriptHostile, "says": scriptSays, "opened": scriptOpened, "refused": scriptRefused,
	}
	maps.Copy(all, faultCommands())
	return all
}

// exit CODE COMMAND...: the command exits with just this code, 128+N for signal N.
func scriptExit(ts *testscript.TestScript, neg bool, args []string) {
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var failed *exec.ExitError
		if !errors.As(err, &failed) {
			ts.Fatalf("%v: %v", args[1:], err)
		}
		if code = failed.ExitCode(); code < 0 {
			code = 128 + int(failed.Sys().(syscall.WaitStatus).Signal())
		}
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%v: exit code %d, want %s", args[1:], code, args[0])
	}
}

// until COMMAND...: again and again until it exits with 0.
func scriptUntil(ts *testscript.TestScript, neg bool, args []string) {
	var last []byte
	try := func() (is bool) {
		var code int
		code, last = tryOnce(ts, args)
		return (code == 0) != neg
	}
	if !eventually(try) {
		ts.Fatalf("not within %v: %q; at last it said %q", patience, args, last)
	}
}

// says CODE PATTERN COMMAND...: it exits with CODE, and again and again until it says PATTERN: who is in the way outside of locker is looked
// for, for as long as that may cost on a machine that is busy.
func scriptSays(ts *testscript.TestScript, neg bool, args []string) {
	pattern := regexp.MustCompile("(?m)" + args[1])
	var last []byte
	try := func() bool {
		var code int
		if code, last = tryOnce(ts, args[2:]); strconv.Itoa(code) != args[0] {
			ts.Fatalf("%q: exit code %d, want %s: %s", args[2:], code, args[0], last)
		}
		return pattern.Match(last)
	}
	if !eventually(try) {
		ts.Fatalf("not within %v: %q says %q; at last it said %q", patience, args[2:], args[1], last)
	}
}

// tryOnce runs a command with the script's environment, and gives its exit code, -1 after a signal, and all that it said.
func tryOnce(ts *testscript.TestScript, args []string) (code int, said []byte) {
	cmd := exec.Command("env", args...)
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, args[0])); err == nil {
			cmd = exec.Command(filepath.Join(dir, args[0]), args[1:]...)
			break
		}
	}
	cmd.Dir, cmd.Env = ts.MkAbs("."), stageOf(ts).environment(ts)
	said, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil { // it did not start
		return -1, []byte(err.Error())
	}
	return cmd.ProcessState.ExitCode(), said
}

// policy FILE [NAME]: put a policy with the script's variables filled in at $ETC/NAME (locker.toml).
func scriptPolicy(ts *testscript.TestScript, neg bool, args []string) {
	name := "locker.toml"
	if len(args) > 1 {
		name = args[1]
	}
	if ts.Getenv("ETC") == "" {
		ts.Fatalf("a script with a policy begins with: [!policy] skip")
	}
	to := filepath.Join(ts.Getenv("ETC"), name)
	text := os.Expand(ts.ReadFile(args[0]), func(name string) string {
		if name == "$" {
			return "$"
		}
		return ts.Getenv(name)
	})
	ts.Check(os.WriteFile(to+".new", []byte(text), 0o644))
	ts.Check(os.Chmod(to+".new", 0o644))
	ts.Check(os.Rename(to+".new", to))
}

// json FILE: each line is one JSON value, in ASCII without control characters.
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile(args[0])
	if text == "" {
		ts.Fatalf("%s is empty", args[0])
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if !json.Valid([]byte(line)) {
			ts.Fatalf("not JSON: %q", line)
		}
		for _, b := range []byte(line) {
			if b < ' ' || b >= 0x7f {
				ts.Fatalf("byte %#x in %q", b, line)
			}
		}
	}
}

// shape FILE: print each place in the JSON values of FILE once, with the kind of what is there.
func scriptShape(ts *testscript.TestScript, neg bool, args []string) {
	seen := map[string]bool{}
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, value := range v {
				walk(strings.TrimPrefix(at+"."+name, "."), value)
			}
		case []any:
			for _, value := range v {
				walk(at+"[]", value)
			}
			if len(v) == 0 {
				seen[at+"[]"] = true
			}
		case string:
			seen[at+" string"] = true
		case float64:
			seen[at+" number"] = true
		case bool:
			seen[at+" bool"] = true
		case nil:
			seen[at+" null"] = true
		}
	}
	d := json.NewDecoder(bytes.NewReader([]byte(ts.ReadFile(args[0]))))
	for d.More() {
		var v any
		ts.Check(d.Decode(&v))
		walk("", v)
	}
	for _, line := range slices.Sorted(maps.Keys(seen)) {
		fmt.Fprintln(ts.Stdout(), line)
	}
}

// plain FILE: there is no byte in it that a terminal obeys, and nothing that is not text.
func scriptPlain(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile(args[0])
	if !utf8.ValidString(text) {
		ts.Fatalf("not UTF-8: %q", text)
	}
	for _, r := range text {
		if r != '\n' && !strconv.IsPrint(r) {
			ts.Fatalf("rune %#x in %q", r, text)
		}
	}
}

// socket FILE: it is a socket.
func scriptSocket(ts *testscript.TestScript, neg bool, args []string) {
	info, err := os.Lstat(ts.MkAbs(args[0]))
	if is := err == nil && info.Mode()&os.ModeSocket != 0; is == neg {
		ts.Fatalf("%s: %v %v", args[0], info, err)
	}
}

// hostile DIR: make files with names that no terminal and no log may see as they are, and set $ESCAPE, $NEWLINE, $BYTES, $BIDI
// to their paths, $WEIRD to a short text of that kind.
func scriptHostile(ts *testscript.TestScript, neg bool, args []string) {
	for name, file := range map[string]string{
		"ESCAPE": "red \x1b[31m\a", "NEWLINE": "two\nlocker: lines", "BYTES": "latin \xe9\xff", "BIDI": "right\u202eleft\u009b",
	} {
		path := filepath.Join(ts.MkAbs(args[0]), file)
		ts.Check(os.WriteFile(path, nil, 0o666))
		ts.Setenv(name, path)
	}
	ts.Setenv("WEIRD", "a\x1b[31m\nlocker: b\xff\u202ec")
}
