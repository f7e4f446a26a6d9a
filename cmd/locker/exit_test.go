package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"locker/client"
	"locker/wire"
)

func TestEveryFailureHasItsExitCodeAndWords(t *testing.T) {
	unreachable := fmt.Errorf("%w at /s: no such file", client.ErrUnreachable)
	tests := []struct {
		err  error
		code int
	}{
		{nil, 0},
		{&client.Error{Code: client.CodeBusy}, 120},
		{&client.Error{Code: client.CodeDenied}, 121},
		{unreachable, 122},
		{fmt.Errorf("%w: it belongs to uid 7", client.ErrUntrusted), 122},
		{&client.ForeignError{Socket: "/s", UID: 7}, 122},
		{&reloadError{&client.Error{Code: client.CodeInvalid}}, 125},
		{&reloadError{&client.Error{Code: client.CodeUnavailable}}, 125},
		{&reloadError{&client.Error{Code: client.CodeInternal}}, 125},
		{&reloadError{&client.Error{Code: client.CodeDenied}}, 121},
		{fmt.Errorf("%w: no answer: %w", client.ErrUnreachable, context.DeadlineExceeded), 122},
		{&client.Error{Code: client.CodeShutdown}, 122},
		{&usageError{text: "x"}, 123},
		{&client.Error{Code: client.CodeInvalid}, 123},
		{&client.Error{Code: client.CodeTimeout}, 124},
		{&client.Error{Code: client.CodeDeadlock}, 125},
		{&client.Error{Code: client.CodeQuota}, 125},
		{&client.Error{Code: client.CodeNotFound}, 125},
		{&client.Error{Code: client.CodeUnsupported}, 125},
		{&client.Error{Code: client.CodeConversion}, 125},
		{&client.Error{Code: client.CodeCanceled}, 125},
		{&client.Error{Code: client.CodeUnavailable}, 125},
		{&client.Error{Code: client.CodeInternal}, 125},
		{&client.Error{Code: client.CodeVersion}, 125},
		{&client.Error{Code: client.CodeLimit}, 125},
		{&client.Error{Code: client.CodeLost}, 125},
		{errors.New("disk full"), 125},
		{notRunnable("x", os.ErrPermission), 126},
		{notRunnable("x", os.ErrNotExist), 127},
		{&hinted{&client.Error{Code: client.CodeDenied}, []string{"h"}}, 121},
	}
	for _, tt := range tests {
		var said strings.Builder
		c := cli{say: speaker{&said}, conflict: -1}
		if code := c.finish(tt.err); code != tt.code {
			t.Errorf("%v: exit code %d, want %d", tt.err, code, tt.code)
		}
		if (tt.err == nil) != (said.Len() == 0) {
			t.Errorf("%v: said %q", tt.err, said.String())
		}
		old := cli{say: speaker{io.Discard}, conflict: -1, old: true}
		if code := old.finish(tt.err); code != min(tt.code, 1) {
			t.Errorf("%v, in 2016: exit code %d, want 0 or 1", tt.err, code)
		}
		replaced := cli{say: speaker{io.Discard}, conflict: 1}
		want := tt.code
		if want == 120 || want == 124 {
			want = 1
		}
		if code := replaced.finish(tt.err); code != want {
			t.Errorf("%v, with -E 1: exit code %d, want %d", tt.err, code, want)
		}
	}
}

func TestExitCodeOfTheCommandIsPassedOnAsItIs(t *testing.T) {
	for _, code := range []int{0, 1, exitBusy, exitTimeout, exitUsage, 143, 255} {
		var said strings.Builder
		c := cli{say: speaker{&said}, conflict: 1}
		if got := c.finish(statusError(code)); got != code || said.Len() != 0 {
			t.Errorf("the command's %d becomes %d, saying %q", code, got, said.String())
		}
	}
}

func TestExitTableHasEveryCode(t *testing.T) {
	var codes []string
	for _, row := range exitTable() {
		codes = append(codes, row[0])
	}
	var want []string
	for _, c := range []int{exitDone, exitAiling, exitBusy, exitDenied, exitUnreachable, exitUsage, exitTimeout, exitFailure, exitNotRunnable, exitNotFound} {
		want = append(want, strconv.Itoa(c))
	}
	want = append(want, strconv.Itoa(exitSignal)+"+N")
	if strings.Join(codes, " ") != strings.Join(want, " ") {
		t.Errorf("exitTable has %v, want %v", codes, want)
	}
}

