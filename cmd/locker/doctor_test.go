package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"locker/client"
	"locker/wire"
)

// The scripts run the real main with a fake testparm, as nobody where we are root, since root runs none that it finds in the
// PATH. Everything that they use is open to all.
func TestDoctorScripts(t *testing.T) {
	open, err := os.MkdirTemp("", "lk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(open) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(open, 0o755), os.WriteFile(open+"/locker", text, 0o755), os.Chmod(open+"/locker", 0o755)); err != nil {
		t.Fatal(err)
	}
	f := startFake(t, filepath.Join(open, "s"))
	t.Cleanup(f.stop) // the scripts run in parallel, after us
	if err := os.Chmod(f.socket, 0o777); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.well = true
	f.mu.Unlock()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/doctor",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		WorkdirRoot:         open,
		Setup: func(e *testscript.Env) error {
			e.Setenv("LOCKER_SOCKET", f.socket)
			e.Setenv("LANG", "C.UTF-8")
			e.Setenv("LOCKER", filepath.Join(open, "locker"))
			files, err := filepath.Glob("testdata/doctor/testparm/*.txt")
			if err != nil || len(files) == 0 {
				return errors.Join(err, errors.New("no outputs of testparm"))
			}
			if err := os.Mkdir(filepath.Join(e.WorkDir, "outputs"), 0o755); err != nil {
				return err
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err == nil {
					err = os.WriteFile(filepath.Join(e.WorkDir, "outputs", filepath.Base(file)), text, 0o644)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
		Condition: func(cond string) (bool, error) { return cond == "root" && os.Geteuid() == 0, nil },
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"nobody": func(ts *testscript.TestScript, neg bool, args []string) {
				asNobody(ts, filepath.Join(open, "locker"), args)
			},
			"exit":  scriptExit,
			"json":  scriptJSON,
			"plain": scriptPlain,
		},
	})
}

// nobody CODE ARGS...: locker, run by nobody where we are root, exits with just this code. It is asked again as long as somebody whom it asks
// is too late: on a busy machine anybody may be.
func asNobody(ts *testscript.TestScript, locker string, args []string) {
	var code int
	var out, said strings.Builder
	late := func() bool {
		return slices.ContainsFunc([]string{errNoAnswer.Error(), whySilent, context.DeadlineExceeded.Error()}, func(words string) bool {
			return strings.Contains(out.String()+said.String(), words)
		})
	}
	for end := time.Now().Add(patience); ; {
		out.Reset()
		said.Reset()
		if code = onceAsNobody(ts, locker, args, &out, &said); !late() || time.Now().After(end) {
			break
		}
	}
	io.WriteString(ts.Stdout(), out.String())
	io.WriteString(ts.Stderr(), said.String())
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("locker %v: exit code %d, want %s", args[1:], code, args[0])
	}
}

func onceAsNobody(ts *testscript.TestScript, locker string, args []string, out, said io.Writer) (code int) {
	cmd := exec.Command(locker, args[1:]...)
	cmd.Args[0] = "locker"
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "LOCKER_SOCKET", "LANG", "WORK"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	cmd.Stdout, cmd.Stderr = out, said
	if err := cmd.Run(); err != nil {
		var failed *exec.ExitError
		if !errors.As(err, &failed) {
			ts.Fatalf("%v: %v", args, err)
		}
		code = failed.ExitCode()
	}
	return code
}

