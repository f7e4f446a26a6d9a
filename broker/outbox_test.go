package broker

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"locker/audit"
	"locker/wire"
)

// longNames makes n files whose paths are nearly as long as a path may be, so that a list of them is large.
func (r *rig) longNames(n int) []string {
	r.t.Helper()
	dir := r.files
	for len(dir) < 3500 {
		dir = filepath.Join(dir, strings.Repeat("d", 200))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	paths := make([]string, n)
	for i := range paths {
		paths[i] = filepath.Join(dir, fmt.Sprint("f", i))
		if err := os.WriteFile(paths[i], nil, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	return paths
}

// bigList makes the rig's list some 700 KB long, several times what a socket takes, and gives the holder's connection.
func (r *rig) bigList() *peer {
	r.t.Helper()
	p := r.dial()
	paths := r.longNames(200)
	for ; len(paths) > 0; paths = paths[10:] {
		p.granted(detached(paths[:10]...))
	}
	return p
}

// outboxOf gives the broker's end of p.
func (r *rig) outboxOf(p *peer) *outbox {
	r.t.Helper()
	want := p.session
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	s := r.b.sessions[want]
	if s == nil {
		r.t.Fatalf("no session %d", want)
	}
	return &s.out
}

func (o *outbox) isWriting() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.writer != nil
}

// rowsOf reads the whole answer to a List.
func (p *peer) rowsOf(id uint32) []wire.Row {
	p.t.Helper()
	var rows []wire.Row
	for {
		m := p.answer(id)
		part, ok := m.(*wire.Rows)
		if !ok {
			p.t.Fatalf("got %T %+v, want Rows", m, m)
		}
		if rows = append(rows, part.Rows...); !part.More {
			return rows
		}
	}
}

func TestAClientThatReadsLateGetsItsWholeListAndIsServedAfterwards(t *testing.T) {
	t.Parallel()
	const late = 5 * time.Second
	r := newRig(t, func(r *rig) {
		r.alter = func(_ *audit.Config, c *Config) { c.times.write = late }
	})
	r.bigList()
	p := r.dial()
	id := p.send(&wire.List{})
	o := r.outboxOf(p)
	eventually(t, "the socket is full", o.isWriting)
	if n := len(p.rowsOf(id)); n != 200 {
		t.Errorf("%d rows", n)
	}
	eventually(t, "all is written", func() bool { return !o.isWriting() })
	<-time.After(late + late/10) // the deadline of the last late write is over
	if m := p.answer(p.send(&wire.Status{})); m.Type() != wire.TypeStatusReply {
		t.Errorf("%+v", m)
	}
}

// socketPair gives an outbox that writes to a client of the test's.
func socketPair(t *testing.T, unsent *atomic.Int64, limit int64) (o *outbox, client *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	must(t, err)
	defer l.Close()
	client, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	must(t, err)
	t.Cleanup(func() { client.Close() })
	conn, err := l.AcceptUnix()
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	o = &outbox{}
	must(t, o.init(conn, unsent, func() int64 { return limit }, patience))
	return o, client
}

func (o *outbox) isBroken() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.broken
}

func TestAnOutboxKeepsWhatOneClientMayLeaveUnreadAndWhatOneUserMay(t *testing.T) {
	frame := make([]byte, 1000)
	fill := func(o *outbox) (most int) {
		for !o.isBroken() {
			o.send(frame)
			most = max(most, o.waiting())
		}
		return most
	}
	var unsent atomic.Int64
	first, _ := socketPair(t, &unsent, 1<<20)
	if most := fill(first); most > maxUnsent || most < maxUnsent-len(frame) {
		t.Errorf("%d bytes were kept for one client, %d may be", most, maxUnsent)
	}
	first.flush(t.Context())
	if n := unsent.Load(); n != 0 {
		t.Fatalf("%d bytes are still counted", n)
	}
	const limit = 100 << 10
	second, _ := socketPair(t, &unsent, limit)
	third, _ := socketPair(t, &unsent, limit)
	for second.waiting() < 60<<10 {
		second.send(frame)
	}
	if most := fill(third); most > limit-60<<10 || most < limit-62<<10 {
		t.Errorf("%d bytes were kept for a client whose user has 60 KiB elsewhere, of %d", most, limit)
	}
	if second.isBroken() {
		t.Error("the other connection has paid for it")
	}
}

// What others send to a connection must not end it, or the broker, while its own goroutine waits for the client to read.
func TestEventsComeThroughBetweenTheFramesOfAnAnswer(t *testing.T) {
	var unsent atomic.Int64
	o, client := socketPair(t, &unsent, 1<<20)
	const rounds, events = 3000, 20
	frame := make([]byte, wire.MaxFrame+4) // the largest there is
	event := []byte("an event")
	round := make(chan struct{}) // an answer's frame is on its way: 20 events may follow
	var wg sync.WaitGroup
	wg.Go(func() {
		for range round {
			for range events {
				o.send(event)
			}
		}
	})
	wg.Go(func() {
		defer close(round)
		for range rounds {
			o.sendInTurn(frame)
			round <- struct{}{}
		}
	})
	got, want := 0, rounds*(len(frame)+events*len(event))
	buf := make([]byte, 1<<20)
	for got < want {
		client.SetReadDeadline(time.Now().Add(patience))
		n, err := client.Read(buf)
		if got += n; err != nil {
			t.Fatalf("%d of %d bytes, then %v", got, want, err)
		}
	}
	wg.Wait()
	o.flush(t.Context())
	if n := unsent.Load(); n != 0 {
		t.Errorf("%d bytes are still counted as unsent", n)
	}
}
