package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestDamageBeforeTheTailIsRefusedUnlessAccepted(t *testing.T) {
	c := cutPower(t, 12)
	dir := t.TempDir() + "/audit"
	head := bytes.IndexByte(c.text, '\n') + 1
	for at := head + 7; at < c.synced-200; at += 211 {
		text := bytes.Clone(c.text)
		text[at] ^= 4
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		for name, text := range c.older {
			os.WriteFile(filepath.Join(dir, name), text, 0o640)
		}
		os.WriteFile(filepath.Join(dir, c.name), text, 0o640)
		if _, err := Open(Config{Dir: dir, GID: -1}); !errors.Is(err, ErrBroken) {
			t.Fatalf("byte %d: open: %v", at, err)
		} else if at == head+7 {
			t.Log(err)
		}
		l, err := Open(Config{Dir: dir, GID: -1, AcceptBroken: true, FS: fast})
		if err != nil {
			t.Fatalf("byte %d: accepted: %v", at, err)
		}
		if seq := must(t, l, grant("/srv/next")); seq <= c.given {
			t.Fatalf("byte %d: token %d after %d had been given", at, seq, c.given)
		}
		closeLog(t, l)
		if rep := verifyClean(t, dir); len(rep.Notes) == 0 {
			t.Fatalf("byte %d: verify says nothing", at)
		}
	}
}

func TestASegmentWithoutAWholeCheckpointFallsBackToTheOneBefore(t *testing.T) {
	c := cutPower(t, 3)
	for what, text := range map[string][]byte{
		"empty": {}, "half a line": c.text[:50], "zeros": make([]byte, 9000), "one line": c.text[:bytes.IndexByte(c.text, '\n')+1],
		"garbage": bytes.Repeat([]byte("x\n"), 100), "one endless line": bytes.Repeat([]byte("y"), 3*maxLine),
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir() + "/audit"
			if err := os.Mkdir(dir, 0o750); err != nil {
				t.Fatal(err)
			}
			want := NewState()
			for name, text := range c.older {
				if err := os.WriteFile(filepath.Join(dir, name), text, 0o640); err != nil {
					t.Fatal(err)
				}
			}
			if err := Read(dir, Filter{}, func(_ []byte, r *Record) error { return want.Apply(r) }); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, c.name), text, 0o640); err != nil {
				t.Fatal(err)
			}
			l := openLog(t, Config{Dir: dir})
			sameState(t, what, l.Replayed(), want)
			if seq := must(t, l, grant("/srv/next")); seq <= c.given {
				t.Fatalf("token %d after %d had been given", seq, c.given)
			}
			closeLog(t, l)
			if kept, err := os.ReadFile(filepath.Join(dir, c.name+".torn-1")); err != nil || !bytes.Equal(kept, text) {
				t.Errorf("kept %d bytes of %d, %v", len(kept), len(text), err)
			}
			verifyClean(t, dir)
		})
	}
	t.Run("nothing to fall back to", func(t *testing.T) {
		dir := t.TempDir() + "/audit"
		if err := os.Mkdir(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(dir, c.name), nil, 0o640)
		if _, err := Open(Config{Dir: dir, GID: -1}); !errors.Is(err, ErrBroken) {
			t.Errorf("open: %v", err)
		}
		l := openLog(t, Config{Dir: dir, AcceptBroken: true})
		if seq := must(t, l, grant("/srv/next")); seq <= c.given {
			t.Errorf("token %d after %d had been given", seq, c.given)
		}
		closeLog(t, l)
		verifyClean(t, dir)
	})
}
