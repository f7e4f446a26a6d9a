package broker

import (
	"net"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/authz"
	"locker/wire"
)

// pidfdless is a kernel before Linux 6.5, where a socket does not tell a pidfd of its peer.
func pidfdless(r *rig) {
	r.alter = func(_ *audit.Config, c *Config) {
		c.peerOf = func(conn *net.UnixConn) (authz.Peer, error) {
			p, err := peerOf(conn)
			if err == nil && p.PidFD >= 0 {
				unix.Close(p.PidFD)
				p.PidFD = -1
			}
			return p, err
		}
	}
}

func TestWithoutPidfdsAProcessIsKnownAgainByItsStart(t *testing.T) {
	ends := map[string]func(s *shelf){
		"handed over": (*shelf).leave,
		"crashed":     (*shelf).crash,
		"both":        func(s *shelf) { s.crash(); s.end(); s.start() },
	}
	for how, end := range ends {
		t.Run(how, func(t *testing.T) {
			r, s := withKeeper(t, pidfdless)
			a, b := r.file("a"), r.file("b")
			p, q := r.dial2(), r.dial2()
			at := p.granted(attached(a))
			ask := detached(b)
			asked := p.send(ask)
			de := grants(t, p.answer(asked))
			waits := q.send(attached(a))
			q.queued(waits)
			dying, late := startChild(t, "keen", r.socket, r.file("c")), startChild(t, "keen", r.socket, r.file("d"))
			startChild(t, "keen", r.socket, r.file("e"))
			for range 2 { // and what is restored is kept as well
				end(s)
				if dying != nil {
					dying.end()
					dying = nil
				}
				s.back()
				for name, free := range map[string]bool{"a": false, "b": false, "c": true, "d": false, "e": false} {
					if isFree(t, r.files+"/"+name) != free {
						t.Errorf("%s: free is not %v", name, free)
					}
				}
			}
			startChild(t, "usurper", r.socket, uintText(p.session))
			late.end() // while it is away
			eventually(t, "its file is free", func() bool { return isFree(t, r.files+"/d") })
			if how != "both" { // a place in a queue goes with the keeper
				third := r.dial2()
				if at := third.queued(third.send(attached(a))); at.Position != 2 {
					t.Errorf("a newcomer stands at %d", at.Position)
				}
				third.conn.Close()
				q.resumed(r)
				q.repeat(waits, attached(a))
				if at := q.queued(waits); at.Position != 1 {
					t.Errorf("who waited stands at %d", at.Position)
				}
			}
			if ids := p.resumed(r); !slices.Equal(ids, []uint64{at[0].ID}) {
				t.Errorf("resumed with %v, want %v", ids, at)
			}
			p.repeat(asked, ask)
			if got := grants(t, p.answer(asked)); !slices.Equal(got, de) {
				t.Errorf("%+v, want %+v", got, de)
			}
			if e, ok := r.dial2().answerTo(&wire.Resume{Session: p.session}).(*wire.Error); !ok || e.Code != wire.CodeLost {
				t.Errorf("a session that is back: %+v", e)
			}
			p.unlock(at[0].ID)
			if how != "both" {
				grants(t, q.answer(waits))
			}
			// A death is recorded when the file is free.
			eventually(t, "two deaths are recorded", func() bool { return len(r.records(audit.EventDeath)) >= 2 })
			if n := len(r.records(audit.EventDeath)); n != 2 {
				t.Errorf("%d deaths are recorded, want 2", n)
			}
			r.checkReplay()
		})
	}
}

func (p *peer) answerTo(m wire.Message) wire.Message {
	p.t.Helper()
	return p.answer(p.send(m))
}
