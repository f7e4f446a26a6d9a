package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// testparmSays gives the shares of a real output: testdata/doctor/testparm/NAME.txt is what "testparm -s --suppress-prompt
// NAME.conf" of Samba 4.17.12 prints.
func testparmSays(t *testing.T, name string, homes ...string) map[string]share {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/doctor/testparm", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	shares := map[string]share{}
	for _, s := range parseTestparm(string(text), homes) {
		shares[s.name] = s
	}
	return shares
}

func TestShareIsJudgedByTheMatrix(t *testing.T) {
	const (
		oplocks  = "unless the client has an oplock"
		netatalk = "or set fruit:locking = netatalk"
		fruit    = "or set vfs objects = fruit streams_xattr and fruit:locking = netatalk"
	)
	tests := []struct {
		file, share string
		kept        kept
		says        []string
	}{
		{"four", "default", keptPartly, []string{"opens succeed", oplocks, netatalk}},
		{"four", "netatalk", keptYes, nil},
		{"four", "tm", keptNo, []string{"only with guard, " + netatalk, "switches posix locking off"}},
		{"four", "tm-netatalk", keptYes, nil},
		{"four", "tm-posix", keptNo, []string{"only with guard, " + netatalk, "switches posix locking off"}},
		{"four", "no-fruit", keptPartly, []string{oplocks, fruit}},
		{"four", "other", keptPartly, []string{oplocks, fruit}},
		{"four", "no-posix", keptNo, []string{"only with guard, " + fruit, "posix locking = no"}},
		{"four", "strict", keptPartly, []string{"reads and writes are refused; guard", fruit}},
		{"four", "lax", keptNo, []string{"only with guard", "strict locking = no"}},
		{"four", "no-locking", keptNo, []string{"only with guard", "(locking = no)"}},
		{"four", "gluster", keptNo, []string{"glusterfs goes past this machine's kernel"}},
		{"four", "off", keptYes, []string{"not served"}},
		{"global", "Macs", keptYes, nil},
		{"global", "copied", keptYes, nil},
		{"global", "stock", keptNo, []string{"switches posix locking off"}},
		{"global", "not tm", keptPartly, []string{oplocks}},
		{"global", "bare", keptPartly, []string{fruit}},
		{"hostile", "bytes\xff\xfe", keptYes, nil},
		{"hostile", `say "yes"`, keptUnknown, []string{`"x\x1b]0;title\a" is unknown to Samba`}},
	}
	for _, tt := range tests {
		s, ok := testparmSays(t, tt.file)[tt.share]
		if !ok {
			t.Errorf("%s.txt: no share %q", tt.file, tt.share)
			continue
		}
		v := judgeShare("/p", s, usual())
		if v.kept != tt.kept {
			t.Errorf("share %q: %v (%s), want %v", tt.share, v.kept, v.why, tt.kept)
		}
		for _, words := range tt.says {
			if !strings.Contains(v.why, words) {
				t.Errorf("share %q: says %q, want %q in it", tt.share, v.why, words)
			}
		}
		if tt.says == nil && v.why != "" {
			t.Errorf("share %q: says %q, want nothing", tt.share, v.why)
		}
	}
}

func TestShareIsNotKeptOutByALockThatIsWorthNothing(t *testing.T) {
	shares := testparmSays(t, "four")
	tests := []struct {
		share string
		w     worth
		kept  kept
		why   string
	}{
		{"netatalk", worth{ofd: keptNo, why: "no ofd"}, keptNo, "only with guard (no ofd)"},
		{"default", worth{ofd: keptNo, why: "no ofd"}, keptNo, "only with guard (no ofd)"},
		{"netatalk", worth{ofd: keptUnknown, why: "not tried"}, keptUnknown, "not tried"},
		{"default", worth{ofd: keptUnknown, why: "not tried"}, keptUnknown, "not tried"},
		{"tm", worth{ofd: keptUnknown, why: "not tried"}, keptNo, "only with guard, or set fruit:locking = netatalk (fruit:time machine = yes switches posix locking off)"},
		{"off", worth{ofd: keptNo, why: "no ofd"}, keptYes, whyUnavailable},
	}
	for _, tt := range tests {
		if v := judgeShare("/p", shares[tt.share], tt.w); v.kept != tt.kept || v.why != tt.why {
			t.Errorf("share %s, lock worth %v: %v %q, want %v %q", tt.share, tt.w, v.kept, v.why, tt.kept, tt.why)
		}
	}
}

