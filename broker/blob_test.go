package broker

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"locker/keeper"
	"locker/wire"
)

// blobs are one of each kind, and the extremes.
func blobs() []*blob {
	base := blob{
		kind: keptHold, mode: exclusive, life: wire.Attached, flags: flagResumes, boot: [16]byte{1, 15: 2}, session: 1<<53 - 1, request: 7,
		pid: 4312, start: 99, uid: 1000, gid: 1001, dev: 1 << 40, ino: 1<<64 - 1, began: time.Hour, path: "/srv/tm/a.sparsebundle",
	}
	detached, wait, long, last, bytes := base, base, base, base, base
	detached.life, detached.tag, detached.due, detached.mode = wire.Detached, "nightly", 2*time.Hour, shared
	wait.kind, wait.round, wait.arrival = keptWait, 1<<63, 1<<62
	long.path = "/" + strings.Repeat("x", 4094)
	last.life, last.tag = wire.Detached, strings.Repeat("t", wire.MaxTag)
	last.path = "/" + strings.Repeat("y", maxBlob-blobHead-wire.MaxTag-1)
	bytes.flags, bytes.grace, bytes.path = flagResumes|flagEnding|flagBundle|flagIdle, wire.MaxGrace, "/\xff\n\x00\u202e"
	old := detached // of an earlier boot, claimed again
	old.session, old.request, old.began = 0, 0, -24*time.Hour
	return []*blob{&base, &detached, &wait, &long, &last, &bytes, &old}
}

func TestABlobIsReadAsItWasWrittenAndFitsTheKeeper(t *testing.T) {
	if maxBlob != keeper.MaxBlob {
		t.Errorf("a blob may have %d bytes, and the keeper takes %d", maxBlob, keeper.MaxBlob)
	}
	for _, want := range blobs() {
		data := want.append(nil)
		if len(data) > maxBlob {
			t.Errorf("%d bytes", len(data))
		}
		got, err := parseBlob(data)
		if err != nil {
			t.Fatalf("%+v: %v", want, err)
		}
		if len(want.path) > maxBlob { // then the path is the log's, or the kernel's, to say
			want.path, want.flags = "", want.flags|flagPathLeft
		}
		if *got != *want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func TestABlobOfAnotherVersionIsNotGuessedAt(t *testing.T) {
	data := blobs()[0].append(nil)
	for name, change := range map[string]func(b []byte) []byte{
		"version 2":      func(b []byte) []byte { b[0] = 2; return b },
		"no kind":        func(b []byte) []byte { b[1] &= 15; return b },
		"mode 3":         func(b []byte) []byte { b[1] |= 3; return b },
		"life 0":         func(b []byte) []byte { b[2] = 0; return b },
		"a flag unknown": func(b []byte) []byte { b[3] |= 128; return b },
		"no session":     func(b []byte) []byte { clear(b[20:28]); return b },
		"a byte more":    func(b []byte) []byte { return append(b, 0) },
		"a byte less":    func(b []byte) []byte { return b[:len(b)-1] },
		"nothing":        func(b []byte) []byte { return nil },
		"its head alone": func(b []byte) []byte { return b[:blobHead-1] },
		"a tag attached": func(b []byte) []byte { b[blobHead-3] = 1; return append(b, 0) },
	} {
		if k, err := parseBlob(change(bytes.Clone(data))); err == nil {
			t.Errorf("%s: read as %+v", name, k)
		}
	}
}

func FuzzBlob(f *testing.F) {
	for _, k := range blobs() {
		f.Add(k.append(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := parseBlob(data)
		if err != nil {
			return
		}
		if again := k.append(nil); !bytes.Equal(again, data) {
			t.Errorf("%x is written again as %x", data, again)
		}
	})
}
