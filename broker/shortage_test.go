package broker

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"locker/audit"
)

// startWithoutDescriptors has a broker start that can open nothing as soon as it takes over what is there, and gives what New says.
func (s *shelf) startWithoutDescriptors() error {
	r := s.r
	r.t.Helper()
	policy, err := r.policy()
	must(r.t, err)
	logs := audit.Config{Dir: filepath.Join(r.dir, "audit"), SegmentSize: r.segment, GID: -1}
	config := Config{Policy: policy, Logger: hclog.NewNullLogger(), Version: "test", Reload: r.policy}
	r.alter(&logs, &config)
	log, err := audit.Open(logs)
	must(r.t, err)
	defer log.Close()
	config.Log = log
	var limit unix.Rlimit
	must(r.t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	var once sync.Once
	config.Boot = func() time.Duration { // is asked for the first time when the log has been read, before anything is taken over
		once.Do(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}) })
		return bootTime()
	}
	b, err := New(context.Background(), config)
	if err == nil {
		unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
		s.forget(b)
		must(r.t, b.Close())
	}
	return err
}

// That something cannot be looked at now says nothing about who holds it.
func TestAStartThatIsShortOfDescriptorsLosesNothing(t *testing.T) {
	for _, both := range []bool{false, true} {
		r, s := withKeeper(t, nil)
		p := r.dial2()
		at, de := p.granted(attached(r.file("a"))), p.granted(detached(r.file("b")))
		s.crash()
		if both {
			s.end()
			s.start()
		}
		if err := s.startWithoutDescriptors(); !isShortage(err) {
			t.Errorf("both dead: %v: New says %v", both, err)
		}
		if ids := s.inKeeper(nil); !both && !slices.Equal(ids, sortedIDs(at[0].ID, de[0].ID)) {
			t.Errorf("the keeper has %v", ids)
		}
		s.back()
		if ids := p.resumed(r); !slices.Equal(ids, []uint64{at[0].ID}) {
			t.Errorf("both dead: %v: resumed with %v, want %v", both, ids, at)
		}
		if g := p.granted(detached(r.files + "/b")); !g[0].Already || g[0].ID != de[0].ID {
			t.Errorf("both dead: %v: %+v, want %v again", both, g, de)
		}
		if rec := r.records(audit.EventLost, audit.EventDeath, audit.EventRelease); len(rec) != 0 {
			t.Errorf("both dead: %v: %+v", both, rec)
		}
		r.halt()
	}
}

// A keeper that is to leave, as when both are restarted at once, waits for a broker that has got so far.
func TestAKeeperThatIsToLeaveOutlastsAStartThatFails(t *testing.T) {
	r, s := withKeeper(t, nil)
	p := r.dial2()
	at := p.granted(attached(r.file("a")))
	s.leave()
	s.server.Leave(time.Hour)
	if err := s.startWithoutDescriptors(); !isShortage(err) {
		t.Errorf("New says %v", err)
	}
	if ids := s.inKeeper(nil); !slices.Equal(ids, []uint64{at[0].ID}) {
		t.Errorf("the keeper has %v", ids)
	}
	s.back()
	must(t, <-s.ended)
	s.stop = nil
	s.start()
	if ids := p.resumed(r); !slices.Equal(ids, []uint64{at[0].ID}) {
		t.Errorf("resumed with %v, want %v", ids, at)
	}
}

func TestWhetherAProcessIsTheSameIsNotGuessedWhenItCannotBeFoundOut(t *testing.T) {
	me := int32(selfPID())
	start, ok := startTime(procFile(me, "stat", 1024))
	if !ok {
		t.Fatal("no start time")
	}
	same, err := sameAsThen(me, start)
	if err != nil || same < 0 {
		t.Fatal(same, err)
	}
	unix.Close(same)
	if other, err := sameAsThen(me, start+1); err != nil || other >= 0 {
		t.Errorf("another process: %d, %v", other, err)
	}
	var limit unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	next, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0) // the lowest free number
	must(t, err)
	unix.Close(next)
	for _, left := range []int{0, 1} { // the second is too little to look into proc
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(next + left), Max: limit.Max}))
		if fd, err := sameAsThen(me, start); err == nil {
			t.Errorf("with %d descriptors left: %d", left, fd)
		}
	}
}
