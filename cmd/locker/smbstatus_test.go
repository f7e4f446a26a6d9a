package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"locker/client"
	"locker/wire"
)

// What Samba 4.17 says.
const smbstatusSays = `{"timestamp": "2026-11-27T22:26:56.521081+0000", "version": "4.17.12-Debian", "smb_conf": "/etc/samba/smb.conf", "sessions": {
"1": {"session_id": "1", "server_id": {"pid": "811", "task_id": "0"}, "uid": 1001, "username": "bob", "remote_machine": "192.0.2.8"},
"2": {"session_id": "2", "server_id": {"pid": "812", "task_id": "0"}, "uid": 1000, "username": "alice", "remote_machine": "macbook"}}}`

// withSmbstatus is an asker whose smbstatus is that shell script.
func withSmbstatus(t *testing.T, script string) *sambaAsker {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "says"), []byte(smbstatusSays), 0o644); err != nil {
		t.Fatal(err)
	}
	if script != "" {
		if err := os.WriteFile(filepath.Join(dir, "smbstatus"), []byte("#!/bin/sh\ncd "+dir+"\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &sambaAsker{programs: programs{dirs: []string{dir}}}
}

// heardOf asks that smbstatus, anew as long as it is to say something and has not in the time that it has: on a busy machine nothing may.
func heardOf(t *testing.T, script string, blockers []client.Blocker, says bool) (a *sambaAsker, heard string) {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		a = withSmbstatus(t, script)
		a.ask(t.Context(), blockers)
		heard = a.about(blockers[0].PID, patience)
		if heard != "" || !says || time.Now().After(end) {
			return a, heard
		}
	}
}

func smbdBlocks(pid int32) []client.Blocker {
	return []client.Blocker{{Kind: wire.Outside, PID: pid, Command: "smbd", User: "alice", Path: "/a", Reason: "has it open for 192.0.2.7"}}
}

func TestWhomAnSmbdWorksForIsAskedOfSambaAndAddedOnceItIsKnown(t *testing.T) {
	for _, c := range []struct {
		name, script string
		blockers     []client.Blocker
		want         string
	}{
		{"known", `[ "$*" = "--json --processes" ] && cat says`, smbdBlocks(812), "alice on macbook"},
		{"newer title", "cat says", []client.Blocker{{Kind: wire.Outside, PID: 812, Command: "smbd[192.0.2.7]"}}, "alice on macbook"},
		{"another pid", "cat says", smbdBlocks(813), ""},
		{"not for us", "cat says; echo 'smbstatus only works as root!' >&2; exit 1", smbdBlocks(812), ""},
		{"no JSON", "echo Samba version 4.9", smbdBlocks(812), ""},
		{"not installed", "", smbdBlocks(812), ""},
		{"no end of it", "exec cat /dev/zero", smbdBlocks(812), ""},
		{"no smbd", "cat says", []client.Blocker{{Kind: wire.Outside, PID: 812, Command: "afpd"}}, ""},
		{"a holder of locker's that is called so", "cat says", []client.Blocker{{Kind: wire.Holder, PID: 812, Command: "smbd"}}, ""},
		{"hidden", "cat says", []client.Blocker{{Kind: wire.Outside, Hidden: true}}, ""},
	} {
		a, got := heardOf(t, c.script, c.blockers, c.want != "")
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		q := client.Queue{Position: 1, Blockers: c.blockers}
		want := c.blockers[0].Reason
		if c.want != "" {
			if want != "" {
				want += ", "
			}
			want += c.want
		}
		if got := a.named(q).Blockers[0].Reason; got != want {
			t.Errorf("%s: reason %q, want %q", c.name, got, want)
		}
	}
}

func TestNothingWaitsForAnSmbstatusThatDoesNotEnd(t *testing.T) {
	// Who waits, waits each time; who does not may be kept from going on by others.
	eventually(t, "an answer before the time of smbstatus is over", func() bool {
		a := withSmbstatus(t, "echo > started; exec sleep 1000")
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		a.ask(ctx, smbdBlocks(812))
		if got := a.named(client.Queue{Blockers: smbdBlocks(812)}).Blockers[0].Reason; got != "has it open for 192.0.2.7" {
			t.Errorf("%q", got)
		}
		took := time.Since(began)
		cancel()
		<-a.done // and it ends with its context
		return took < sambaPatience
	})
}

func TestARefusalSaysWhomTheSmbdWorksForIfThatIsKnown(t *testing.T) {
	var said bytes.Buffer
	c := cli{say: speaker{&said}, conflict: -1}
	a, _ := heardOf(t, "cat says", smbdBlocks(812), true)
	c.samba.pid, c.samba.heard, c.samba.done = a.pid, a.heard, a.done
	c.finish(&client.Error{Code: client.CodeTimeout, Path: "/a", Text: "still in use", Blockers: smbdBlocks(812)})
	want := "locker: /a: still in use\nlocker: /a is held by smbd (pid 812, user alice) outside locker: has it open for 192.0.2.7\nlocker: smbd (pid 812) works for alice on macbook\n"
	if said.String() != want {
		t.Errorf("said %q, want %q", said.String(), want)
	}
}

func TestABundleThatIsNotQuietIsCalledSo(t *testing.T) {
	b := client.Blocker{Kind: wire.Outside, Path: "/a", Reason: "written 12 s ago; the rule asks for 30 s of quiet"}
	want := "/a is not quiet: written 12 s ago; the rule asks for 30 s of quiet"
	if got := sayBlockers(&client.Error{Path: "/a", Blockers: []client.Blocker{b}}); len(got) != 1 || got[0] != want {
		t.Errorf("%q, want %q", got, want)
	}
	want = "locker: waiting, we are next: " + want
	if got := waitingWords([]string{"/a"}, client.Queue{Position: 1, Blockers: []client.Blocker{b}}, time.Now(), 120); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
