package broker

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"locker/wire"
)

func TestAFullDiskDoesNotKeepLocksFromBeingHeldAgainAtTheStart(t *testing.T) {
	var disk faulty
	r := newRig(t, disk.drive)
	path := r.file("a")
	g := r.dial().granted(detached(path))
	r.restart(func() { disk.writes.Store(true) })
	if isFree(t, path) {
		t.Error("not held again")
	}
	p := r.dial()
	if e := p.refused(attached(r.file("b"))); e.Code != wire.CodeUnavailable {
		t.Errorf("%+v", e)
	}
	if again := p.granted(detached(path)); !again[0].Already || again[0].ID != g[0].ID {
		t.Errorf("%+v", again)
	}
	if rel := p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID})).(*wire.Released); rel.IDs[0] != g[0].ID {
		t.Errorf("%+v", rel)
	}
	disk.writes.Store(false)
	eventually(t, "grants are made again", func() bool { _, ok := p.answer(p.send(attached(path))).(*wire.Granted); return ok })
	r.checkReplay()
}

func TestOnAFullDiskHoldsCanBeReleasedAndNoneIsGranted(t *testing.T) {
	needRoot(t, "a file system of its own")
	var logs string
	r := newRig(t, func(r *rig) {
		logs = filepath.Join(r.dir, "audit")
		must(t, os.Mkdir(logs, 0o750))
		if err := unix.Mount("tmpfs", logs, "tmpfs", 0, "size=512k,mode=0750"); err != nil {
			t.Skipf("no tmpfs here: %v", err)
		}
		t.Cleanup(func() { unix.Unmount(logs, unix.MNT_DETACH) })
		r.segment = 128 << 10
	})
	p := r.dial()
	first := p.granted(detached(r.file("first")))
	fill := filepath.Join(logs, "somebody else's")
	f, err := os.Create(fill)
	must(t, err)
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	f.Close()
	path := r.file("a")
	var refusal *wire.Error
	for range 5000 {
		switch m := p.answer(p.send(attached(path))).(type) {
		case *wire.Granted:
			p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: m.Grants[0].ID}))
		case *wire.Error:
			refusal = m
		}
		if refusal != nil {
			break
		}
	}
	if refusal == nil || refusal.Code != wire.CodeUnavailable {
		t.Fatalf("%+v", refusal)
	}
	for range 200 { // refusals must not eat the reserve
		p.refused(attached(path))
	}
	if rel := p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{r.files + "/first"}})).(*wire.Released); rel.IDs[0] != first[0].ID {
		t.Errorf("%+v", rel)
	}
	if !isFree(t, path) || !isFree(t, r.files+"/first") {
		t.Error("not free")
	}
	r.checkReplay()
	must(t, os.Remove(fill))
	eventually(t, "grants are made again", func() bool { _, ok := p.answer(p.send(attached(path))).(*wire.Granted); return ok })
	r.checkReplay()
}
