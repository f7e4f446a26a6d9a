package broker

import (
	"os"
	"strings"
	"testing"

	"locker/wire"
)

func TestConnectionsBeyondTheLimitAreToldAndCostTheOthersNothing(t *testing.T) {
	r := newRig(t, limited("connections = 3"))
	base := r.atRest()
	first := r.dialUser()
	first.granted(attached(r.file("a")))
	second, third := r.dialUser(), r.dialUser()
	for range 5 {
		r.dialMuteUser().turnedAway("you have as many connections as you may")
	}
	second.undisturbed()
	third.conn.Close()
	eventually(t, "there is room again", func() bool { return r.use().sessions == 4 }) // two sessions and connections
	fourth := r.dialUser()
	fourth.undisturbed()
	if os.Geteuid() == 0 {
		root := r.dial()
		root.undisturbed()
		root.conn.Close()
	}
	first.undisturbed()
	for _, p := range []*peer{first, second, fourth} {
		p.conn.Close()
	}
	r.settles(base)
}

func TestTheLimitOfAllConnectionsLeavesRoomForRoot(t *testing.T) {
	r := newRig(t, limited("connections = 4\nconnections_all = 4"))
	for range 4 {
		r.dialUser()
	}
	r.dialMuteUser().turnedAway("as many connections")
	needRoot(t, "root's reserve")
	r.dialMuteAs(bob).turnedAway("lockerd has as many connections as it may")
	for range rootConnections {
		r.dial().undisturbed()
	}
	r.dialMute().turnedAway("lockerd has as many connections as it may")
}

// turnedAway holds that the connection is closed with this answer.
func (p *peer) turnedAway(text string) {
	p.t.Helper()
	id, last := p.lastWords()
	if e, ok := last.(*wire.Error); !ok || e.Code != wire.CodeLimit || id != 0 || !strings.Contains(e.Text, text) {
		p.t.Errorf("request %d %+v, want %q", id, last, text)
	}
	p.conn.Close()
}

func last(_ uint32, m wire.Message) wire.Message { return m }

func TestConnectionsThatSayNothingDoNotKeepOthersOut(t *testing.T) {
	r := newRig(t, limited("connections_early = 2\nconnections_early_all = 4"))
	for range 12 {
		r.dialMuteUser()
	}
	r.dialUser().undisturbed()
	r.dial().undisturbed()
}
