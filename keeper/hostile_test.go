package keeper

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sendRaw sends bytes and so many copies of a descriptor.
func sendRaw(t testing.TB, conn *net.UnixConn, b []byte, fds ...int) error {
	t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err := conn.WriteMsgUnix(b, oob, nil)
	return err
}

// What no broker sends: the keeper warns, ends the connection, closes what came with it, and keeps what it has.
func TestWhatIsWrongEndsTheConnection(t *testing.T) {
	put := func(set uint8, blob string) []byte {
		return appendMessage(nil, &message{kind: kindPut, set: set, id: 9, blob: []byte(blob)})
	}
	flipped := put(3, "abc")
	flipped[7] ^= 1
	for _, wrong := range []struct {
		name  string
		bytes []byte
		fds   int
		warns string
	}{
		{"no bytes", nil, 0, "truncated"},
		{"no bytes and descriptors", nil, 2, "truncated"},
		{"one byte", []byte{1}, 2, "truncated"},
		{"too long", append(put(3, strings.Repeat("x", MaxBlob)), 0), 2, "after the last field"},
		{"64 KiB", make([]byte, 64<<10), 2, "after the last field"},
		{"wrong sum", flipped, 2, "checksum"},
		{"unknown kind", withSum([]byte{1, 9, 0, 0}), 1, "kind"},
		{"version 2", withSum([]byte{2, 4, 0, 0}), 1, "version"},
		{"a descriptor too few", put(3, "abc"), 1, "another number"},
		{"none of two", put(3, "abc"), 0, "another number"},
		{"one too many", put(1, "abc"), 2, "another number"},
		{"one with a drop", appendMessage(nil, &message{kind: kindDrop, id: 1}), 1, "another number"},
		{"one with a list", appendMessage(nil, &message{kind: kindList}), 1, "another number"},
		{"three", put(3, "abc"), 3, "too many descriptors"},
		{"253", put(3, "abc"), 253, "too many descriptors"},
		{"253 and no message", nil, 253, "too many descriptors"},
		{"a keeper's message", appendMessage(nil, &message{kind: kindEntry, set: 3, id: 9}), 2, "keepers"},
		{"the end of a list", appendMessage(nil, &message{kind: kindEnd}), 0, "keepers"},
		{"synced", appendMessage(nil, &message{kind: kindSynced, number: 1}), 0, "keepers"},
	} {
		leaksNothing(t, wrong.name, func(t *testing.T) {
			r := newRig(t).serve()
			c := r.dial()
			fd := file(t, 5)
			must(t, c.Put(Entry{ID: 1, Lock: fd, Holder: fd, Blob: []byte("stays")}))
			must(t, c.Sync(t.Context()))
			must(t, c.Close())
			conn := r.stranger()
			must(t, sendRaw(t, conn, wrong.bytes, slices.Repeat([]int{fd}, wrong.fds)...))
			if err := endsAtOnce(conn); err != nil {
				t.Error(err)
			}
			must(t, conn.Close())
			past := wantList(t, r.dial(), "1 5 5 stays")
			if past.Complete {
				t.Error("it may have lost an entry, and says that it has all")
			}
			if w := r.warned(); !strings.Contains(w, wrong.warns) || strings.Contains(w, "\n") {
				t.Errorf("warned %q, want something about %q", w, wrong.warns)
			}
			r.stop()
		})
	}
}

// The broker may have died by now, and locks may be behind the wrong message.
func TestWhatComesAfterAWrongMessageIsKept(t *testing.T) {
	r := newRig(t)
	conn := r.stranger()
	fd := file(t, 5)
	for _, b := range [][]byte{
		appendMessage(nil, &message{kind: kindPut, set: 1, id: 1}),
		{},
		appendMessage(nil, &message{kind: kindPut, set: 1, id: 2}),
		{1, 2, 3},
		appendMessage(nil, &message{kind: kindPut, set: 1, id: 3}),
		appendMessage(nil, &message{kind: kindPut, set: 1, id: 4}),
	} {
		var fds []int
		if len(b) > 8 {
			fds = []int{fd}
		}
		must(t, sendRaw(t, conn, b, fds...))
	}
	must(t, sendRaw(t, conn, appendMessage(nil, &message{kind: kindDrop, id: 4})))
	must(t, sendRaw(t, conn, appendMessage(nil, &message{kind: kindSync, number: 1})))
	r.serve()
	if err := endsAtOnce(conn); err != nil { // and no Synced
		t.Error(err)
	}
	if past := wantList(t, r.dial(), "1 5 -1 ", "2 5 -1 ", "3 5 -1 "); past.Complete {
		t.Error("it says that it has all")
	}
	if w := r.warned(); strings.Count(w, "\n") != 0 {
		t.Errorf("warned more than once:\n%s", w)
	}
}

// A copy of a broker's own end would keep its connection from ever ending.
func TestSocketsAreNotKept(t *testing.T) {
	r := newRig(t).serve()
	conn := r.stranger()
	f, err := conn.File()
	must(t, err)
	must(t, sendRaw(t, conn, appendMessage(nil, &message{kind: kindPut, set: withHolder, id: 1}), int(f.Fd())))
	f.Close()
	if err := endsAtOnce(conn); err != nil {
		t.Error(err)
	}
	must(t, conn.Close())
	wantList(t, r.dial())
	if w := r.warned(); !strings.Contains(w, "socket") {
		t.Errorf("warned %q", w)
	}
}

func TestABrokerThatDoesNotReadHoldsTheKeeperUpNotForEver(t *testing.T) {
	leaksNothing(t, "unread", func(t *testing.T) {
		warned := ""
		s := &Server{kept: newEntries(), patience: 20 * time.Millisecond, Warn: func(msg string, kv ...any) { warned += fmt.Sprintln(kv...) }}
		fd := file(t, 5)
		for id := range 1000 { // more than a queue takes
			own, err := unix.Dup(fd)
			must(t, err)
			s.put(Entry{ID: uint64(id), Lock: own, Holder: -1, Blob: bytes.Repeat([]byte("x"), MaxBlob)})
		}
		broker, end := ends(t)
		must(t, sendRaw(t, broker, appendMessage(nil, &message{kind: kindList})))
		must(t, sendRaw(t, broker, appendMessage(nil, &message{kind: kindPut, set: 1, id: 5000}), fd))
		// It reads nothing, and stays. The keeper comes to an end with it, and what it had sent is kept.
		if err := s.serve(t.Context(), end); err == nil || !strings.Contains(warned, "does not read") {
			t.Errorf("serve: %v, warned %q", err, warned)
		}
		must(t, broker.Close())
		if s.kept.len() != 1001 {
			t.Errorf("%d entries are kept, want 1001", s.kept.len())
		}
		s.close()
	})
}

func dialRaw(t testing.TB, path string) *net.UnixConn {
	return (&rig{t: t, path: path}).stranger()
}

func TestAKeeperAtItsEndClosesEverything(t *testing.T) {
	r := newRig(t).serve()
	read, write, err := os.Pipe()
	must(t, err)
	defer read.Close()
	c := r.dial()
	must(t, c.Put(Entry{ID: 1, Lock: int(write.Fd()), Holder: int(write.Fd())}))
	write.Close()
	must(t, c.Sync(t.Context()))
	r.stop()
	if n, _ := read.Read(make([]byte, 1)); n != 0 {
		t.Error("something came through the pipe")
	}
	<-c.Gone()
}
