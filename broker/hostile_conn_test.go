package broker

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/wire"
)

func TestSlowAndMuteConnectionsAreClosedAndCostNobodyElseAnything(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.alter = func(_ *audit.Config, c *Config) { c.frames = theFrameTimes }
	})
	base := r.atRest()
	hello := encoded(t, 1, &wire.Hello{Min: 1, Max: 1})
	status := encoded(t, 7, &wire.Status{})
	slow := map[string][]byte{ // sent one byte at a time, the last one never
		"a Hello":                     hello[:len(hello)-1],
		"a Hello's length word":       hello[:3],
		"nothing":                     nil,
		"a frame":                     append(bytes.Clone(hello), status[:len(status)-1]...),
		"a frame's length word":       append(bytes.Clone(hello), status[:2]...),
		"a frame behind a whole one":  append(append(bytes.Clone(hello), status...), status[:5]...),
		"a frame of the largest size": append(bytes.Clone(hello), 0, 1, 0, 0, 1, 2),
	}
	var wg sync.WaitGroup
	for name, bytes := range slow {
		began := time.Now()
		p := r.dialMute()
		wg.Go(func() {
			defer p.conn.Close()
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for _, b := range bytes {
				<-tick.C
				if _, err := p.conn.Write([]byte{b}); err != nil { // on a busy machine its time can be over before all is said
					break
				}
			}
			id, last := p.lastWords()
			if e, ok := last.(*wire.Error); !ok || e.Code != wire.CodeLimit || id != 0 {
				t.Errorf("%s: request %d %T %+v", name, id, last, last)
			}
			if took := time.Since(began); took < min(theFrameTimes.hello, theFrameTimes.whole) {
				t.Errorf("%s: closed after %v, before its time", name, took)
			}
		})
	}
	closed := make(chan struct{})
	go func() { wg.Wait(); close(closed) }()
	fast := r.dial()
	path := r.file("a")
	for done := false; !done; {
		g := fast.granted(attached(path))
		fast.answer(fast.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
		select {
		case <-closed:
			done = true
		default:
		}
	}
	if len(fast.kept) > 0 {
		t.Errorf("an answer went to the wrong connection: %+v", fast.kept)
	}
	fast.conn.Close()
	r.settles(base)
}

// What comes whole in time is understood however it is cut.
func TestFramesAreUnderstoodHoweverTheyAreCut(t *testing.T) {
	r := newRig(t, nil)
	base := r.atRest()
	path := r.file("a")
	var stream []byte
	stream = append(stream, encoded(t, 1, &wire.Hello{Min: 1, Max: 1})...)
	big := make([]string, 16)
	for i := range big {
		big[i] = "/" + string(bytes.Repeat([]byte{'x'}, 4000+i)) // a frame of nearly 64 KiB, refused for what it says
	}
	stream = append(stream, encoded(t, 2, attached(big...))...)
	for id := uint32(3); id < 200; id += 2 { // together more than the reader's buffer, so frames lie across its end
		stream = append(stream, encoded(t, id, attached(path))...)
		stream = append(stream, encoded(t, id+1, &wire.Unlock{By: wire.ByPath, Paths: []string{path}})...)
	}
	for _, size := range []int{1, 3, 7, 511, 512, 513, 4096, len(stream)} {
		p := r.dialMute()
		for rest := stream; len(rest) > 0; {
			n := min(size, len(rest))
			if size == 1 && len(rest) > 3000 && len(rest) < len(stream)-100 {
				n = len(rest) - 3000 // the middle need not come byte by byte
			}
			p.write(rest[:n])
			rest = rest[n:]
		}
		if m := p.answer(1); m.Type() != wire.TypeWelcome {
			t.Fatalf("%d: %+v", size, m)
		}
		if e := asError(t, p.answer(2)); e.Code != wire.CodeDenied {
			t.Errorf("%d: %+v", size, e)
		}
		for id := uint32(3); id < 200; id += 2 {
			grants(t, p.answer(id))
			if m := p.answer(id + 1); m.Type() != wire.TypeReleased {
				t.Fatalf("%d: %+v", size, m)
			}
		}
		p.conn.Close()
	}
	r.settles(base)
}

func TestAHalfClosedConnectionEndsAsAClosedOne(t *testing.T) {
	r := newRig(t, nil)
	base := r.atRest()
	path := r.file("a")
	status := encoded(t, 9, &wire.Status{})
	for name, c := range map[string]struct {
		send []byte
		code wire.Code // of the last words, 0: none
	}{
		"between two frames":   {status, 0},
		"inside a frame":       {status[:7], wire.CodeInvalid},
		"inside a length word": {status[:2], wire.CodeInvalid},
	} {
		p := r.dial()
		p.granted(attached(path))
		p.write(c.send)
		p.conn.CloseWrite()
		_, last := p.lastWords()
		if e, ok := last.(*wire.Error); ok != (c.code != 0) || ok && e.Code != c.code {
			t.Errorf("%s: last words %+v", name, last)
		}
		p.conn.Close()
	}
	// One that will not read: it is found out when there is something to say.
	p := r.dial()
	p.granted(attached(path))
	p.conn.CloseRead()
	p.write(status)
	with := base
	with.descriptors++ // the client's own end
	r.settles(with)
	p.conn.Close()
	if !isFree(t, path) {
		t.Error("held by a connection that has ended")
	}
}

func TestDescriptorsThatAClientPassesAreNotKept(t *testing.T) {
	r := newRig(t, nil)
	base := r.atRest()
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	base.descriptors++
	fds := make([]int, 200)
	for i := range fds {
		fds[i] = int(null.Fd())
	}
	rights := unix.UnixRights(fds...)
	p, bystander := r.dial(), r.dial()
	sent := 0
	for range 50 {
		p.next++
		frame := encoded(t, p.next, &wire.Status{})
		half := len(frame) / 2
		for _, part := range [][]byte{frame[:half], frame[half:]} { // descriptors in the middle of a frame as well
			_, _, err := p.conn.WriteMsgUnix(part, rights, nil)
			switch {
			case err == nil:
				sent++
			case errors.Is(err, unix.EPERM) || errors.Is(err, unix.ETOOMANYREFS): // the kernel keeps them out. unix(7)
				p.write(part)
			default:
				t.Fatal(err)
			}
		}
		if m := p.answer(p.next); m.Type() != wire.TypeStatusReply {
			t.Fatalf("%+v", m)
		}
	}
	t.Logf("%d messages with %d descriptors each", sent, len(fds))
	// Two connections: both ends, and a pidfd each. What others of ours open for a moment is closed again.
	eventually(t, "they are not kept", func() bool { return r.use().descriptors <= base.descriptors+6 })
	bystander.undisturbed()
	p.conn.Close()
	bystander.conn.Close()
	r.settles(base)
}

func TestARequestIDInUseIsRefusedAndItsFirstRequestLivesOn(t *testing.T) {
	r := newRig(t, nil)
	base := r.atRest()
	path := r.file("a")
	holder, p := r.dial(), r.dial()
	g := holder.granted(attached(path))
	id := p.send(attached(path))
	p.queued(id)
	p.write(encoded(t, id, attached(r.file("b"))))
	if e := asError(t, p.answer(id)); e.Code != wire.CodeInvalid {
		t.Errorf("%+v", e)
	}
	holder.answer(holder.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
	if got := grants(t, p.answer(id)); got[0].ID <= g[0].ID {
		t.Errorf("%+v", got)
	}
	if !isFree(t, r.file("b")) {
		t.Error("the second request was granted as well")
	}
	holder.conn.Close()
	p.conn.Close()
	r.settles(base)
}
