package flock

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHostilePathsAreRefusedAndNothingChanges(t *testing.T) {
	base := hostileTree(t)
	o := newOpener(t, base+"/allowed")
	paths := hostilePaths()
	if len(paths) < 60 {
		t.Fatalf("only %d paths", len(paths))
	}
	later(t, base)       // else they are read in the tick in which they were changed last, and the next read changes their atime as well
	statesBelow(t, base) // reads the directories once
	before, fds := statesBelow(t, base), descriptors(t)
	for _, m := range []Mode{Exclusive, Shared} {
		for _, h := range paths {
			f, err := o.Open(h.in(base), Want{Mode: m})
			want := h.want
			if m == Shared && (h.path == "allowed/unnamed" || want == nil && strings.Contains(h.path, "good.sparsebundle") && !strings.HasSuffix(h.path, "bands")) {
				want = ErrSharedBundle
			}
			if m == Shared && (errors.Is(err, ErrSharedBundle) && want != nil) {
				want = ErrSharedBundle // said before the token is looked at
			}
			if !errors.Is(err, want) {
				t.Errorf("%s %q: got %v, want %v", m, h.path, err, want)
			}
			if err != nil {
				var named *PathError
				if !errors.As(err, &named) || named.Path != h.in(base) {
					t.Errorf("%s %q: the error %#v does not name the path asked for", m, h.path, err)
				}
				continue
			}
			if err := f.TryLock(m); err != nil {
				t.Errorf("%s %q: lock: %v", m, h.path, err)
			}
			if same, err := o.Same(f); !same || err != nil {
				t.Errorf("%s %q: same: %v, %v", m, h.path, same, err)
			}
			must(t, f.Unlock())
			must(t, f.Close())
		}
	}
	sameDescriptors(t, fds)
	for path, was := range before {
		if is := stateOf(t, path); is != was {
			t.Errorf("%q changed:\nfrom %+v\nto   %+v", path, was, is)
		}
	}
}

func TestHardlinksAreForRulesThatSaySo(t *testing.T) {
	base := hostileTree(t)
	o := newOpener(t, base+"/allowed")
	first := openAs(t, o, base+"/allowed/two", Want{Mode: Exclusive, Hardlinks: true})
	second := openAs(t, o, base+"/allowed/two-again", Want{Mode: Exclusive, Hardlinks: true})
	if first.ID != second.ID {
		t.Errorf("two names of one file are %v and %v", first.ID, second.ID)
	}
	must(t, first.TryLock(Exclusive))
	wantError(t, second.TryLock(Exclusive), ErrBusy, "lock by the other name")
	_, err := o.Open(base+"/allowed/pulled.sparsebundle", Want{Mode: Exclusive, Hardlinks: true})
	wantError(t, err, ErrHardlinks, "a bundle whose token has two names, with a rule that allows hard links")
}

func TestZeroWantOpensNothing(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	for _, w := range []Want{{}, {Mode: 3}, {Mode: Exclusive, Engines: 4}} {
		if f, err := newOpener(t, path).Open(path, w); err == nil {
			f.Close()
			t.Errorf("%+v opened the file", w)
		}
	}
	var nobody Opener
	_, err := nobody.Open(path, Want{Mode: Exclusive})
	wantError(t, err, ErrOutside, "open with a zero Opener")
	fds := descriptors(t)
	if err := new(File).TryLock(Exclusive); err == nil {
		t.Error("a zero File locked descriptor 0")
	}
	must(t, new(File).Unlock())
	must(t, new(File).Close())
	sameDescriptors(t, fds)
}

// Open must not touch what it only looks at: a FIFO's writer would wake up.
func TestFIFOIsNotOpenedForReal(t *testing.T) {
	base := hostileTree(t)
	o := newOpener(t, base+"/allowed")
	for range 100 {
		_, err := o.Open(base+"/allowed/fifo", Want{Mode: Exclusive})
		wantError(t, err, ErrKind, "open a FIFO")
	}
	_, err := unix.Open(base+"/allowed/fifo", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	wantError(t, err, syscall.ENXIO, "a writer of the FIFO finds a reader")
}

func TestErrorsQuoteHostileBytes(t *testing.T) {
	const path = "/a\n\x1b[2J\u202e\xff"
	for _, err := range []error{&OpenBusy{Path: path}, pathError("open", path, ErrOutside)} {
		if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("raw bytes in %q", err)
		}
	}
}
