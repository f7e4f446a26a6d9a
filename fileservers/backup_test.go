package fileservers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// tool is a backup program: the command that is run under the lock, and how to get back what it saved.
type tool struct {
	name   string
	init   string // once
	backup string // of $BUNDLE; may use $REPO
	back   string // into the empty directory $OUT
}

// The commands of docs/timemachine.md.
var tools = []tool{
	{"restic", `restic -q init`, `restic -q backup "$BUNDLE"`, `restic -q restore latest --target "$OUT"`},
	{"borg", `borg init -e none "$REPO"`, `borg create "$REPO::{utcnow}" "$BUNDLE"`, `cd "$OUT" && borg extract "$REPO::$(borg list --short --last 1 "$REPO")"`},
	{"rsync", `mkdir "$REPO"`, `rsync -a --checksum --delete "$BUNDLE/" "$REPO/"`, `cp -a "$REPO/." "$OUT"`},
}

// A Mac goes on writing whenever it can, and what is saved under the lock is, each time, one whole generation: that of the moment
// when the lock was had.
func TestBackupsUnderALockAreWholeWhileAMacGoesOnWriting(t *testing.T) {
	rounds := 3
	if os.Getenv("LOCKER_TEST_ALL") != "" {
		rounds = 20
	}
	needSamba(t, "restic", "borg", "rsync")
	for _, tool := range tools {
		t.Run(tool.name, func(t *testing.T) {
			s := newSite(t)
			// smbd looks for others' locks, and then sets its own: a lock that comes between the two has another name.
			tool.saves(t, s, startSmbd(t, s.dir, settings[1]), rounds, "SHARING_VIOLATION", "LOCK_NOT_GRANTED")
		})
		// The Time Machine share that sees no lock, as it comes. Fewer rounds, so that the suite ends in time.
		t.Run(tool.name+" with guard", func(t *testing.T) {
			s := newSite(t, programOf(t, "smbd"))
			trial{guard: true}.hold(s) // so that it is there
			s.do(s.locker("unlock", s.bundle()))
			tool.saves(t, s, startSmbd(t, s.dir, settings[2]), min(rounds, 5), "ACCESS_DENIED")
		})
	}
}

// saves has a tool save the bundle so many times, each under the lock, while a Mac goes on writing, who is told one of refusals while he
// is kept out.
func (tool tool) saves(t *testing.T, s *site, server *served, rounds int, refusals ...string) {
	t.Helper()
	repo := filepath.Join(t.TempDir(), "repo")
	env := append(os.Environ(), "BUNDLE="+s.bundle(), "REPO="+repo, "RESTIC_REPOSITORY="+repo, "RESTIC_PASSWORD=x", "RESTIC_CACHE_DIR="+t.TempDir(),
		"BORG_BASE_DIR="+t.TempDir(), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "LOCKER_SOCKET="+s.socket)
	shell := func(script string, more ...string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", script)
		cmd.Env = append(env, more...)
		return cmd
	}
	s.do(shell(tool.init))
	stop := s.writesOn(server.dial(t), refusals)
	generations := map[string]bool{}
	for round, tries := 0, 0; round < rounds; {
		run := s.locker("run", "-w", "10m", "--reason", "backup", s.bundle(), "--", "sh", "-c", s.unguarded()+`cp -a "$BUNDLE" "$THEN" && `+tool.backup)
		then := filepath.Join(t.TempDir(), "then")
		run.Env = append(env, "THEN="+then)
		if !s.doGuarded(run) {
			if tries++; tries > 5*rounds {
				t.Fatalf("the guard was gone %d times", tries)
			}
			continue
		}
		round++
		out := t.TempDir()
		s.do(shell(tool.back, "OUT="+out))
		restored := out
		if tool.name != "rsync" { // these restore under the whole path
			restored = filepath.Join(out, s.bundle())
		}
		if sum(t, restored) != sum(t, then) {
			t.Errorf("round %d: what comes back is not what was there when the lock was had", round)
		}
		generation := ""
		for i := range bands {
			text, err := os.ReadFile(filepath.Join(restored, "bands", fmt.Sprintf("%x", i)))
			must(t, err)
			if i > 0 && string(text) != generation {
				t.Errorf("round %d: band %d is of %q, others of %q", round, i, text, generation)
			}
			generation = string(text)
		}
		generations[generation] = true
	}
	if wrote := stop(); wrote == 0 || len(generations) < 2 {
		t.Errorf("the Mac wrote %d times, and %d generations were saved: nothing was tried", wrote, len(generations))
	}
}

// writesOn has a Mac write one generation after the other into all bands, with token open meanwhile, until the function that it gives is
// called, which gives their number. What it is refused it tries again: a band, too, since the guard is told just before it is seen that
// the token has been opened.
func (s *site) writesOn(m *mac, refusals []string) (stop func() int) {
	done := make(chan struct{})
	wrote, refused, disturbed := 0, 0, 0
	var work sync.WaitGroup
	work.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			status, token := m.asks("open mac.sparsebundle/token rw -")
			if status != "OK" {
				if refused++; !slices.Contains(refusals, status) {
					s.t.Errorf("open token: %s", status)
				}
				continue
			}
			for i := range bands {
				status, band := m.asks("open mac.sparsebundle/bands/%x rw rw", i)
				for ; slices.Contains(refusals, status); disturbed++ {
					status, band = m.asks("open mac.sparsebundle/bands/%x rw rw", i)
				}
				if status, _ := m.asks("write %s generation-%05d", band, wrote+1); status != "OK" {
					s.t.Errorf("write band %d: %s", i, status)
				}
				m.asks("close %s", band)
			}
			m.asks("close %s", token)
			wrote++
		}
	})
	return func() int {
		close(done)
		work.Wait()
		if refused == 0 {
			s.t.Error("the Mac was never kept out: nothing was tried")
		}
		s.t.Logf("the Mac wrote %d generations, was kept out %d times, and %d times with the token open", wrote, refused, disturbed)
		return wrote
	}
}
