package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"locker/audit"
	"locker/authz"
	"locker/wire"
)

// patience bounds how long a test waits for what must happen; nothing passes by being faster.
const patience = time.Minute

// rig is a broker in this process, serving a real socket, over real files.
type rig struct {
	t       testing.TB
	dir     string // holds files, socket and state
	files   string // the whitelist's only entry
	socket  string
	policy  func() (*authz.Policy, error)
	segment int64 // bytes of a log segment
	alter   func(*audit.Config, *Config)

	b     *Broker
	log   *audit.Log
	stop  context.CancelFunc
	ended chan error
}

// everything lets this process's uid and root do everything below files.
func everything(files string) func() (*authz.Policy, error) {
	return func() (*authz.Policy, error) {
		return authz.Standalone([]string{files}, uint32(os.Geteuid()), map[uint32]string{uint32(os.Geteuid()): "me"})
	}
}

// rules gives a policy of the text, in which FILES stands for the whitelisted directory and UID for this process's uid.
func rules(files, text string) func() (*authz.Policy, error) {
	text = strings.NewReplacer("FILES", files, "UID", fmt.Sprint(os.Geteuid())).Replace(text)
	return func() (*authz.Policy, error) { return authz.Parse("test.toml", []byte(text), authz.SystemUsers()) }
}

// newRig starts a broker. change, if not nil, may alter the rig before it starts.
func newRig(t testing.TB, change func(*rig)) *rig {
	t.Helper()
	dir := t.TempDir()
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, files: files, socket: filepath.Join(dir, "s"), policy: everything(files), segment: 1 << 20}
	if change != nil {
		change(r)
	}
	r.start()
	t.Cleanup(func() { r.halt() })
	return r
}

func (r *rig) start() {
	r.t.Helper()
	policy, err := r.policy()
	if err != nil {
		r.t.Fatal(err)
	}
	logs := audit.Config{Dir: filepath.Join(r.dir, "audit"), SegmentSize: r.segment, GID: -1}
	// How long a frame may take, or a slot, a guard or a keeper, is for those tests alone that ask about it: on a busy machine each can
	// take longer than 2 s. A client that does not read is waited for at the end of many.
	config := Config{
		Policy: policy, Logger: hclog.NewNullLogger(), Version: "test", Reload: r.policy,
		frames: frameTimes{patience, patience, patience}, times: times{open: patience, write: writeDeadline, guard: patience, paused: patience, server: patience},
	}
	if r.alter != nil {
		r.alter(&logs, &config)
	}
	log, err := audit.Open(logs)
	if err != nil {
		r.t.Fatal(err)
	}
	config.Log = log
	ctx, cancel := context.WithCancel(context.Background())
	b, err := New(ctx, config)
	if err != nil {
		cancel()
		r.t.Fatal(errors.Join(err, log.Close()))
	}
	os.Remove(r.socket)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.socket, Net: "unix"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.b, r.log, r.stop, r.ended = b, log, cancel, make(chan error, 1)
	go func() { r.ended <- b.Serve(ctx, l) }()
}

// halt stops the broker and checks that it left nothing behind.
func (r *rig) halt() {
	r.t.Helper()
	if r.stop == nil {
		return
	}
	r.stop()
	r.stop = nil
	select {
	case err := <-r.ended:
		if err != nil {
			r.t.Errorf("serve: %v", err)
		}
	case <-time.After(patience):
		r.t.Fatal("the broker does not stop")
	}
	r.b.mu.Lock()
	if n := len(r.b.sessions) + len(r.b.accounts) + r.b.connections; n != 0 {
		r.t.Errorf("%d sessions, accounts and connections left after the stop", n)
	}
	for _, h := range r.b.table.allHolds() {
		if h.owner.session != 0 {
			r.t.Errorf("attached hold %d of %s left after the stop", h.id, h.info.path)
		}
		h.info.file.Unlock()
		h.info.file.Close()
	}
	r.b.mu.Unlock()
	if err := r.log.Close(); err != nil {
		r.t.Errorf("close log: %v", err)
	}
	if report, err := audit.Verify(filepath.Join(r.dir, "audit")); err != nil || len(report.Problems) > 0 {
		r.t.Errorf("verify: %v %+v", err, report.Problems)
	}
}

