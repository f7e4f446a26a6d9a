package broker

import (
	"encoding/binary"
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	"locker/wire"
)

// FuzzLiveBroker throws bytes at a broker over a real socket. It must answer with frames that parse, end the connection when
// the client has, keep nothing of it, and serve others as if nothing had been. Requests that name /a to /d mean real files.
func FuzzLiveBroker(f *testing.F) {
	hello := encoded(f, 1, &wire.Hello{Min: 1, Max: 1})
	for _, c := range append(malformed(f), onlyServersSay(f)...) {
		f.Add(c.send, true)
		f.Add(c.send, false)
	}
	var all []byte
	for i, m := range []wire.Message{
		attached("/a"), detached("/b", "/a"), reader(attached("/c")), timed(attached("/a", "/d"), 1), try(detached("/a")),
		&wire.Where{Target: 2}, &wire.List{}, &wire.List{All: true}, &wire.Watch{}, &wire.Status{}, &wire.Rules{}, &wire.Reload{},
		&wire.Explain{User: "root", Action: "lock", Path: "/a"}, &wire.Break{By: wire.ByPath, Path: "/b", Reason: "x"}, &wire.Cancel{Target: 2},
		&wire.Unlock{By: wire.ByPath, Paths: []string{"/a", "/b"}}, &wire.Unlock{By: wire.ByAll, AnyTag: true}, &wire.Unlock{By: wire.ByID, ID: 1},
	} {
		frame := encoded(f, uint32(i+2), m)
		f.Add(frame, true)
		all = append(all, frame...)
	}
	f.Add(all, true)
	f.Add(append(all, all...), true)
	f.Add(all[:len(all)-3], true)

	r := newRig(f, nil)
	for _, name := range []string{"a", "b", "c", "d"} {
		r.file(name)
	}
	var base use
	f.Fuzz(func(t *testing.T, data []byte, greet bool) {
		r.t = t
		if base == (use{}) { // here, since this function has a goroutine of its own
			base = r.atRest()
		}
		p := r.dialMute()
		defer p.conn.Close()
		if greet {
			data = append(hello, r.meant(data)...)
		}
		go func() { // the broker may close, or read no more, at any byte
			p.conn.SetWriteDeadline(time.Now().Add(patience))
			p.conn.Write(data)
			p.conn.CloseWrite()
		}()
		for {
			if _, _, err := p.read(); err != nil {
				if !errors.Is(err, io.EOF) && !isReset(err) {
					t.Fatalf("%x: %v", data, err)
				}
				break
			}
		}
		p.conn.Close()
		// A detached lock that is being granted as its client goes is granted, and is there to be unlocked only then.
		eventually(t, "nothing is worked on", func() bool {
			now := r.use()
			return now.sessions <= base.sessions && now.goroutines <= base.goroutines
		})
		other := r.dial()
		other.answer(other.send(&wire.Unlock{By: wire.ByAll, AnyTag: true}))
		other.undisturbed()
		other.conn.Close()
		r.settles(base)
		r.checkReplay()
	})
}

// meant puts real paths into the whole frames at the beginning of data that have paths.
func (r *rig) meant(data []byte) []byte {
	var out []byte
	for len(data) >= 4 {
		n := int(binary.BigEndian.Uint32(data))
		if n > len(data)-4 {
			break
		}
		id, m, err := wire.Parse(data[4 : 4+n])
		if err != nil {
			break
		}
		var paths []string
		switch m := m.(type) {
		case *wire.Lock:
			paths = m.Paths
		case *wire.Unlock:
			paths = m.Paths
		case *wire.Break:
			m.Path = filepath.Join(r.files, m.Path)
		}
		for i := range paths {
			paths[i] = filepath.Join(r.files, paths[i])
		}
		frame, err := wire.Append(nil, id, m)
		if err != nil {
			break
		}
		out, data = append(out, frame...), data[4+n:]
	}
	return append(out, data...)
}
