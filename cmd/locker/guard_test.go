package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"locker/client"
)

func TestAServerIsKeptOutIfEachOfItsProgramsIsDenied(t *testing.T) {
	on := guarding{client.GuardOn, []string{"/usr/sbin/smbd", "/usr/sbin/afpd"}}
	for _, c := range []struct {
		g     guarding
		name  string
		found []string
		want  bool
	}{
		{on, "smbd", nil, true}, // nothing is known of it but its name
		{on, "nmbd", nil, false},
		{on, "smbd", []string{"/usr/sbin/smbd"}, true},
		{on, "smbd", []string{"/opt/samba/sbin/smbd"}, false},
		{on, "smbd", []string{"/usr/sbin/smbd", "/opt/samba/sbin/smbd"}, false}, // the other one serves as well
		{guarding{client.GuardDown, on.programs}, "smbd", nil, false},
		{guarding{client.GuardOff, nil}, "smbd", nil, false},
		{guarding{}, "smbd", nil, false},
	} {
		if got := c.g.denies(c.name, c.found); got != c.want {
			t.Errorf("%v, %s as %q: %v, want %v", c.g, c.name, c.found, got, c.want)
		}
	}
}

func TestProgramsOfAServerAreThoseThatRunElseTheInstalledOne(t *testing.T) {
	d := newDoctor()
	d.proc = t.TempDir()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(dir+"/smbd", nil, 0o755), os.Symlink("smbd", dir+"/alias")); err != nil {
		t.Fatal(err)
	}
	if got := d.serverPrograms("smbd", dir+"/alias"); !slices.Equal(got, []string{dir + "/smbd"}) {
		t.Errorf("installed: %q", got)
	}
	if got := d.serverPrograms("smbd", ""); got != nil {
		t.Errorf("not installed: %q", got)
	}
	run := func(pid, comm, exe string) {
		at := filepath.Join(d.proc, pid)
		if err := errors.Join(os.Mkdir(at, 0o755), os.WriteFile(at+"/comm", []byte(comm+"\n"), 0o644), os.Symlink(exe, at+"/exe")); err != nil {
			t.Fatal(err)
		}
	}
	run("7", "smbd", "/usr/sbin/smbd")
	run("8", "smbd", "/usr/sbin/smbd (deleted)")
	run("9", "smbd", "/opt/smbd")
	run("10", "nmbd", "/usr/sbin/nmbd")
	if got := d.serverPrograms("smbd", dir+"/alias"); !slices.Equal(got, []string{"/usr/sbin/smbd", "/opt/smbd"}) && !slices.Equal(got, []string{"/opt/smbd", "/usr/sbin/smbd"}) {
		t.Errorf("running: %q", got)
	}
}

func TestTheGuardKeepsOutWhomLocksDoNot(t *testing.T) {
	shares := testparmSays(t, "four")
	bundle, files := usual(), usual()
	bundle.guard, files.guard = guardsBundle, guardsWithin
	noLock := worth{ofd: keptNo, why: "no ofd", guard: guardsBundle}
	for _, c := range []struct {
		share string
		w     worth
		kept  kept
		why   string
	}{
		{"tm", bundle, keptYes, "by the guard"},
		{"default", bundle, keptYes, "by the guard"},
		{"no-posix", noLock, keptYes, "by the guard"},
		{"netatalk", bundle, keptYes, ""}, // by the lock alone
		{"netatalk", noLock, keptYes, "by the guard"},
		{"tm", files, keptYes, "by the guard, as to bundles"}, // there is nothing else in it
		{"no-posix", files, keptPartly, "bundles by the guard; else: set vfs objects = fruit streams_xattr and fruit:locking = netatalk (posix locking = no)"},
		{"strict", files, keptPartly, "bundles by the guard; else: opens succeed, reads and writes are refused; set vfs objects = fruit streams_xattr and fruit:locking = netatalk"},
		{"default", worth{ofd: keptNo, why: "no ofd", guard: guardsWithin}, keptPartly, "bundles by the guard; else: no (no ofd)"},
		{"netatalk", worth{ofd: keptUnknown, why: "not tried", guard: guardsWithin}, keptUnknown, "not tried"},
		{"gluster", bundle, keptNo, `its vfs object glusterfs goes past this machine's kernel and its locks; guard does not see it either`},
	} {
		if v := judgeShare("/p", shares[c.share], c.w); v.kept != c.kept || v.why != c.why {
			t.Errorf("share %s, %+v: %v %q, want %v %q", c.share, c.w, v.kept, v.why, c.kept, c.why)
		}
	}
	if v := judgeNetatalk("/p", "", noLock); v.kept != keptYes || v.why != "by the guard" {
		t.Errorf("netatalk: %v %q", v.kept, v.why)
	}
	if v := judgeNetatalk("/p", "", bundle); v.kept != keptYes || v.why != "" {
		t.Errorf("netatalk, which the lock keeps out: %v %q", v.kept, v.why)
	}
}

