package main

import (
	"bufio"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"locker/client"
)

// Of a file that is no bundle's, the warnings are doctor's verdicts of those whom the lock does not keep out, word for word.
func TestAPlainFilesWarningsAreDoctorsVerdicts(t *testing.T) {
	on := guarding{state: client.GuardOn, programs: []string{"/usr/sbin/smbd"}}
	warned := 0
	for _, c := range []struct {
		engines []string
		rests   client.Rest
	}{
		{[]string{"ofd", "flock"}, bothLocks},
		{[]string{"ofd", "flock"}, bothLocks | client.RestIdle},
		{[]string{"flock"}, client.RestFlock},
		{[]string{"flock"}, client.RestFlock | client.RestIdle},
	} {
		for name, s := range testparmSays(t, "four") {
			for _, guard := range []guarding{{}, on} {
				path := s.path + "/file"
				samba := sambaReport{running: true, testparm: "/x", smbd: []string{"/usr/sbin/smbd"}, shares: []share{s}}
				e := &examination{samba: samba, lockerd: lockerdReport{guard: guard},
					paths: []pathReport{{path: path, real: path, target: path, kind: kindFile, mount: &mount{fstype: "ext4"}, engines: c.engines, only: whyFlockAlone}}}
				e.judge()
				var want []string
				for _, v := range e.verdicts {
					if v.kept == keptNo {
						want = append(want, sayNoHelp(v, 0))
					}
					if guarded := strings.Contains(v.why, "guard") && name != "gluster"; guarded {
						t.Errorf("share %s: the guard is named, which is for bundles: %q", name, v.why)
					}
				}
				var got []string
				for _, v := range keptOutOfNothing(plainHeld(path, c.rests), &samba, &netatalkReport{}, guard) {
					got = append(got, sayNoHelp(v, 0))
				}
				if !slices.Equal(got, want) {
					t.Errorf("share %s, a hold on %v:\n warns %q\nwant %q", name, c.rests.Names(), got, want)
				}
				warned += len(got)
			}
		}
	}
	if warned < 20 {
		t.Errorf("only %d warnings", warned)
	}
}

// The whole way from what is held to the words.
func TestAHoldOfFilesWarnsOfThoseWhoServeThem(t *testing.T) {
	const output = "[tm]\n\tfruit:time machine = yes\n\tpath = @\n\tvfs objects = fruit\n\n[also]\n\tlocking = No\n\tpath = @\n"
	top := t.TempDir()
	conf := strings.ReplaceAll(output, "@", top+"/tm")
	d := fakeTestparm(t, "cat <<'end'\n"+conf+"end\n")
	d.patience = doctorPatience
	d.smbConf(t, conf)
	d.afpConfs = []string{top + "/afp.conf"}
	if err := errors.Join(os.MkdirAll(top+"/tm/dir", 0o755), os.MkdirAll(top+"/elsewhere", 0o755), os.WriteFile(top+"/tm/script", nil, 0o755),
		os.WriteFile(top+"/afp.conf", []byte("[Macs]\npath = "+top+"/tm\n[Global]\ninclude = /more\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for pid, comm := range map[string]string{"7": "smbd", "8": "afpd"} {
		if err := errors.Join(os.Mkdir(d.proc+"/"+pid, 0o755), os.WriteFile(d.proc+"/"+pid+"/comm", []byte(comm+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	const (
		tm   = ": does not keep Samba share tm out: set fruit:locking = netatalk (fruit:time machine = yes switches posix locking off); see 'locker doctor'"
		also = ": does not keep Samba share also out: set vfs objects = fruit streams_xattr and fruit:locking = netatalk (locking = no); see 'locker doctor'"
	)
	for _, c := range []struct {
		path  string
		rests client.Rest
		want  []string // without the path
	}{
		{"/tm/file", bothLocks, []string{tm, also}},
		{"/tm/script", client.RestFlock, []string{
			": does not keep Samba share tm out: " + whyFlockAlone + "; see 'locker doctor'",
			": does not keep Samba share also out: " + whyFlockAlone + "; see 'locker doctor'",
			": does not keep netatalk volume Macs out: " + whyFlockAlone + "; see 'locker doctor'",
		}},
		{"/tm/dir", client.RestFlock, []string{": a lock on a directory does not keep Samba share tm out of what is in it: lock the files, or a bundle"}},
		{"/elsewhere", client.RestFlock, nil},
		{"/elsewhere/file", bothLocks, nil},
		{"/elsewhere/script", client.RestFlock, nil},
	} {
		all := heldOf(t.Context(), []client.Hold{{Path: top + c.path, Rests: c.rests}})
		var got []string
		for _, w := range d.unseen(t.Context(), all, guarding{}) {
			got = append(got, strings.TrimPrefix(w, top+c.path))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n warns %q\nwant %q", c.path, got, c.want)
		}
	}
	// Of many files each share is named once.
	var many []client.Hold
	for range 3 {
		many = append(many, client.Hold{Path: top + "/tm/file", Rests: bothLocks})
	}
	if got := d.unseen(t.Context(), heldOf(t.Context(), many), guarding{}); len(got) != 2 || got[0] != top+"/tm/file and 2 more"+tm {
		t.Errorf("of three files: %q", got)
	}
	// What is not served may be in what afp.conf includes, which is no news at every lock.
	both := []held{plainHeld(top+"/tm/file", client.RestFlock), plainHeld(top+"/elsewhere/script", client.RestFlock)}
	if got := d.unseen(t.Context(), both, guarding{}); len(got) != 3 {
		t.Errorf("of one that is served and one that is not: %q", got)
	}
	if err := os.RemoveAll(d.proc); err != nil {
		t.Fatal(err)
	}
	if got := d.unseen(t.Context(), []held{plainHeld(top+"/tm/file", client.RestFlock)}, guarding{}); got != nil {
		t.Errorf("no server runs: %q", got)
	}
}

// Whoever may not look into it locks it all the same, and it may be called otherwise.
func TestWhatIsGuardedIsABundleWhereverItIs(t *testing.T) {
	hold := client.Hold{Path: "/root/of/others/mac.backupbundle", Rests: bothLocks | client.RestIdle | client.RestGuard}
	all := heldOf(t.Context(), []client.Hold{hold})
	if len(all) != 1 || !all[0].isBundle() {
		t.Fatalf("%+v", all)
	}
	shares := parseTestparm("[tm]\n\tfruit:time machine = yes\n\tpath = /root\n\tvfs objects = fruit\n", nil)
	samba := &sambaReport{smbd: []string{"/usr/sbin/smbd"}, shares: shares}
	guard := guarding{state: client.GuardOn, programs: samba.smbd}
	if none := keptOutOfNothing(all[0], samba, &netatalkReport{}, guard); len(none) != 0 {
		t.Errorf("guarded: %+v", none)
	}
	all[0].Rests &^= client.RestGuard
	if none := keptOutOfNothing(all[0], samba, &netatalkReport{}, guard); len(none) != 1 {
		t.Errorf("unguarded: %+v", none)
	}
}

// A testparm that hangs is waited for for a second, in which anything may become of us.
func TestWhatIsHeldIsSaidBeforeAnybodyIsLookedFor(t *testing.T) {
	var out strings.Builder
	c := &cli{out: bufio.NewWriter(&out)}
	c.out.WriteString("locked")
	c.warnUnseen(t.Context(), nil, nil)
	if out.String() != "locked" {
		t.Errorf("said: %q", out.String())
	}
}
