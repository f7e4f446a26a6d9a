package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// twoSegments makes a log of about 60 records in two segments that ended with a stop, or was killed.
func twoSegments(t testing.TB, stop bool) string {
	dir := t.TempDir() + "/audit"
	l := openLog(t, Config{Dir: dir, SegmentSize: 14 << 10})
	for i := 0; l.Health().Seq < 58 || i%5 != 0; i++ {
		r := &Record{Event: EventDeny, Peer: true, UID: 1000, GID: 1000, Path: "/srv/\xff", Code: "denied"}
		switch i % 5 {
		case 1:
			r = grant("/srv/a")
		case 3:
			r = release(l.State().Holds()[0].Grant.ID)
			if i%10 == 3 {
				r = &Record{Event: EventBreak, ID: r.ID, Grace: 1, By: "root"}
			}
		}
		putRec(t, l, r, false)
	}
	if stop {
		putRec(t, l, &Record{Event: EventStop}, true)
	}
	closeLog(t, l)
	if n := len(segmentFiles(t, dir)); n != 2 {
		t.Fatalf("%d segments", n)
	}
	return dir
}

// found says which seqs Verify complains about.
func found(t testing.TB, dir string) (seqs []uint64, text string) {
	t.Helper()
	rep, err := Verify(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, p := range rep.Problems {
		seqs = append(seqs, p.Seq)
		fmt.Fprintf(&b, "%s:%d seq %d: %s\n", p.Segment, p.Line, p.Seq, p.Text)
	}
	return seqs, b.String()
}

// near says that one of the seqs is that record or its neighbour: an edit may show in the link between two.
func near(seqs []uint64, seq uint64) bool {
	return slices.ContainsFunc(seqs, func(s uint64) bool { return s+1 >= seq && s <= seq+1 })
}

func TestEverySingleByteEditOfALogIsFound(t *testing.T) {
	dir := twoSegments(t, true)
	verifyClean(t, dir)
	step := stride(7)
	begin := seedOf(t).IntN(step)
	edits := 0
	for _, file := range segmentFiles(t, dir) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		first, _ := segFirst(filepath.Base(file))
		for i := range text {
			if i%step != begin && i < len(text)-3 { // the last bytes always: no prev covers them
				continue
			}
			for _, c := range []byte{text[i] ^ 1, '\n', '}', byte(i*7 + 3)} {
				if c == text[i] {
					continue
				}
				if _, err := f.WriteAt([]byte{c}, int64(i)); err != nil {
					t.Fatal(err)
				}
				edits++
				seqs, problems := found(t, dir)
				seq := first + uint64(bytes.Count(text[:i], []byte("\n")))
				if !near(seqs, seq) {
					t.Fatalf("%s byte %d %q → %q in record %d: found %q", file, i, text[i], c, seq, problems)
				}
			}
			if _, err := f.WriteAt(text[i:i+1], int64(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	verifyClean(t, dir)
	t.Logf("%d edits", edits)
}

func TestSwappedDroppedAndCopiedLinesAreFound(t *testing.T) {
	for _, stop := range []bool{true, false} {
		dir := twoSegments(t, stop)
		for _, file := range segmentFiles(t, dir) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			first, _ := segFirst(filepath.Base(file))
			lines := bytes.SplitAfter(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
			lines[len(lines)-1] = append(slices.Clip(lines[len(lines)-1]), '\n')
			newest := file == segmentFiles(t, dir)[1]
			try := func(what string, at int, edited ...[][]byte) {
				t.Helper()
				if err := os.WriteFile(file, bytes.Join(slices.Concat(edited...), nil), 0o640); err != nil {
					t.Fatal(err)
				}
				if seqs, problems := found(t, dir); !near(seqs, first+uint64(at)) {
					t.Fatalf("%s of record %d: found %q", what, first+uint64(at), problems)
				}
			}
			for i := range lines {
				if i+1 < len(lines) || !newest { // a cut at the very end shows in Head, Last and Clean only
					try("drop", i, lines[:i], lines[i+1:])
				}
				try("copy", i, lines[:i+1], lines[i:])
				try("copy at the end", i, lines, lines[i:i+1])
				try("copy at the beginning", i, lines[i:i+1], lines)
				if i > 0 {
					try("swap", i, lines[:i-1], [][]byte{lines[i], lines[i-1]}, lines[i+1:])
					if !newest {
						try("cut", i, lines[:i])
					}
				}
			}
			if err := os.WriteFile(file, text, 0o640); err != nil {
				t.Fatal(err)
			}
		}
		verifyClean(t, dir)
	}
}

func TestMissingAndSwappedSegmentsAreFound(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := openLog(t, Config{Dir: dir, SegmentSize: 14 << 10})
	for len(segmentFiles(t, dir)) < 4 {
		putRec(t, l, release(putRec(t, l, grant("/srv/a"), false)), false)
	}
	must(t, l, &Record{Event: EventStop})
	closeLog(t, l)
	verifyClean(t, dir)
	files := segmentFiles(t, dir)
	var firsts []uint64
	for _, file := range files {
		first, _ := segFirst(filepath.Base(file))
		firsts = append(firsts, first)
	}
	aside := dir + "/aside"
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for i, file := range files[:3] {
		rename(file, aside)
		seqs, problems := found(t, dir)
		if !slices.Contains(seqs, firsts[i]) {
			t.Errorf("without %s: %q", file, problems)
		}
		t.Log(problems)
		rename(aside, file)
	}
	for i := range files {
		for j := range i {
			rename(files[i], aside)
			rename(files[j], files[i])
			rename(aside, files[j])
			if seqs, problems := found(t, dir); !slices.Contains(seqs, firsts[i]) && !slices.Contains(seqs, firsts[j]) {
				t.Errorf("%s and %s swapped: %q", files[i], files[j], problems)
			}
			rename(files[i], aside)
			rename(files[j], files[i])
			rename(aside, files[j])
		}
	}
	text, _ := os.ReadFile(files[1])
	for _, name := range []string{segName(firsts[1] + 1), segName(firsts[3] + 1000), segName(firsts[0] + 1)} {
		copied := filepath.Join(dir, name)
		if err := os.WriteFile(copied, text, 0o640); err != nil {
			t.Fatal(err)
		}
		if seqs, _ := found(t, dir); len(seqs) == 0 {
			t.Errorf("a copy of segment 2 as %s is not found", name)
		}
		os.Remove(copied)
	}
	verifyClean(t, dir)
}

func TestACheckpointThatIsNotTheSumIsFound(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := openLog(t, Config{Dir: dir})
	id := must(t, l, grant("/srv/a"))
	must(t, l, grant("/srv/b"))
	// A lockerd that forgets a hold, chain and all.
	l.mu.Lock()
	l.state.drop(l.state.live[id])
	l.mu.Unlock()
	must(t, l, &Record{Event: EventStop})
	closeLog(t, l)
	l = openLog(t, Config{Dir: dir}) // its checkpoint is right: made from the records
	l.mu.Lock()
	l.state.drop(l.state.live[id])
	l.mu.Unlock()
	l.mu.Lock()
	l.cur.space = 0 // rotate
	l.mu.Unlock()
	putRec(t, l, &Record{Event: EventDeny}, true)
	putRec(t, l, &Record{Event: EventDeny}, true)
	_, problems := found(t, dir)
	if !strings.Contains(problems, fmt.Sprintf("hold %d differs", id)) {
		t.Errorf("found %q", problems)
	}
}

func TestALiveLogVerifiesWithAnUnfinishedLastLine(t *testing.T) {
	dir := twoSegments(t, false)
	file := segmentFiles(t, dir)[1]
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
	for cut := last; cut < len(text); cut++ {
		if err := os.WriteFile(file, text[:cut], 0o640); err != nil {
			t.Fatal(err)
		}
		rep := verifyClean(t, dir)
		if cut > last && len(rep.Notes) != 1 || cut == last && len(rep.Notes) != 0 || rep.Clean {
			t.Fatalf("cut at %d of %d: %+v", cut, len(text), rep)
		}
	}
}
