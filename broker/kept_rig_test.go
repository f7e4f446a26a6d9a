package broker

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"locker/audit"
	"locker/keeper"
	"locker/wire"
)

// shelf is a keeper in this process, on a real socket.
type shelf struct {
	r      *rig
	path   string
	stop   context.CancelFunc
	ended  chan error
	server *keeper.Server
	conn   *keeper.Conn // the broker's, as of its last start
	boot   string
	tweak  func(*Config)
}

const testBoot = "0123456789abcdef0123456789abcdef"

// withKeeper gives a rig with a keeper.
func withKeeper(t testing.TB, change func(*rig)) (*rig, *shelf) {
	t.Helper()
	s := &shelf{boot: testBoot}
	r := newRig(t, func(r *rig) {
		s.r, s.path = r, filepath.Join(r.dir, "keeper", "s")
		if err := os.Mkdir(filepath.Dir(s.path), 0o700); err != nil {
			t.Fatal(err)
		}
		s.start()
		if change != nil {
			change(r)
		}
		before := r.alter
		r.alter = func(l *audit.Config, c *Config) {
			if before != nil {
				before(l, c)
			}
			s.connect(l, c)
		}
	})
	t.Cleanup(func() { r.halt(); s.end() })
	return r, s
}

func (s *shelf) start() {
	s.r.t.Helper()
	l, err := keeper.Listen(s.path)
	if err != nil {
		s.r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.ended, s.server = cancel, make(chan error, 1), new(keeper.Server)
	go func(ended chan error, k *keeper.Server) { ended <- k.Serve(ctx, l) }(s.ended, s.server)
}

// end ends the keeper as its death would: its copies are closed.
func (s *shelf) end() {
	s.r.t.Helper()
	if s.stop == nil {
		return
	}
	s.stop()
	s.stop = nil
	if err := <-s.ended; err != nil {
		s.r.t.Errorf("keeper: %v", err)
	}
}

// connect does what lockerd does before it makes a broker.
func (s *shelf) connect(l *audit.Config, c *Config) {
	s.r.t.Helper()
	ctx := context.Background()
	conn, err := keeper.Dial(ctx, s.path)
	if err != nil {
		s.r.t.Fatal(err)
	}
	if c.Listed, c.Past, err = conn.List(ctx); err != nil {
		s.r.t.Fatal(err)
	}
	c.Keeper, s.conn = conn, conn
	c.Redial = func(ctx context.Context) (*keeper.Conn, error) { return keeper.Dial(ctx, s.path) }
	l.Floor, l.BootID, c.BootID = c.Past.Highest, s.boot, s.boot
	if s.tweak != nil {
		s.tweak(c)
	}
}

// leave stops the broker as a restart of its service does, and lets go of its descriptors as its end would.
func (s *shelf) leave() {
	r := s.r
	r.t.Helper()
	r.b.HandOver()
	r.stop()
	r.stop = nil
	if err := <-r.ended; err != nil {
		r.t.Errorf("serve: %v", err)
	}
	s.forget(r.b)
	if err := r.log.Close(); err != nil {
		r.t.Errorf("close log: %v", err)
	}
}

// crash is leave without a word: the next run finds the log as it was.
func (s *shelf) crash() {
	r := s.r
	r.t.Helper()
	now := filepath.Join(r.dir, "as-of-the-crash")
	dir := filepath.Join(r.dir, "audit")
	r.records()
	must(r.t, os.CopyFS(now, os.DirFS(dir)))
	s.leave()
	must(r.t, os.RemoveAll(dir))
	must(r.t, os.Rename(now, dir))
}

// forget closes what the process of a broker had open.
func (s *shelf) forget(b *Broker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.table.allHolds() {
		if h.info.untold {
			continue
		}
		h.info.file.Close()
	}
	for _, c := range b.table.allWaiting() {
		c.req.closeFiles()
	}
	for _, away := range b.sessions {
		if away.away {
			b.deaths.remove(away.peer.PidFD)
		}
	}
}

// back starts the next broker.
func (s *shelf) back() {
	s.r.t.Helper()
	s.r.start()
	s.r.checkReplay()
}

// dialAt connects as a client that speaks this version of the protocol.
func (r *rig) dialAt(version uint8) *peer {
	r.t.Helper()
	p := r.dialMute()
	w, ok := p.answer(p.send(&wire.Hello{Min: 1, Max: version})).(*wire.Welcome)
	if !ok || w.Version != version {
		r.t.Fatalf("no Welcome of version %d: %+v", version, w)
	}
	p.session = w.Session
	return p
}

func (r *rig) dial2() *peer { r.t.Helper(); return r.dialAt(2) } // knows how to come back
func (r *rig) dial3() *peer { r.t.Helper(); return r.dialAt(3) } // and how to ask for a file that nobody has open
func (r *rig) dial4() *peer { r.t.Helper(); return r.dialAt(4) } // and how to ask after the guard, and what has become of a file

// again connects anew for p, and gives what the broker says to its session's name.
func (p *peer) again(r *rig) wire.Message { r.t.Helper(); return p.againAt(r, 2) }

func (p *peer) againAt(r *rig, version uint8) wire.Message {
	r.t.Helper()
	session, next := p.session, p.next
	if p.conn != nil {
		p.conn.Close()
	}
	fresh := r.dialAt(version)
	p.conn, p.kept, p.next = fresh.conn, nil, next
	return p.answer(p.send(&wire.Resume{Session: session}))
}

// resumed is again for a session that is still there, and gives the ids that it has.
func (p *peer) resumed(r *rig) []uint64 {
	r.t.Helper()
	m := p.again(r)
	back, ok := m.(*wire.Resumed)
	if !ok {
		r.t.Fatalf("resume: %+v", m)
	}
	return back.IDs
}

// repeat sends a request again with the number that it had.
func (p *peer) repeat(id uint32, m wire.Message) {
	p.t.Helper()
	frame, err := wire.Append(nil, id, m)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.conn.Write(frame); err != nil {
		p.t.Fatal(err)
	}
}

// cut waits until the broker has closed the connection without a word.
func (p *peer) cut() {
	p.t.Helper()
	if _, m, err := p.read(); err == nil {
		p.t.Fatalf("got %+v, want the end of the connection", m)
	} else if err != io.EOF && !isReset(err) {
		p.t.Fatal(err)
	}
}