func TestTheGuardGuardsBundlesOfLocalFileSystemsAlone(t *testing.T) {
	local := &mount{fstype: "ext4"}
	for name, c := range map[string]struct {
		p    *pathReport
		want guards
	}{
		"a bundle":                   {&pathReport{kind: kindBundle, engines: []string{"flock"}, mount: local}, guardsBundle},
		"a directory":                {&pathReport{kind: kindDirectory, engines: []string{"flock"}, mount: local}, guardsWithin},
		"a token":                    {&pathReport{kind: kindFile, real: "/a.sparsebundle/token", engines: []string{"ofd"}, mount: local}, 0},
		"a bundle without its token": {&pathReport{kind: kindBundle, mount: local}, 0},
		"a bundle on NFS":            {&pathReport{kind: kindBundle, engines: []string{"ofd"}, mount: &mount{fstype: "nfs4"}}, 0},
		"a bundle on FUSE":           {&pathReport{kind: kindBundle, engines: []string{"ofd"}, mount: &mount{fstype: "fuse.sshfs"}}, 0},
		"a bundle that is not seen":  {&pathReport{kind: kindBundle, engines: []string{"ofd"}, mount: local, silent: true}, 0},
		"the machine":                {nil, guardsWithin},
	} {
		if got := usual().by(true, c.p).guard; got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if got := usual().by(false, c.p).guard; got != 0 {
			t.Errorf("%s, and the guard is not on: %v", name, got)
		}
	}
}

func TestAGuardThatIsDownIsAProblem(t *testing.T) {
	for state, problems := range map[client.GuardState]int{0: 0, client.GuardOff: 0, client.GuardOn: 0, client.GuardDown: 1} {
		r := lockerdReport{status: &client.Status{}, guard: guarding{state, []string{"/usr/sbin/smbd"}}}
		if got := r.problems(); len(got) != problems {
			t.Errorf("%v: problems %q, want %d", state, got, problems)
		}
	}
}

// Whether the policy wants a guard, whether lockerd has one, and whom it denies: for doctor and status alike.
func TestTheGuardIsToldForPrograms(t *testing.T) {
	type told struct {
		State  string   `json:"state"`
		Denied []string `json:"denied"`
	}
	for _, c := range []struct {
		g    guarding
		want told
	}{
		{guarding{client.GuardOn, []string{"/usr/sbin/smbd"}}, told{"on", []string{"/usr/sbin/smbd"}}},
		{guarding{client.GuardDown, []string{"/usr/sbin/smbd"}}, told{"down", []string{"/usr/sbin/smbd"}}},
		{guarding{client.GuardOff, nil}, told{"off", []string{}}},
		{guarding{}, told{"unknown", []string{}}}, // not reached, or too old
	} {
		e := examination{lockerd: lockerdReport{status: &client.Status{}, guard: c.g}}
		var got struct {
			Guard   told `json:"guard"`
			Lockerd struct {
				Status struct {
					Guard told `json:"guard"`
				} `json:"status"`
			} `json:"lockerd"`
		}
		if err := json.Unmarshal(e.object().b, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got.Guard, c.want) || !reflect.DeepEqual(got.Lockerd.Status.Guard, c.want) {
			t.Errorf("%v: told %+v and %+v, want %+v", c.g, got.Guard, got.Lockerd.Status.Guard, c.want)
		}
	}
}

func TestTheGuardIsToldForPeople(t *testing.T) {
	programs := []string{"/usr/sbin/smbd", "/opt/a b"}
	for state, want := range map[client.GuardState]string{
		client.GuardOn: "on: held bundles are kept from /usr/sbin/smbd, /opt/a b", client.GuardDown: "down: held bundles are not kept from /usr/sbin/smbd, /opt/a b; lockerd's log says why",
		client.GuardOff: "off: the policy denies nobody", 0: "none: this lockerd is too old for one",
	} {
		if got := (guarding{state, programs}).words(); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %q, want %q", state, got, want)
		}
	}
}