func TestSettingsWithoutAModuleMeanNothing(t *testing.T) {
	base := share{available: true, locking: true, posix: true, strict: "auto", oplocks: true, fruitLocks: "none"}
	with := func(change func(*share)) share {
		s := base
		change(&s)
		return s
	}
	tests := []struct {
		name string
		s    share
		kept kept
	}{
		{"time machine, no fruit", with(func(s *share) { s.timeMachine = true }), keptPartly},
		{"netatalk, no fruit", with(func(s *share) { s.fruitLocks = "netatalk" }), keptPartly},
		{"netatalk, posix and locking off", with(func(s *share) { s.fruit, s.fruitLocks, s.posix, s.locking = true, "netatalk", false, false }), keptYes},
		{"netatalk past the kernel", with(func(s *share) {
			s.fruit, s.fruitLocks, s.objects = true, "netatalk", []string{"fruit", "/usr/lib/ceph_new.so:x"}
		}), keptNo},
		{"no oplocks", with(func(s *share) { s.oplocks = false }), keptPartly},
	}
	for _, tt := range tests {
		if v := judgeShare("", tt.s, usual()); v.kept != tt.kept {
			t.Errorf("%s: %v %q, want %v", tt.name, v.kept, v.why, tt.kept)
		}
	}
}

func TestShareServesWhatItsPathCovers(t *testing.T) {
	tests := []struct {
		file, share, path string
		serves            bool
	}{
		{"four", "tm", "/srv/tm", true},
		{"four", "tm", "/srv/tm/a/b", true},
		{"four", "tm", "/srv/tm2", false},
		{"four", "tm", "/srv", true}, // it is below
		{"four", "tm", "/", true},
		{"macros", "machines", "/srv/tm/alice-mac/data", true},
		{"macros", "machines", "/srv/tm/alice-mac/data/x.sparsebundle", true},
		{"macros", "machines", "/srv/tm/alice/mac/data", false},
		{"macros", "machines", "/srv/tm/alice/x-mac/data", false}, // a macro is one component at most
		{"macros", "machines", "/srv/tm/alice-x/mac/data", false},
		{"macros", "machines", "/srv/tm/alice-mac/other", false},
		{"macros", "machines", "/srv/tm", true},
		{"macros", "machines", "/srv/tmp", false},
		{"macros", "mine", "/home/alice/Shared/x", true}, // %H is a path
		{"macros", "mine", "/home/alice/Share", false},
		{"macros", "named", "/srv/by-name/named/x", true}, // %S is the share
		{"macros", "named", "/srv/by-name/other", false},
		{"macros", "with space", "/srv/with space/x/y", true},
		{"macros", "with space", "/srv/with space", true},
		{"macros", "homes", "/home/alice/mac.sparsebundle", true},
		{"macros", "homes", "/home", true},
		{"macros", "homes", "/home/bob", false},
		{"hostile", "bytes\xff\xfe", "/srv/bytes\xe9/x", true},
		{"hostile", "bytes\xff\xfe", "/srv/bytes\xc3", false},
	}
	for _, tt := range tests {
		s, ok := testparmSays(t, tt.file, "/home/alice")[tt.share]
		if !ok {
			t.Errorf("%s.txt: no share %q", tt.file, tt.share)
		} else if got := s.serves(tt.path); got != tt.serves {
			t.Errorf("share %q of path %q serves %q: %v, want %v", tt.share, s.path, tt.path, got, tt.serves)
		}
	}
}

func TestPrintersAndIPCAreNoShares(t *testing.T) {
	shares := testparmSays(t, "macros")
	for _, name := range []string{"printers", "IPC$", "global"} {
		if _, ok := shares[name]; ok {
			t.Errorf("%s counts as a share", name)
		}
	}
	if got := shares["machines"].macros; !slices.Equal(got, []string{"%U", "%m"}) {
		t.Errorf("macros of machines: %q", got)
	}
}

func TestPlaceOfAnyPatternIsFoundInLinearTime(t *testing.T) {
	p, macros := placeOf("/" + strings.Repeat("%Hx%U", 200) + "/end%")
	if p.has("/" + strings.Repeat("x", 4000)) {
		t.Error("it has a path that does not end in /end%")
	}
	if len(macros) != 2 {
		t.Errorf("macros %q", macros)
	}
	for pattern, path := range map[string]string{
		"/":              "/anything",
		"%$(HOME)/tm":    "/home/a/tm/b",
		"/a%":            "/a%/b",
		"/%D/%U":         "/dom/user",
		"/x%D":           "/x", // %D may be empty
		"/srv/%U/../tm/": "/srv/tm/x",
	} {
		if p, _ := placeOf(pattern); !p.has(path) {
			t.Errorf("%q does not have %q: %+v", pattern, path, p)
		}
	}
}