// specimen is an examination with something of everything, and bytes in it that must not reach a terminal.
func specimen(t *testing.T) *examination {
	t.Helper()
	const evil = "a\x1b[31m\n\xff\u202e\u009b"
	text, err := os.ReadFile("testdata/doctor/testparm/hostile.txt")
	if err != nil {
		t.Fatal(err)
	}
	m := mount{fstype: "fuse." + evil, source: evil, point: "/" + evil, options: []string{"rw", evil}}
	volumes, err := parseAFP("[Global]\n[" + strings.ReplaceAll(evil, "\n", "") + "]\npath = /\x1b\n")
	if err != nil || len(volumes) != 1 {
		t.Fatalf("%v, %v", volumes, err)
	}
	failed := probe{outcomeFails, unix.EINVAL}
	status := answers(&wire.Status{}).(*wire.StatusReply)
	status.PolicyError = evil
	e := &examination{
		paths: []pathReport{
			{path: "/" + evil, real: "/r" + evil, target: "/r" + evil + "/token", kind: kindBundle, engines: []string{"ofd"}, only: whyOFDOnly, mount: &m, magic: 0x65735546,
				test: selfTest{dir: "/" + evil, done: true, ofd: failed, flock: probe{outcome: outcomeTwice}, netatalk: failed, lease: failed, left: evil}},
			{path: "/silent" + evil, silent: true, kind: kindOther},
			{path: "/foreign", foreign: evil, only: sayForeign(evil), kind: kindOther, mount: &m},
		},
		samba:    sambaReport{running: true, testparm: "/" + evil, shares: parseTestparm(string(text), []string{"/" + evil})},
		netatalk: netatalkReport{running: true, afpd: evil, config: evil, err: errors.New(evil), volumes: volumes},
		lockerd: lockerdReport{status: status, capsKnown: true, stateDir: evil, free: 1 << 20,
			checked: true, checkErr: errors.New(evil), err: errors.New(evil), guard: guarding{client.GuardDown, []string{evil}}},
		guard:  guardReport{keptNo, evil},
		kernel: kernelReport{release: evil, ofd: keptNo},
	}
	e.judge()
	for _, s := range e.samba.shares {
		e.verdicts = append(e.verdicts, judgeShare("/"+evil, s, usual()), judgeNetatalk(evil, evil, worth{ofd: keptNo, why: "x"}))
	}
	return e
}

func TestDoctorShowsNothingThatATerminalObeys(t *testing.T) {
	for _, locale := range []string{"C", "C.UTF-8"} {
		t.Setenv("LC_ALL", locale)
		text := specimen(t).text()
		for _, r := range text {
			if r != '\n' && !clean("x"+string(r)+"x") && r != '"' && r != '\\' {
				t.Fatalf("%s: rune %#x in %q", locale, r, text)
			}
		}
		for line := range strings.Lines(text) { // no line of another's making
			if strings.HasPrefix(line, "keeps") || strings.HasPrefix(line, "\\") {
				t.Errorf("%s: line %q", locale, line)
			}
		}
	}
}

func TestDoctorsJSONHasItsShape(t *testing.T) {
	out := specimen(t).object().b
	for _, b := range out {
		if b < ' ' || b >= 0x7f {
			t.Fatalf("byte %#x in %q", b, out)
		}
	}
	var v map[string]any
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	keys := func(at any) string { return strings.Join(slices.Sorted(maps.Keys(at.(map[string]any))), " ") }
	first := func(at any) any { return at.([]any)[0] }
	path := first(v["paths"])
	tests := []struct {
		what, got, want string
	}{
		{"all", keys(v), "fine guard kernel lockerd netatalk paths problems samba verdicts"},
		{"path", keys(path), "answers engines engines_why file_system kind path path_base64 real real_base64 self_test target target_base64"},
		{"file system", keys(path.(map[string]any)["file_system"]), "device device_base64 f_type f_type_name fuse mount_point mount_point_base64 network options read_only type"},
		{"self-test", keys(path.(map[string]any)["self_test"]), "directory directory_base64 done flock lease netatalk ofd separate why"},
		{"samba", keys(v["samba"]), "error running shares testparm testparm_base64"},
		{"share", keys(first(v["samba"].(map[string]any)["shares"])),
			"available fruit fruit_locking fruit_time_machine kernel_oplocks locking macros name path posix_locking strict_locking vfs_objects"},
		{"netatalk", keys(v["netatalk"]), "afpd afpd_base64 config config_base64 error running volumes"},
		{"lockerd", keys(v["lockerd"]), "error policy_check_error policy_checked reachable state_dir state_dir_base64 state_free status"},
		{"guard", keys(v["guard"]), "denied permission_events source source_base64 state"},
		{"kernel", keys(v["kernel"]), "fanotify lease ofd openat2 pidfd pidfs release so_peerpidfd"},
	}
	for _, tt := range tests {
		if tt.got != tt.want {
			t.Errorf("%s has\n%s\nwant\n%s", tt.what, tt.got, tt.want)
		}
	}
	if v["fine"] != false {
		t.Errorf("fine is %v", v["fine"])
	}
	for _, verdict := range v["verdicts"].([]any) {
		if got := keys(verdict); strings.ReplaceAll(strings.ReplaceAll(got, "name_base64 ", ""), "path_base64 ", "") != "gets_through kept_out name path server why" {
			t.Errorf("verdict has %s", got)
		}
	}
}

