package flock

import (
	"testing"
)

// The test must be able to fail: here is a "lock" that excludes nobody, since it was never taken.
func TestLockThatExcludesNobodyIsNoticed(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	for _, e := range []Engines{OFD, BSD} {
		for _, m := range []Mode{Exclusive, Shared} {
			o := newOpener(t, path)
			f := openAs(t, o, path, Want{Mode: m})
			wantError(t, f.provesItself(e, m), ErrMeaningless, e.String()+" "+m.String())
			if len(o.tested.passed) != 0 {
				t.Errorf("%v %v: a failed test is remembered as passed", e, m)
			}
		}
	}
}

func TestFirstLockOfEachEngineIsTestedAndRemembered(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	for _, m := range []Mode{Exclusive, Shared} {
		o := newOpener(t, path)
		f := openAs(t, o, path, Want{Mode: m})
		must(t, f.TryLock(m))
		for _, e := range []Engines{OFD, BSD} {
			if !o.tested.passed[selfTest{f.ID.Dev, f.mount.fstype, e}] {
				t.Errorf("%s: %s was not tested", m, e)
			}
		}
		if got := newOutsider(t).tries(path, "flock", Exclusive); got != "busy" {
			t.Errorf("%s: the self-test lost the flock", m)
		}
		if got := newOutsider(t).tries(path, "ofd", Exclusive); got != "busy" {
			t.Errorf("%s: the self-test lost the ofd lock", m)
		}
		must(t, f.Unlock())
		must(t, f.Close())
		// Remembered: a claim on what holds no lock would fail now if it were tested.
		f = openAs(t, o, path, Want{Mode: m})
		if err := f.provesItself(OFD, m); err != nil {
			t.Errorf("%s: tested again: %v", m, err)
		}
		f.Close()
	}
}

func TestRememberedSelfTestsAreBounded(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	o := newOpener(t, path)
	for i := range uint64(maxSelfTests) {
		o.tested.passed[selfTest{dev: i}] = true
	}
	must(t, open(t, o, path).TryLock(Exclusive))
	if n := len(o.tested.passed); n > maxSelfTests {
		t.Errorf("%d are remembered", n)
	}
}