// file makes a file in the whitelist.
func (r *rig) file(name string) string {
	r.t.Helper()
	path := filepath.Join(r.files, name)
	if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// checkReplay holds the log against the table.
func (r *rig) checkReplay() {
	r.t.Helper()
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	var table, log []string
	for _, h := range r.b.table.allHolds() {
		table = append(table, fmt.Sprintf("%d %d:%d %s %d %d %q %q %v", h.id, h.key.dev, h.key.ino, wireMode(h.mode), h.uid, h.owner.session, h.owner.tag, h.info.path, h.ending))
	}
	state := r.log.State()
	live := state.Holds()
	for _, l := range state.Lost() { // of an attached hold: until its session knows, it is in the table, too
		if l.Ending = true; l.Grant.Life == wire.Attached.String() {
			live = append(live, l)
		}
	}
	slices.SortFunc(live, func(x, y audit.Hold) int { return cmp.Compare(x.Grant.Seq, y.Grant.Seq) })
	for _, h := range live {
		g := h.Grant
		if g.Life == wire.Detached.String() {
			g.Session = 0 // who asked, not who owns
		}
		log = append(log, fmt.Sprintf("%d %d:%d %s %d %d %q %q %v", g.Seq, g.Dev, g.Ino, g.Mode, g.UID, g.Session, g.Tag, g.Path, h.Ending))
	}
	if !slices.Equal(table, log) {
		r.t.Fatalf("the log and the table disagree\ntable %q\nlog   %q", table, log)
	}
}

// peer is a client that speaks frames.
type peer struct {
	t       testing.TB
	conn    *net.UnixConn
	next    uint32
	kept    []kept // read while looking for something else
	session uint64
	buf     []byte
}

type kept struct {
	id uint32
	m  wire.Message
}

func (r *rig) dial() *peer {
	r.t.Helper()
	p := r.dialMute()
	id := p.send(&wire.Hello{Min: 1, Max: 1})
	w, ok := p.answer(id).(*wire.Welcome)
	if !ok {
		r.t.Fatal("no Welcome")
	}
	p.session = w.Session
	return p
}

func (r *rig) dialMute() *peer {
	r.t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: r.socket, Net: "unix"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return &peer{t: r.t, conn: conn}
}

func (p *peer) send(m wire.Message) uint32 {
	p.t.Helper()
	p.next++
	frame, err := wire.Append(nil, p.next, m)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.conn.Write(frame); err != nil {
		p.t.Fatal(err)
	}
	return p.next
}

// read gives the next frame, or io.EOF.
func (p *peer) read() (uint32, wire.Message, error) {
	p.conn.SetReadDeadline(time.Now().Add(patience))
	body, err := wire.ReadFrame(p.conn, p.buf)
	if err != nil {
		return 0, nil, err
	}
	return wire.Parse(body)
}

// until gives the first message that ok accepts, and keeps the others.
func (p *peer) until(ok func(id uint32, m wire.Message) bool) wire.Message {
	p.t.Helper()
	for i, k := range p.kept {
		if ok(k.id, k.m) {
			p.kept = slices.Delete(p.kept, i, i+1)
			return k.m
		}
	}
	for {
		id, m, err := p.read()
		if err != nil {
			p.t.Fatalf("read: %v", err)
		}
		if ok(id, m) {
			return m
		}
		p.kept = append(p.kept, kept{id, m})
	}
}

// answer gives the final answer to a request.
func (p *peer) answer(id uint32) wire.Message {
	p.t.Helper()
	return p.until(func(got uint32, m wire.Message) bool {
		_, queued := m.(*wire.Queued)
		return got == id && !queued
	})
}

// queued waits until a request is told that it waits.
func (p *peer) queued(id uint32) *wire.Queued {
	p.t.Helper()
	return p.until(func(got uint32, m wire.Message) bool { _, ok := m.(*wire.Queued); return ok && got == id }).(*wire.Queued)
}

// lost waits for a Lost event.
func (p *peer) lost() *wire.Lost {
	p.t.Helper()
	return p.until(func(id uint32, m wire.Message) bool { _, ok := m.(*wire.Lost); return ok && id == 0 }).(*wire.Lost)
}

// granted sends a Lock and gives the grants, or fails.
func (p *peer) granted(m *wire.Lock) []wire.Grant {
	p.t.Helper()
	return grants(p.t, p.answer(p.send(m)))
}

func grants(t testing.TB, m wire.Message) []wire.Grant {
	t.Helper()
	g, ok := m.(*wire.Granted)
	if !ok {
		t.Fatalf("got %T %+v, want Granted", m, m)
	}
	return g.Grants
}

// refused sends a request and gives its error, or fails.
func (p *peer) refused(m wire.Message) *wire.Error {
	p.t.Helper()
	return asError(p.t, p.answer(p.send(m)))
}

func asError(t testing.TB, m wire.Message) *wire.Error {
	t.Helper()
	e, ok := m.(*wire.Error)
	if !ok {
		t.Fatalf("got %T %+v, want Error", m, m)
	}
	return e
}

// gone waits for the server to close the connection, and gives what it said before.
func (p *peer) gone() (last wire.Message) {
	p.t.Helper()
	for {
		_, m, err := p.read()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isReset(err) {
			return last
		}
		if err != nil {
			p.t.Fatalf("read: %v", err)
		}
		last = m
	}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}

// Shorthands for requests.

func attached(paths ...string) *wire.Lock {
	return &wire.Lock{Mode: wire.Exclusive, Wait: wire.Block, Life: wire.Attached, Paths: paths}
}

func detached(paths ...string) *wire.Lock {
	return &wire.Lock{Mode: wire.Exclusive, Wait: wire.Block, Life: wire.Detached, Paths: paths}
}

func try(m *wire.Lock) *wire.Lock    { m.Wait = wire.NonBlock; return m }
func reader(m *wire.Lock) *wire.Lock { m.Mode = wire.Shared; return m }
func idly(m *wire.Lock) *wire.Lock   { m.Mode = wire.Idle; return m }
func timed(m *wire.Lock, d time.Duration) *wire.Lock {
	m.Wait, m.Timeout = wire.Timed, d
	return m
}

// eventually polls until ok, or fails.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-tick.C
	}
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