func TestExaminationIsFineOnlyIfEverybodyIsKeptOut(t *testing.T) {
	tests := []struct {
		verdicts []kept
		problems []string
		fine     bool
	}{
		{nil, nil, true},
		{[]kept{keptYes, keptYes}, nil, true},
		{[]kept{keptYes, keptPartly}, nil, false},
		{[]kept{keptNo}, nil, false},
		{[]kept{keptUnknown}, nil, false},
		{[]kept{0}, nil, false},
		{[]kept{keptYes}, []string{"x"}, false},
	}
	for _, tt := range tests {
		e := &examination{problems: tt.problems}
		for _, k := range tt.verdicts {
			e.verdicts = append(e.verdicts, verdictOn{kept: k})
		}
		if e.fine() != tt.fine {
			t.Errorf("%v %q: fine is %v", tt.verdicts, tt.problems, e.fine())
		}
	}
}

func TestVolumesOfAfpConf(t *testing.T) {
	const text = "; comment\n[Global]\n  hostname = nas\n[Homes]\n basedir regex = /home|/srv/h[0-9]\n path = afp\n" +
		"[Time Machine]\n  Path = \"/srv/tm/$u\"\n  time machine = yes\n[ no path ]\n x = y\n[plain]\npath=/srv/plain/\n"
	volumes, err := parseAFP(text)
	if err != nil {
		t.Fatal(err)
	}
	n := &netatalkReport{afpd: "/x", config: "/afp.conf", volumes: volumes}
	for path, want := range map[string]string{
		"/home/alice/x": "Homes", "/srv/h3/a": "Homes", "/srv/tm/alice/a.sparsebundle": "Time Machine", "/srv/tm": "Time Machine",
		"/srv/plain": "plain", "/srv/plainer": "", "/homes": "",
	} {
		p := pathReport{path: path}
		if got := strings.Join(p.volumes(n), ","); got != want {
			t.Errorf("%s: volumes %q, want %q", path, got, want)
		}
	}
	p := pathReport{path: "/srv/other"}
	if got := p.volumes(&netatalkReport{afpd: "/x"}); !slices.Equal(got, []string{""}) {
		t.Errorf("without afp.conf: %q", got)
	}
	volumes, err = parseAFP(text + "include = /etc/more.conf\n")
	if got := p.volumes(&netatalkReport{config: "/c", volumes: volumes, err: err}); err != errAFPInclude || !slices.Equal(got, []string{""}) {
		t.Errorf("with an include: %q, %v", got, err)
	}
}

