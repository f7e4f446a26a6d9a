package main

import (
	"strings"
	"testing"
	"time"

	"locker/audit"
	"locker/client"
	"locker/wire"
)

func TestWhatHasBecomeOfHeldFilesIsWordedAndNeverRaw(t *testing.T) {
	at := time.Date(2026, 11, 27, 10, 15, 2, 0, time.Local)
	row := func(a wire.Alteration) string {
		a.At = at
		return listNote(client.Row{Row: wire.Row{Kind: wire.RowHolder, ID: 1, Reason: "restic"}, Altered: a}, at.Add(time.Minute))
	}
	warn := func(a client.Alteration) string { a.Path = "/srv/mac"; return alteredWarning(a) }
	for _, c := range [][2]string{
		{row(wire.Alteration{}), "restic"},
		{row(wire.Alteration{Count: 3, Last: "bands/1f"}), "[changed: 3 deleted, renamed or replaced, the last bands/1f 10:15:02] restic"},
		{row(wire.Alteration{Count: 1}), "[changed: itself deleted, renamed or replaced 10:15:02] restic"},
		{row(wire.Alteration{Count: 4096, Last: "bands/\x1b[2J", Missed: true}), `[changed: 4096 or more deleted, renamed or replaced, the last "bands/\x1b[2J" 10:15:02] restic`},
		{row(wire.Alteration{Missed: true}), "[changed: some perhaps deleted, renamed or replaced: too much has happened at once 10:15:02] restic"},
		{row(wire.Alteration{Unwatched: true}), "[not watched for deleted and renamed files] restic"},
		{row(wire.Alteration{Lapsed: true}), "[not guarded all the time] restic"},
		{lapsedWarning(client.Alteration{Path: "/srv/\x1b", Lapsed: true}), `"/srv/\x1b": not guarded all the time since you got it: a file server may have opened files in it, and may have them open; if that matters, repeat what you did`},
		{warn(client.Alteration{Count: 1, Last: "bands/1f"}), "/srv/mac: bands/1f was deleted, renamed or replaced while you hold it"},
		{warn(client.Alteration{Count: 1}), "/srv/mac was deleted, renamed or replaced while you hold it"},
		{warn(client.Alteration{Count: 7, Last: "bands/\xff"}), `/srv/mac: 7 deleted, renamed or replaced, the last "bands/\xff", while you hold it`},
		{warn(client.Alteration{Count: 2}), "/srv/mac: 2 deleted, renamed or replaced, the last itself, while you hold it"},
	} {
		if c[0] != c[1] {
			t.Errorf("got  %s\nwant %s", c[0], c[1])
		}
	}
	rec := audit.Record{Seq: 9, Event: audit.EventAltered, ID: 4, Path: "/srv/mac", Count: 3, Text: "bands/\n", Time: at}
	if line := recordLine(&rec); !strings.HasSuffix(line, ` 9 altered /srv/mac id=4 altered="3 deleted, renamed or replaced, the last \"bands/\\n\", while it was held"`) || rec.Count != 3 {
		t.Errorf("the record: %s", line)
	}
	r := client.Row{Row: wire.Row{Kind: wire.RowHolder, ID: 1, Path: "/srv/mac", Mode: wire.Exclusive, Life: wire.Attached}, Altered: wire.Alteration{Count: 3, Last: "bands/1f", At: at}}
	want := `"altered":{"count":3,"last":"bands/1f","at":"` + at.UTC().Format(time.RFC3339Nano) + `","missed":false,"unwatched":false,"lapsed":false}`
	if text := string(listObject(gather([]client.Row{r})).b); !strings.Contains(text, want) {
		t.Errorf("json %s", text)
	}
}

// What comes is the sum each time.
func TestOnlyWhatIsNewOfAnAlterationIsSaid(t *testing.T) {
	var said strings.Builder
	j := &job{c: &cli{say: speaker{&said}}}
	a := client.Alteration{Token: 7, Path: "/srv/mac", Lapsed: true}
	j.warnAltered(a)
	a.Count, a.Last = 1, "bands/1f"
	j.warnAltered(a)
	j.warnAltered(a)
	j.warnAltered(client.Alteration{Token: 8, Path: "/srv/other", Lapsed: true})
	want := []string{"/srv/mac: not guarded", "/srv/mac: bands/1f was deleted", "/srv/other: not guarded"}
	lines := strings.Split(strings.TrimSuffix(said.String(), "\n"), "\n")
	for i := range max(len(lines), len(want)) {
		if len(lines) != len(want) || !strings.HasPrefix(lines[i], "locker: warning: "+want[i]) {
			t.Fatalf("said %q", lines)
		}
	}
}
