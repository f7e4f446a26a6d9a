package locker_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"locker/audit"
	"locker/wire"
)

// rebooted FILE COMMAND...: where the kernel's boot id is what FILE has, as after a start of the machine.
func rebooted(args []string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount(args[0], "/proc/sys/kernel/random/boot_id", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount on boot_id: %w", err)
	}
	return become(args[1:])
}

// The power goes. What is on disk is the state directory as of the last fdatasync, and of what was written since anything.
func TestAPowerCutCostsNoDetachedLockAndNoNumber(t *testing.T) {
	m := newMachine(t)
	state := filepath.Join(m.dir, "state")
	log := func() (name string, text []byte) {
		names, err := filepath.Glob(filepath.Join(state, "audit", "seg-*.jsonl"))
		if err != nil || len(names) != 1 {
			t.Fatalf("segments %v, %v", names, err)
		}
		text, err = os.ReadFile(names[0])
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Base(names[0]), text
	}
	var segment string
	var text []byte
	var synced int
	m.run(state, func() {
		m.locker("lock", "--tag", "nightly", filepath.Join(m.files, "detached"))
		m.locker("lock", "-s", filepath.Join(m.files, "shared"))
		m.locker("lock", filepath.Join(m.files, "given-back"))
		ready := filepath.Join(m.dir, "ready")
		run := m.command("run", filepath.Join(m.files, "attached"), "--", "sh", "-c", "touch "+ready+"; exec sleep 1000")
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { run.Process.Kill(); run.Wait() }()
		if !eventually(func() bool { _, err := os.Stat(ready); return err == nil }) {
			t.Fatal("the command does not run")
		}
		m.locker("unlock", filepath.Join(m.files, "given-back"))
		m.locker("lock", filepath.Join(m.files, "durable")) // answered when all until here was on disk
		c := dialBench(m.socket, true)
		defer c.c.Close()
		some := func() bool {
			for range 10 {
				c.unlock(c.lock(filepath.Join(m.files, "brief"), wire.Attached))
			}
			segment, text = log()
			text = text[:bytes.LastIndexByte(text, '\n')+1]
			synced = provenOnDisk(t, text)
			return bytes.Count(text[synced:], []byte("\n")) >= 6
		}
		if !eventually(some) {
			t.Fatal("whatever is written is on disk at once")
		}
	})
	given := uint64(bytes.Count(text, []byte("\n"))) // a first segment has them all

	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	step := max(1, (len(text)-synced)/3)
	if os.Getenv("LOCKER_TEST_ALL") != "" {
		step = max(1, step/12)
	}
	images := 0
	for at := synced + rng.IntN(step); at <= len(text); at += step {
		for kind, damage := range map[string]func(rest []byte) []byte{
			"torn":    func([]byte) []byte { return nil },
			"zeroed":  func(rest []byte) []byte { clear(rest); return rest },
			"garbled": func(rest []byte) []byte { rng := rand.NewChaCha8([32]byte{byte(at)}); rng.Read(rest); return rest },
			"one bit": func(rest []byte) []byte { rest[0] ^= 1; return rest },
		} {
			if at == len(text) && kind == "one bit" {
				continue
			}
			images++
			t.Run(fmt.Sprintf("%s at %d of %d", kind, at-synced, len(text)-synced), func(t *testing.T) {
				m := *m
				m.t = t
				disk := filepath.Join(m.dir, fmt.Sprint("disk-", images))
				if err := os.MkdirAll(filepath.Join(disk, "audit"), 0o750); err != nil {
					t.Fatal(err)
				}
				image := slices.Concat(text[:at], damage(bytes.Clone(text[at:])))
				if err := os.WriteFile(filepath.Join(disk, "audit", segment), image, 0o640); err != nil {
					t.Fatal(err)
				}
				m.afterPowerCut(disk, given, bytes.Equal(image, text))
				os.RemoveAll(disk)
			})
		}
	}
	t.Logf("%d images of %d bytes that were not synced", images, len(text)-synced)
	if t.Failed() {
		t.Logf("seed %d", seed)
	}
}

// provenOnDisk is where the records end that a later one knows to be on disk. No other was waited for.
func provenOnDisk(t *testing.T, text []byte) (end int) {
	t.Helper()
	synced, ends := uint64(0), map[uint64]int{}
	for line := range bytes.Lines(text) {
		r, err := audit.ParseLine(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			t.Fatal(err)
		}
		end += len(line)
		ends[r.Seq], synced = end, max(synced, r.Synced)
	}
	return ends[synced]
}

// afterPowerCut starts lockerd with that disk.
func (m *machine) afterPowerCut(disk string, given uint64, sound bool) {
	m.t.Helper()
	m.run(disk, func() {
		held := m.held()
		for _, name := range []string{"detached", "shared", "durable"} {
			if held[name] == 0 || held[name] > given || m.free(name) {
				m.t.Errorf("%s: token %d, free %v", name, held[name], m.free(name))
			}
		}
		for _, name := range []string{"attached", "brief"} {
			if held[name] != 0 || !m.free(name) {
				m.t.Errorf("%s: token %d, free %v, and its process is of another boot", name, held[name], m.free(name))
			}
		}
		c := dialBench(m.socket, true)
		defer c.c.Close()
		if token := c.lock(filepath.Join(m.files, "new"), wire.Attached); token <= given {
			m.t.Errorf("token %d after %d", token, given)
		}
	}, filepath.Join(m.h.bin, "rebooted"), m.bootID)
	dir := filepath.Join(disk, "audit")
	rep, err := audit.Verify(dir)
	if err != nil || len(rep.Problems) > 0 || rep.Clean {
		m.t.Errorf("verify: %v %+v", err, rep)
	}
	named, ended := false, false
	err = audit.Read(dir, audit.Filter{}, func(_ []byte, r *audit.Record) error {
		switch r.Event {
		case audit.EventRecovered:
			named = r.Code == "torn" && r.Target != "" && r.Count > 0 || r.Code == "unclean"
		case audit.EventDeath:
			ended = ended || filepath.Base(r.Path) == "attached" && strings.Contains(r.Text, "machine")
		case audit.EventResume:
			if r.Gap <= 0 {
				m.t.Errorf("record %d says nothing of the gap", r.Seq)
			}
		}
		return nil
	})
	if err != nil || !named || !ended {
		m.t.Errorf("damage named %v, the attached lock's end %v, %v", named, ended, err)
	}
}