func TestShareIsFoundThroughSymbolicLinks(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(dir+"/data/alice", 0o755), os.Symlink("data", dir+"/srv")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir + "/srv", dir + "/srv/%U", dir + "/srv/al%m"} {
		s := share{name: "s", path: path}
		s.settle(nil)
		if s.serves(dir + "/data/alice") {
			t.Errorf("%s serves what it leads to before its links are followed: the test shows nothing", path)
		}
		shares := []share{s}
		patientDoctor().followLinks(t.Context(), shares)
		for _, where := range []string{"/data/alice", "/data/alice/x", "/srv/alice"} {
			if !shares[0].serves(dir + where) {
				t.Errorf("%s does not serve %s", path, where)
			}
		}
		if shares[0].serves(dir + "/other") {
			t.Errorf("%s serves /other", path)
		}
	}
}

// patientDoctor is a doctor for whom a busy machine is in time, too.
func patientDoctor() *doctor {
	d := newDoctor()
	d.patience = patience
	return d
}

// fakeTestparm puts a program named testparm into a new directory.
func fakeTestparm(t *testing.T, script string) *doctor {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "testparm"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	d := patientDoctor()
	d.proc = t.TempDir() // nobody runs
	d.programs = programs{dirs: []string{dir}}
	return d
}

func TestTestparmThatHangsIsKilledWithItsChildren(t *testing.T) {
	var pids []string
	for patience := time.Second; len(pids) != 2; patience *= 2 { // until both pids are written in time
		if patience > time.Minute {
			t.Fatalf("pids %q", pids)
		}
		d := fakeTestparm(t, "echo $$ >$0.pid\nsleep 1000 &\necho $! >>$0.pid\nsleep 1000\n")
		d.patience = patience
		s := d.lookAtSamba(t.Context())
		if !errors.Is(s.err, errNoAnswer) || len(s.shares) != 0 {
			t.Fatalf("shares %v, error %v; want %v", s.shares, s.err, errNoAnswer)
		}
		if v, ok := s.unknown("/p"); !ok || v.kept != keptUnknown || v.why != "testparm: no answer within "+patience.String() {
			t.Errorf("verdict %v", v)
		}
		text, err := os.ReadFile(filepath.Join(d.programs.dirs[0], "testparm.pid"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		pids = strings.Fields(string(text))
	}
	for _, pid := range pids {
		eventually(t, "the end of process "+pid, func() bool {
			stat, err := os.ReadFile("/proc/" + pid + "/stat")
			return err != nil || strings.Contains(string(stat), ") Z ")
		})
	}
}

func TestTestparmThatFailsIsNoAnswer(t *testing.T) {
	tests := []struct {
		script string
		want   string // in the error
	}{
		{"echo 'Load smb config' >&2; printf 'Error \\033[31mloading\\n' >&2; exit 1\n", "exit status 1: Error \x1b[31mloading"},
		{"exec yes\n", // at once, not when the time is over
			errTooMuch.Error()},
		{"kill -9 $$\n", "signal: killed"},
	}
	for _, tt := range tests {
		s := fakeTestparm(t, tt.script).lookAtSamba(t.Context())
		if s.err == nil || !strings.Contains(s.err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.script, s.err, tt.want)
			continue
		}
		v, ok := s.unknown("")
		if !ok || v.kept != keptUnknown || !clean(strings.NewReplacer(`"`, "", `\`, "").Replace(v.why)) {
			t.Errorf("%s: verdict %v %q", tt.script, v.kept, v.why)
		}
	}
}

func TestWithoutTestparmOnlyARunningSmbdIsAnUnknown(t *testing.T) {
	d := newDoctor()
	d.programs = programs{dirs: []string{t.TempDir()}}
	d.proc = t.TempDir()
	s := d.lookAtSamba(t.Context())
	if v, ok := s.unknown(""); s.running || s.testparm != "" || ok {
		t.Errorf("no testparm, no smbd: %+v, verdict %v", s, v)
	}
	if err := errors.Join(os.Mkdir(d.proc+"/7", 0o755), os.WriteFile(d.proc+"/7/comm", []byte("smbd\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	s = d.lookAtSamba(t.Context())
	if v, ok := s.unknown(""); !s.running || !ok || v.kept != keptUnknown {
		t.Errorf("no testparm, but an smbd: %+v, verdict %v", s, v)
	}
}

func TestHomesAreThoseOfPeople(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	text := "root:x:0:0::/root:/bin/sh\nbin:x:2:2::/bin:/x\nalice:x:1000:1000:,:/home/alice:/bin/sh\nbob:x:1001:1:x:/home/alice/:/x\n" +
		"nobody:x:65534:65534::/nonexistent:/x\nbroken:x:1002\nodd:x:1003:1::relative:/x\nall:x:1004:1::/:/x\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if homes, err := homeDirs(file); err != nil || !slices.Equal(homes, []string{"/root", "/home/alice"}) {
		t.Errorf("homes %q, %v", homes, err)
	}
}
