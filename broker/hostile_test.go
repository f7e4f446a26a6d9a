package broker

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"locker/wire"
)

// raw makes a frame of anything.
func raw(version, typ byte, request uint32, fields ...byte) []byte {
	f := binary.BigEndian.AppendUint32(nil, uint32(6+len(fields)))
	f = append(f, version, typ)
	f = binary.BigEndian.AppendUint32(f, request)
	return append(f, fields...)
}

func encoded(t testing.TB, request uint32, m wire.Message) []byte {
	t.Helper()
	f, err := wire.Append(nil, request, m)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	p.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

// undisturbed holds that a connection works and has been sent nothing that it did not ask for.
func (p *peer) undisturbed() {
	p.t.Helper()
	if m := p.answer(p.send(&wire.Status{})); m.Type() != wire.TypeStatusReply {
		p.t.Fatalf("a bystander was told %+v", m)
	}
	if len(p.kept) > 0 {
		p.t.Fatalf("a bystander was sent %+v", p.kept)
	}
}

// hostile is what somebody sends, and what he is told before his connection is closed.
type hostile struct {
	name    string
	send    []byte
	code    wire.Code
	request uint32 // that the last answer has
}

func malformed(t testing.TB) []hostile {
	status := encoded(t, 9, &wire.Status{})
	lock := encoded(t, 9, attached("/a"))
	patch := func(at int, b byte) []byte { f := bytes.Clone(lock); f[at] = b; return f }
	cut := func(n int) []byte { f := bytes.Clone(lock[:len(lock)-n]); f[3] -= byte(n); return f }
	return []hostile{
		{"length 0", []byte{0, 0, 0, 0}, wire.CodeLimit, 0},
		{"length 5", []byte{0, 0, 0, 5, 1, 7, 0, 0, 0}, wire.CodeLimit, 0},
		{"length 65537", []byte{0, 1, 0, 1}, wire.CodeLimit, 0},
		{"length 2^31", []byte{0x80, 0, 0, 0}, wire.CodeLimit, 0},
		{"length 2^32-1", []byte{0xff, 0xff, 0xff, 0xff}, wire.CodeLimit, 0},
		{"version 0", raw(0, 7, 9), wire.CodeVersion, 9},
		{"version 2", raw(2, 7, 9), wire.CodeVersion, 9},
		{"type 0", raw(1, 0, 9), wire.CodeUnsupported, 9},
		{"type 0x0f", raw(1, 0x0f, 9), wire.CodeUnsupported, 9},
		{"a Resume in version 1", raw(1, 0x0d, 9, 0, 0, 0, 0, 0, 0, 0, 1), wire.CodeVersion, 9},
		{"type 0x80", raw(1, 0x80, 9), wire.CodeUnsupported, 9},
		{"type 0xff", raw(1, 0xff, 9), wire.CodeUnsupported, 9},
		{"request id 0", raw(1, 7, 0), wire.CodeInvalid, 0},
		{"a byte after the last field", raw(1, 7, 9, 0), wire.CodeInvalid, 9},
		{"no fields", raw(1, 2, 9), wire.CodeInvalid, 9},
		{"ends inside a path", cut(1), wire.CodeInvalid, 9},
		{"ends before the paths", cut(5), wire.CodeInvalid, 9},
		{"mode 3", patch(10, 3), wire.CodeInvalid, 9},
		{"wait 0", patch(11, 0), wire.CodeInvalid, 9},
		{"a timeout without a timed wait", patch(19, 1), wire.CodeInvalid, 9},
		{"life 9", patch(20, 9), wire.CodeInvalid, 9},
		{"a lease of an attached lock", patch(28, 1), wire.CodeInvalid, 9},
		{"no path", raw(1, 2, 9, append(bytes.Clone(lock[10:len(lock)-6]), 0, 0)...), wire.CodeInvalid, 9},
		{"65 paths", raw(1, 2, 9, append(append(bytes.Clone(lock[10:len(lock)-6]), 0, 65), bytes.Repeat([]byte{0, 2, '/', 'a'}, 65)...)...), wire.CodeInvalid, 9},
		{"a path of 4,096 bytes", raw(1, 2, 9, append(append(bytes.Clone(lock[10:len(lock)-4]), 0x10, 0), bytes.Repeat([]byte{'/'}, 4096)...)...), wire.CodeInvalid, 9},
		{"an empty path", raw(1, 2, 9, append(bytes.Clone(lock[10:len(lock)-4]), 0, 0)...), wire.CodeInvalid, 9},
		{"a bool of 2", raw(1, 6, 9, 2), wire.CodeInvalid, 9},
		{"cancel of request 0", raw(1, 4, 9, 0, 0, 0, 0), wire.CodeInvalid, 9},
		{"a good frame and then a bad one", append(bytes.Clone(status), raw(1, 0xee, 10)...), wire.CodeUnsupported, 10},
	}
}

// onlyServersSay is every answer and event.
func onlyServersSay(t testing.TB) (all []hostile) {
	for _, m := range []wire.Message{
		&wire.Welcome{Version: 1}, &wire.Granted{Grants: []wire.Grant{{ID: 1, Rests: wire.RestOFD}}}, &wire.Queued{}, &wire.Released{IDs: []uint64{1}},
		&wire.Done{}, &wire.Error{Code: wire.CodeBusy}, &wire.Rows{}, &wire.Changed{}, &wire.StatusReply{}, &wire.RulesReply{}, &wire.Explained{},
		&wire.Reloaded{}, &wire.GuardReply{State: wire.GuardOff}, &wire.Altered{}, &wire.Quiets{},
	} {
		all = append(all, hostile{"a " + m.Type().String(), encoded(t, 9, m), wire.CodeInvalid, 9})
	}
	return append(all, hostile{"a Lost", encoded(t, 0, &wire.Lost{ID: 1, Cause: wire.Broken}), wire.CodeInvalid, 0})
}

func TestABadFrameIsAnsweredWithItsCodeAndEndsItsConnectionAlone(t *testing.T) {
	r := newRig(t, nil)
	base := r.atRest()
	hello := encoded(t, 1, &wire.Hello{Min: 1, Max: 1})
	greeted := append(malformed(t), onlyServersSay(t)...)
	greeted = append(greeted,
		hostile{"a second Hello", encoded(t, 9, &wire.Hello{Min: 1, Max: 1}), wire.CodeInvalid, 9},
		hostile{"a Lock that asks for an idle file, in version 1", encoded(t, 9, idly(attached("/srv/a"))), wire.CodeInvalid, 9},
		hostile{"a Guard, in version 1", encoded(t, 9, &wire.Guard{}), wire.CodeInvalid, 9})
	mute := append(malformed(t)[:27:27], onlyServersSay(t)...) // the last ones begin with a good frame
	mute = append(mute,
		hostile{"no Hello", encoded(t, 9, &wire.Status{}), wire.CodeInvalid, 9},
		hostile{"a Hello of version 5 and 6", encoded(t, 9, &wire.Hello{Min: 5, Max: 6}), wire.CodeVersion, 9},
		hostile{"a Hello of versions 3 to 2", raw(1, 1, 9, 3, 2), wire.CodeInvalid, 9},
		hostile{"a Hello of versions 0 to 1", raw(1, 1, 9, 0, 1), wire.CodeInvalid, 9},
		hostile{"a Hello with a byte more", raw(1, 1, 9, 1, 1, 1), wire.CodeInvalid, 9},
		hostile{"a Hello with a byte less", raw(1, 1, 9, 1), wire.CodeInvalid, 9},
		hostile{"a Hello in version 2", raw(2, 1, 9, 1, 2), wire.CodeVersion, 9},
	)
	bystander := r.dial()
	bystander.granted(attached(r.file("theirs")))
	with := r.use()
	for first, cases := range map[string][]hostile{"greeted": greeted, "mute": mute} {
		for _, c := range cases {
			p := r.dialMute()
			p.t = t
			if first == "greeted" {
				p.write(hello)
				p.until(func(id uint32, m wire.Message) bool { return m.Type() == wire.TypeWelcome })
				p.write(encoded(t, 2, attached(r.file("mine"))))
				p.until(func(id uint32, m wire.Message) bool { return m.Type() == wire.TypeGranted })
			}
			p.write(c.send)
			id, last := p.lastWords()
			if e, ok := last.(*wire.Error); !ok || e.Code != c.code || id != c.request {
				t.Errorf("%s, %s: got request %d %T %+v, want request %d code %v", first, c.name, id, last, last, c.request, c.code)
			}
			p.conn.Close()
			bystander.undisturbed()
		}
	}
	r.settles(with)
	bystander.conn.Close()
	r.settles(base)
	if !isFree(t, r.file("mine")) {
		t.Error("a lock outlived its connection")
	}
}

// lastWords reads until the connection is closed and gives the last message and its request id.
func (p *peer) lastWords() (id uint32, last wire.Message) {
	p.t.Helper()
	for {
		i, m, err := p.read()
		if err != nil {
			if isTimeout(err) {
				p.t.Fatalf("the connection is not closed; last words %+v", last)
			}
			return id, last
		}
		id, last = i, m
	}
}
