package audit

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// quiet stands still as long as a log that was changed under lockerd may take to notice.
const quiet = 50 * time.Millisecond

func TestALogChangedUnderLockerdIsNoticedWithin50ms(t *testing.T) {
	for what, c := range map[string]struct {
		change func(file string) error
		code   string
	}{
		"deleted": {os.Remove, codeDeleted},
		"renamed": {func(file string) error { return os.Rename(file, file+".old") }, codeDeleted},
		"replaced": {func(file string) error {
			return errors.Join(os.Rename(file, file+".old"), os.WriteFile(file, nil, 0o640))
		}, codeDeleted},
		"emptied":   {func(file string) error { return os.Truncate(file, 0) }, codeTruncated},
		"cut short": {func(file string) error { return os.Truncate(file, 1000) }, codeTruncated},
	} {
		for _, busy := range []bool{true, false} {
			t.Run(what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dir := t.TempDir() + "/audit"
					warned := ""
					l, err := Open(Config{Dir: dir, GID: -1, Warn: func(msg string, kv ...any) { warned = msg }})
					if err != nil {
						t.Fatal(err)
					}
					var ids []uint64
					for range 20 {
						ids = append(ids, putRec(t, l, grant("/srv/a"), false))
					}
					<-time.After(quiet)
					file := segmentFiles(t, dir)[0]
					if err := c.change(file); err != nil {
						t.Fatal(err)
					}
					var after uint64
					if busy { // it is noticed with the next record, and that is not lost
						after = putRec(t, l, release(ids[0]), false)
						<-time.After(quiet)
					} else {
						<-time.After(lookEvery)
					}
					synctest.Wait()
					files := segmentFiles(t, dir)
					if newest := files[len(files)-1]; filepath.Base(newest) == filepath.Base(file) || filepath.Base(newest) != l.Health().Segment {
						t.Fatalf("segments %v, current %s", files, l.Health().Segment)
					}
					if warned == "" {
						t.Error("nobody was warned")
					}
					putRec(t, l, grant("/srv/b"), true)
					must(t, l, &Record{Event: EventStop})
					state := l.State()
					closeLog(t, l)

					var gap *Record
					var have []uint64
					err = Read(dir, Filter{First: ids[len(ids)-1] + 1}, func(_ []byte, r *Record) error {
						have = append(have, r.Seq)
						if r.Event == EventGap {
							gap = &Record{First: r.First, Last: r.Last, Code: r.Code, Target: r.Target}
						}
						return nil
					})
					if err != nil && c.code != codeTruncated {
						t.Fatal(err)
					}
					if gap == nil || gap.First != 1 || gap.Last != ids[len(ids)-1] || gap.Code != c.code || gap.Target != filepath.Base(file) {
						t.Errorf("gap %+v", gap)
					}
					if busy && !slices.Contains(have, after) {
						t.Errorf("record %d is gone", after)
					}
					// It is a problem, with the explanation beside it, and what follows is whole.
					seqs, problems := found(t, dir)
					if len(seqs) == 0 || !strings.Contains(problems, "gap record") && c.code == codeDeleted {
						t.Errorf("verify: %s", problems)
					}
					l = openLog(t, Config{Dir: dir, FS: fast})
					sameState(t, "after all", l.Replayed(), state)
					closeLog(t, l)
				})
			})
		}
	}
}

func TestADirectoryThatIsGoneIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir() + "/audit"
		l, err := Open(Config{Dir: dir, GID: -1})
		if err != nil {
			t.Fatal(err)
		}
		id := putRec(t, l, grant("/srv/a"), true)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		must(t, l, release(id))
		<-time.After(quiet)
		<-time.After(3 * retryEvery)
		if h := l.Health(); !errors.Is(h.Err, ErrFailed) {
			t.Fatalf("health %+v", h)
		}
		if _, err := l.Append(grant("/srv/a")); !errors.Is(err, ErrFailed) {
			t.Errorf("grant: %v", err)
		}
		if err := l.Close(); !errors.Is(err, ErrFailed) {
			t.Errorf("close: %v", err)
		}
	})
}