func TestNetatalkIsKeptOutByOFDAlone(t *testing.T) {
	for _, tt := range []struct {
		w    worth
		kept kept
		why  string
	}{
		{usual(), keptYes, ""},
		{worth{ofd: keptNo, why: whyExecutable}, keptNo, "only with guard (" + whyExecutable + ")"},
		{worth{ofd: keptUnknown, why: whyUntested}, keptUnknown, whyUntested},
	} {
		if v := judgeNetatalk("/p", "", tt.w); v.kept != tt.kept || v.why != tt.why {
			t.Errorf("%+v: %v %q, want %v %q", tt.w, v.kept, v.why, tt.kept, tt.why)
		}
	}
}

func TestNetatalkOnlyCountsWhereItIs(t *testing.T) {
	d := newDoctor()
	d.proc = t.TempDir()
	d.programs = programs{dirs: []string{d.proc}}
	d.afpConfs = []string{d.proc + "/none", d.proc + "/afp.conf"}
	if n := d.lookAtNetatalk(t.Context()); n.present() && n.afpd == "" {
		t.Errorf("nothing there: %+v", n)
	}
	if err := errors.Join(os.WriteFile(d.proc+"/afpd", nil, 0o755), os.WriteFile(d.proc+"/afp.conf", []byte("[v]\npath=/srv\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	n := d.lookAtNetatalk(t.Context())
	if n.afpd != d.proc+"/afpd" || n.config != d.proc+"/afp.conf" || len(n.volumes) != 1 || n.err != nil {
		t.Errorf("%+v", n)
	}
}

func TestGuardIsPossibleIfTheKernelWasBuiltForIt(t *testing.T) {
	for config, want := range map[string]kept{
		"CONFIG_X=y\n" + permissionEvents + "=y\n":          keptYes,
		"# " + permissionEvents + " is not set\nCONFIG_X=y": keptNo,
		"CONFIG_X=y\n": keptNo,
		"":             keptNo,
	} {
		if got := configured(config); got != want {
			t.Errorf("%q: %v, want %v", config, got, want)
		}
	}
	d := newDoctor()
	d.proc = t.TempDir()
	if g := d.lookAtGuard("../../x"); g.kernel != keptUnknown || g.source != "" {
		t.Errorf("without a file: %+v", g)
	}
	if err := os.WriteFile(d.proc+"/config.gz", []byte("no gzip"), 0o644); err != nil {
		t.Fatal(err)
	}
	if g := d.lookAtGuard("0"); g.kernel != keptUnknown {
		t.Errorf("with a broken file: %+v", g)
	}
}

func TestReleaseIsCompared(t *testing.T) {
	for _, tt := range []struct {
		release string
		is, ok  bool
	}{{"6.18.44-fc", true, true}, {"5.6", true, true}, {"5.6-rc1", true, true}, {"5.5.99", false, true}, {"4.18.0-el8", false, true}, {"", false, false}, {"x.y", false, false}} {
		if is, ok := atLeast(tt.release, 5, 6); is != tt.is || ok != tt.ok {
			t.Errorf("%q: %v %v", tt.release, is, ok)
		}
	}
}

func TestDoctorOfAMissingPathIsAFailure(t *testing.T) {
	c := &cli{say: speaker{io.Discard}}
	_, err := patientDoctor().examine(t.Context(), c, []string{filepath.Join(t.TempDir(), "none")})
	if !errors.Is(err, os.ErrNotExist) || judge(err).code != exitFailure {
		t.Errorf("%v", err)
	}
}

func TestSilentFileSystemIsSaidToBeSilent(t *testing.T) {
	d := newDoctor()
	d.patience = 0 // whoever answers is too late
	if inTime(t.Context(), 0, func() { select {} }) {
		t.Fatal("who never ends has ended")
	}
	d.mountinfo = func() ([]byte, error) { return []byte("1 0 0:9 / / rw - nfs4 nas:/ rw,local_lock=none\n"), nil }
	p := pathReport{path: "/srv", silent: true, kind: kindOther, mount: &mount{fstype: "nfs4"}}
	if w := p.worth(); w.ofd != keptUnknown || len(p.problems()) != 1 {
		t.Errorf("%+v, %q", w, p.problems())
	}
}