// The README's table begins with "| exit code |"; its rows are those of exitTable.
func TestReadmeRepeatsTheExitTable(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Skip("no README:", err)
	}
	_, table, found := strings.Cut(string(readme), "| exit code |")
	if !found {
		t.Skip("the README has no table that begins with \"| exit code |\"")
	}
	_, table, _ = strings.Cut(table, "\n") // the rest of the head
	_, table, _ = strings.Cut(table, "\n") // the line below it
	var got strings.Builder
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		got.WriteString(line)
	}
	var want strings.Builder
	for _, row := range exitTable() {
		fmt.Fprintf(&want, "| %s | %s |\n", row[0], row[1])
	}
	if got.String() != want.String() {
		t.Errorf("README has\n%s\nwant\n%s", got.String(), want.String())
	}
}

func TestRefusalsNameWhoIsInTheWay(t *testing.T) {
	e := &client.Error{Code: client.CodeTimeout, Path: "/a", Text: "still in use", Blockers: []client.Blocker{
		{Kind: wire.Holder, Path: "/b", User: "ali\x1bce", PID: 1, Command: "c", Reason: "r\n"},
		{Kind: wire.Waiter, UID: 7},
		{Kind: wire.Outside, Hidden: true},
		{Kind: wire.Outside, Command: "smbd", PID: 2231, User: "root"},
		{Kind: wire.Outside, PID: -1},
	}}
	want := []string{
		"/a: still in use",
		`/b is held by "ali\x1bce" (pid 1, c): "r\n"`,
		"/a is waited for, ahead of us, by uid 7",
		"/a is held by a program outside locker",
		"/a is held by smbd (pid 2231, user root) outside locker",
		"/a is held by a program outside locker",
	}
	if got := judge(e).lines; strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("said\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestHintsNameWhatWorks(t *testing.T) {
	bob := client.Blocker{Kind: wire.Holder, User: "bob"}
	hidden := client.Blocker{Kind: wire.Holder, Hidden: true}
	tests := []struct {
		err  error
		want string
	}{
		{&client.Error{Code: client.CodeBusy, Blockers: []client.Blocker{hidden, bob}}, "wait with --timeout 30s, or see 'locker list --all'"},
		{&client.Error{Code: client.CodeBusy, Blockers: []client.Blocker{hidden}}, "wait with --timeout 30s"},
		{&client.Error{Code: client.CodeConversion, Path: "/a"}, "'locker unlock /a' does that"},
		{
			&client.ForeignError{Socket: "/run/x", UID: 54321},
			"if you trust that user, ask as that user: sudo -u '#54321' locker --socket /run/x ...\n" + hintUntrusted,
		},
	}
	for _, tt := range tests {
		if got := strings.Join(judge(tt.err).hints, "\n"); got != tt.want {
			t.Errorf("%v: hints %q, want %q", tt.err, got, tt.want)
		}
	}
}

func TestEveryFaultOfAPolicyHasALineOfItsOwn(t *testing.T) {
	text := "the old policy stays in force: /p:1: unknown key \"a\\x1b\"\n/p:5: evil \x1b[31m\n"
	want := []string{`the old policy stays in force: /p:1: unknown key "a\x1b"`, `/p:5: evil \x1b[31m`}
	if got := judge(&reloadError{&client.Error{Code: client.CodeUnavailable, Text: text}}).lines; !slices.Equal(got, want) {
		t.Errorf("reload says %q, want %q", got, want)
	}
	now := time.Now()
	table := columnsOf(statusRows(&client.Status{PolicyFile: "/p", PolicyError: "/p:1: one\n/p:5: two", Started: now, PolicyLoaded: now}, guarding{}, now))
	if !strings.Contains(table, "\n  refused    /p:1: one\n             /p:5: two\n") {
		t.Errorf("status says %s", table)
	}
}
