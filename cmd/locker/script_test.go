package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(nohup{m}, map[string]func(){"locker": main, "played": played})
}

// nohup runs the tests such that what they start can be interrupted and hung up on, as it is when a user starts it, although whoever
// started the tests has these signals ignored: nohup(1), or a shell's "&" without job control. What is ignored is inherited.
type nohup struct{ *testing.M }

func (n nohup) Run() int {
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s) // heard, and not heeded, by us
		}
	}
	return n.M.Run()
}

// patience is how long a test waits for what must come; only a failing one needs it.
const patience = time.Minute

// eventually polls until is gives true.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// The scripts run the real main against a fake lockerd at $LOCKER_SOCKET.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			// Short, since unix(7) allows 107 bytes, and not below $WORK.
			dir, err := os.MkdirTemp("", "lk")
			if err != nil {
				return err
			}
			f := startFake(t, filepath.Join(dir, "s"))
			e.Values["fake"] = f
			e.Setenv("LOCKER_SOCKET", f.socket)
			e.Setenv("TZ", "UTC")
			e.Setenv("LANG", "C.UTF-8")
			e.Defer(func() {
				f.stop()
				os.RemoveAll(dir)
			})
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"bob":   scriptBob,
			"await": scriptAwait,
			"exit":  scriptExit,
			"json":  scriptJSON,
			"plain": scriptPlain,
			"asked": scriptAsked,
			"warns": scriptWarns,
		},
	})
}

func fakeOf(ts *testscript.TestScript) *fakeLockerd { return ts.Value("fake").(*fakeLockerd) }

// bob holds PATH [REASON] | frees PATH | breaks PATH | dies | returns | forgets | leaves: the last four as lockerd.
func scriptBob(ts *testscript.TestScript, neg bool, args []string) {
	f := fakeOf(ts)
	switch {
	case args[0] == "dies":
		f.die()
	case args[0] == "returns":
		f.revive()
	case args[0] == "forgets":
		f.forget()
	case args[0] == "leaves":
		f.leave()
	case args[0] == "holds":
		f.bobHolds(ts.MkAbs(args[1]), strings.Join(args[2:], " "))
	case args[0] == "frees":
		f.bobFrees(ts.MkAbs(args[1]))
	case args[0] == "breaks":
		f.loses(ts.MkAbs(args[1]))
	default:
		ts.Fatalf("bob cannot %s", args[0])
	}
}

// await held|free|waited PATH, await file PATH, await text PATH TEXT, or await knocking (somebody has connected to the dead
// lockerd's socket), or await resumed (everybody is back): until it is so.
func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	path := ""
	if len(args) > 1 {
		path = ts.MkAbs(args[1])
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for {
		held, waited := fakeOf(ts).state()
		is := false
		switch args[0] {
		case "held":
			is = slices.Contains(held, path)
		case "free":
			is = !slices.Contains(held, path)
		case "waited":
			is = slices.Contains(waited, path)
		case "knocking":
			is = fakeOf(ts).knocked()
		case "resumed":
			is = fakeOf(ts).resumed()
		case "file":
			_, err := os.Stat(path)
			is = err == nil
		case "text":
			text, _ := os.ReadFile(path)
			is = strings.Contains(string(text), args[2])
		}
		if is {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			ts.Fatalf("not within %v: %v", patience, args)
		}
	}
}

// warns PATTERN COMMAND...: it exits with 0, and again and again until it warns so: of a lockerd that does not answer in a second, nothing is
// said of a guard.
func scriptWarns(ts *testscript.TestScript, neg bool, args []string) {
	pattern := regexp.MustCompile("(?m)" + args[0])
	for end := time.Now().Add(patience); ; {
		ts.Check(ts.Exec(args[1], args[2:]...))
		if pattern.MatchString(ts.ReadFile("stderr")) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("not within %v: %q", patience, args)
		}
	}
}

// exit CODE COMMAND...: the command exits with just this code.
func scriptExit(ts *testscript.TestScript, neg bool, args []string) {
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var failed *exec.ExitError
		if !errors.As(err, &failed) {
			ts.Fatalf("%v: %v", args[1:], err)
		}
		if code = failed.ExitCode(); code < 0 {
			code = exitSignal + int(failed.Sys().(syscall.WaitStatus).Signal())
		}
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%v: exit code %d, want %s", args[1:], code, args[0])
	}
}

// json FILE: it is one JSON value in each line, in ASCII without control characters.
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	for line := range strings.Lines(ts.ReadFile(args[0])) {
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

// plain FILE: no byte in it is one that a terminal obeys.
func scriptPlain(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile(args[0])
	for _, r := range text {
		if r != '\n' && !clean("x"+string(r)+"x") && r != '"' && r != '\\' {
			ts.Fatalf("rune %#x in %q", r, text)
		}
	}
}

// asked NAME=VALUE...: lockerd was asked so in the last Lock.
func scriptAsked(ts *testscript.TestScript, neg bool, args []string) {
	f := fakeOf(ts)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) == 0 {
		ts.Fatalf("nothing was asked")
	}
	m := f.asked[len(f.asked)-1]
	got := []string{
		"mode=" + m.Mode.String(), "wait=" + m.Wait.String(), "timeout=" + m.Timeout.String(), "life=" + m.Life.String(),
		"ttl=" + m.TTL.String(), "grace=" + m.Grace.String(), "tag=" + m.Tag, "reason=" + m.Reason, "paths=" + strings.Join(m.Paths, ","),
	}
	for _, want := range args {
		if !slices.Contains(got, want) {
			ts.Fatalf("lockerd was asked for %q, want %q", got, want)
		}
	}
}
