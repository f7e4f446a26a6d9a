package authz

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// bin makes a directory with a program smbd, a link alias to it, a link gone to nothing, a file that is no program, and a link loop.
func bin(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "smbd"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "text"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"alias": "smbd", "gone": "nowhere", "loop": "loop", "sbin": "."} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestProgramsOfTheGuardAreKnownByTheNameTheKernelShows(t *testing.T) {
	dir := bin(t)
	for _, c := range []struct {
		named, want, doubted []string
	}{
		{[]string{"smbd"}, []string{"smbd"}, nil},
		{[]string{"alias"}, []string{"smbd"}, nil},
		{[]string{"sbin/alias"}, []string{"smbd"}, nil},
		{[]string{"alias", "smbd", "sbin/smbd"}, []string{"smbd"}, nil}, // one program, once
		{[]string{"gone", "smbd"}, []string{"gone", "smbd"}, []string{"gone"}},
		{[]string{"later"}, []string{"later"}, []string{"later"}},
		{[]string{"loop"}, []string{"loop"}, []string{"loop"}},
		{[]string{"text"}, []string{"text"}, []string{"text"}},
		{[]string{"smbd/x"}, []string{"smbd/x"}, []string{"smbd/x"}},
	} {
		p := &Policy{}
		for _, name := range c.named {
			p.Guard = append(p.Guard, filepath.Join(dir, name))
		}
		if err := p.findPrograms(); err != nil {
			t.Fatal(err)
		}
		for i := range c.want {
			c.want[i] = filepath.Join(dir, c.want[i])
		}
		if !slices.Equal(p.Guard, c.want) {
			t.Errorf("%q: got %q, want %q", c.named, p.Guard, c.want)
		}
		doubts := p.Doubts()
		if len(doubts) != len(c.doubted) {
			t.Errorf("%q: doubts %q, want some about %q", c.named, doubts, c.doubted)
			continue
		}
		for i, name := range c.doubted {
			if !strings.Contains(doubts[i], fmt.Sprintf("%q", filepath.Join(dir, name))) {
				t.Errorf("%q: doubt %q is not about %s", c.named, doubts[i], name)
			}
		}
	}
}

func TestNamesThatBecomeTooLongForTheGuardAreRefused(t *testing.T) {
	dir := bin(t)
	deep := filepath.Join(dir, strings.Repeat("d/", 60)+strings.Repeat("x", 200))
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(deep, filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	p := &Policy{}
	for i := range maxPrograms {
		name := fmt.Sprint("p", i)
		if err := os.WriteFile(filepath.Join(deep, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
		p.Guard = append(p.Guard, filepath.Join(dir, "l", name))
	}
	if err := checkPrograms(p.Guard); err != nil {
		t.Fatalf("as they are named: %v", err)
	}
	if err := p.findPrograms(); err == nil || !strings.Contains(err.Error(), "with symbolic links resolved") {
		t.Errorf("got %v", err)
	}
}

func TestAPolicyThatIsOnlyParsedTouchesNoFile(t *testing.T) {
	dir := bin(t)
	p := parse(t, head+"[guard]\ndeny = [\""+dir+"/alias\"]\n")
	if want := []string{dir + "/alias"}; !slices.Equal(p.Guard, want) || p.Doubts() != nil {
		t.Errorf("got %q and doubts %q, want %q", p.Guard, p.Doubts(), want)
	}
}
