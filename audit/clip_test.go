package audit

import (
	"os"
	"strings"
	"testing"
)

func TestTextThatIsTooLongLeavesItsHash(t *testing.T) {
	dir := t.TempDir() + "/audit"
	l := openLog(t, Config{Dir: dir})
	long := strings.Repeat("\xff", 100000)
	r := grant(long)
	r.Target, r.User, r.Command, r.Mode, r.Life, r.Tag, r.Reason, r.Rule, r.Code, r.Text, r.SHA256, r.By, r.BootID = long, long, long, long, long, long, long, long, long, long, long, long, long
	rests := make([]string, 100)
	for i := range rests {
		rests[i] = long
	}
	r.Rests = rests
	putRec(t, l, r, true)
	if rests[0] != long {
		t.Error("the caller's slice was changed")
	}
	closeLog(t, l)
	text, err := os.ReadFile(segmentFiles(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	longest := 0
	for line := range strings.Lines(string(text)) {
		longest = max(longest, len(line))
	}
	if longest > maxLine || longest < 50000 {
		t.Errorf("longest line %d bytes", longest)
	}
	verifyClean(t, dir)
	l = openLog(t, Config{Dir: dir})
	h := l.Replayed().Holds()
	if len(h) != 1 || len(h[0].Grant.Path) != maxPathText || !strings.Contains(h[0].Grant.Path, "...sha256:") {
		t.Errorf("%d holds", len(h))
	}
}
