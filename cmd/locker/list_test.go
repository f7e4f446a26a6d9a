package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"locker/client"
	"locker/wire"
)

func TestListShowsWhoHoldsAFileOutsideLocker(t *testing.T) {
	now := time.Now()
	waiter := client.Row{Row: wire.Row{Kind: wire.RowWaiter, Dev: 1, Ino: 2, Path: "/a", Mode: wire.Shared, Life: wire.Attached, User: "alice", UID: 1001, PID: 77, Since: now, Position: 1}}
	outside := client.Row{Row: wire.Row{Kind: wire.RowOutside, Dev: 1, Ino: 2, Path: "/a", Mode: wire.Exclusive, Life: wire.Attached, User: "bob", UID: 1002, PID: 2231, Command: "smbd \x1b", Reason: "has it open"}}
	nobody := client.Row{Row: wire.Row{Kind: wire.RowOutside, Dev: 1, Ino: 3, Path: "/b", Mode: wire.Exclusive, Life: wire.Attached}}
	strange := client.Row{Row: wire.Row{Kind: wire.RowOrphan + 1, Dev: 1, Ino: 4, Path: "/c"}}
	orphan := client.Row{Row: wire.Row{Kind: wire.RowOrphan, ID: 9, Dev: 1, Ino: 5, Path: "/d", Mode: wire.Exclusive, Life: wire.Attached, User: "bob", UID: 1002, PID: 5, Since: now}}
	files := gather([]client.Row{waiter, outside, nobody, strange, orphan})
	var got []string
	for _, f := range files {
		for _, r := range f.all() {
			got = append(got, strings.Join(listRow(r, now), " "))
		}
	}
	want := []string{
		`/a outside - bob 2231 "smbd \x1b" - - - - has it open`,
		`/a waits 1 shared alice 77 - ` + clock(now, now) + ` - attached - `,
		`/b outside - - - - - - - - `,
		`/d orphan exclusive bob 5 - ` + clock(now, now) + ` 9 attached - `,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("rows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var list struct {
		Locks []struct {
			Path, Mode string
			Waiters    []struct{ Position int }
			Holders    []struct{ Orphan bool }
			Outside    []struct {
				UID, PID      int
				User, Command string
				Reason        string
			}
		}
	}
	text := listObject(files).b
	if err := json.Unmarshal(text, &list); err != nil || len(list.Locks) != 3 {
		t.Fatalf("%v in %s", err, text)
	}
	a := list.Locks[0]
	if a.Path != "/a" || a.Mode != "shared" || len(a.Waiters) != 1 || len(a.Outside) != 1 {
		t.Fatalf("the first is %+v", a)
	}
	if d := list.Locks[2]; len(d.Holders) != 1 || !d.Holders[0].Orphan {
		t.Errorf("the orphan is %+v", d)
	}
	if o := a.Outside[0]; o.UID != 1002 || o.PID != 2231 || o.User != "bob" || o.Command != "smbd \x1b" || o.Reason != "has it open" {
		t.Errorf("outside is %+v", o)
	}
}

func TestListShowsAHoldWhoseClientHasNotComeBack(t *testing.T) {
	orphan := client.Row{Row: wire.Row{Kind: wire.RowOrphan, ID: 9, Dev: 1, Ino: 2, Path: "/a", Mode: wire.Exclusive, Life: wire.Attached, User: "alice", UID: 1001}}
	files := gather([]client.Row{orphan})
	if len(files) != 1 || len(files[0].holders) != 1 {
		t.Fatalf("gathered %+v", files)
	}
	if row := listRow(orphan, time.Now()); row[1] != "orphan" {
		t.Errorf("row %q", row)
	}
	if text := string(listObject(files).b); !strings.Contains(text, `"token":9,`) || !strings.Contains(text, `"orphan":true`) {
		t.Errorf("json %s", text)
	}
	orphan.Kind = wire.RowHolder
	if text := string(listObject(gather([]client.Row{orphan})).b); !strings.Contains(text, `"orphan":false`) {
		t.Errorf("json %s", text)
	}
}
