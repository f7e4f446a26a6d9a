package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"locker/client"
)

const bothLocks = client.RestOFD | client.RestFlock

func plainHeld(path string, rests client.Rest) held {
	return held{client.Hold{Path: path, Rests: rests}, kindFile}
}

// smbConf puts the text where testparm would read it.
func (d *doctor) smbConf(t *testing.T, text string) {
	t.Helper()
	d.smbConfs = []string{filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "smb.conf")}
	if err := os.WriteFile(d.smbConfs[1], []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// sectionsOf cuts an smb.conf at the lines that begin with '['.
func sectionsOf(text string) map[string]string {
	all := map[string]string{}
	name := ""
	for line := range strings.Lines(text) {
		if line[0] == '[' {
			name, _, _ = strings.Cut(line[1:], "]")
		}
		all[name] += line
	}
	return all
}

// What testparm says of an smb.conf is in testdata, of every spelling. Each share is looked for in the text of its section alone, so that no
// other makes up for it.
func TestNoShareThatALockDoesNotKeepOutIsMissedInTheText(t *testing.T) {
	confs, err := filepath.Glob("testdata/doctor/testparm/*.conf")
	if err != nil || len(confs) < 5 {
		t.Fatalf("%q, %v", confs, err)
	}
	d := newDoctor()
	d.passwd, d.afpConfs = filepath.Join(t.TempDir(), "passwd"), nil
	if err := os.WriteFile(d.passwd, []byte("alice:x:1000:1000::/home/alice:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	deaf, silent := 0, 0
	for _, conf := range confs {
		text, err := os.ReadFile(conf)
		if err != nil {
			t.Fatal(err)
		}
		sections := sectionsOf(string(text))
		for name, s := range testparmSays(t, strings.TrimSuffix(filepath.Base(conf), ".conf"), "/home/alice") {
			alone := sections["global"] + "[" + strings.TrimPrefix(sections[name], "[")
			for _, of := range sections {
				if header, _, _ := strings.Cut(of, "\n"); strings.Contains(alone, "copy = "+strings.Trim(header, "[]")+"\n") {
					alone += of
				}
			}
			d.smbConf(t, alone)
			var path strings.Builder
			if len(s.places) > 0 {
				for _, p := range s.places[0].pieces {
					path.WriteString(p.text)
					if p.any || p.part {
						path.WriteString("x")
					}
				}
			}
			path.WriteString("/file")
			for _, rests := range []client.Rest{bothLocks, client.RestFlock} {
				h := plainHeld(path.String(), rests)
				report := &sambaReport{shares: []share{s}}
				missed := len(keptOutOfNothing(h, report, &netatalkReport{}, guarding{})) > 0
				if missed {
					deaf++
				}
				if may, _ := d.mayServe(t.Context(), []held{h}); missed && !may {
					t.Errorf("%s: share %q is not found to serve %s, a hold on %v, in\n%s", conf, name, h.Path, rests.Names(), alone)
				}
				h.Path = "/elsewhere" + h.Path
				if may, _ := d.mayServe(t.Context(), []held{h}); may && !strings.Contains(alone, "\\\n") && !strings.Contains(alone, "%H") {
					t.Errorf("%s: share %q is taken to serve %s, in\n%s", conf, name, h.Path, alone)
				} else if !may {
					silent++
				}
			}
		}
	}
	if deaf < 40 || silent < 40 {
		t.Errorf("only %d holds that keep a share out of nothing, and %d that are nobody's: the test shows little", deaf, silent)
	}
}

// The price of testparm is paid by those alone for whom it may have something to say.
func TestTestparmIsAskedOnlyWhereAShareMayBeDeafToTheLock(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(dir+"/data", 0o755), os.Symlink("data", dir+"/link")); err != nil {
		t.Fatal(err)
	}
	const tm = "[tm]\npath = /srv/tm\nvfs objects = fruit\nfruit:time machine = yes\n"
	for name, c := range map[string]struct {
		conf string
		h    held
		asks bool
	}{
		"a file on a share of Macs":         {tm, plainHeld("/srv/tm/a", bothLocks), true},
		"the share itself":                  {tm, plainHeld("/srv/tm", client.RestFlock), true},
		"a directory around it":             {tm, plainHeld("/srv", client.RestFlock), true},
		"a file beside it":                  {tm, plainHeld("/srv/tm2", bothLocks), false},
		"a file that nobody serves":         {tm, plainHeld("/srv/a", bothLocks), false},
		"a script that nobody serves":       {tm, plainHeld("/srv/a", client.RestFlock), false},
		"a bundle that nobody serves":       {tm, bundleHeld("/srv/a.sparsebundle", bothLocks), true},
		"a share that heeds locks":          {"[a]\npath = /srv\nread only = no\n", plainHeld("/srv/a", bothLocks), false},
		"it cannot heed flock's":            {"[a]\npath = /srv\nread only = no\n", plainHeld("/srv/a", client.RestFlock), true},
		"a comment":                         {"#[tm]\n;path = /srv\n# goes on \\\n; as well \\\n", plainHeld("/srv/a", client.RestFlock), false},
		"any name":                          {"[a]\npath = /srv/%U/x\nlocking = no\n", plainHeld("/srv/alice/x/y", bothLocks), true},
		"any name, elsewhere":               {"[a]\npath = /srv/%U/x\nlocking = no\n", plainHeld("/srv/alice/y/x", bothLocks), false},
		"through a link":                    {"[a]\npath = " + dir + "/link\nlocking = no\n", plainHeld(dir+"/data/a", bothLocks), true},
		"homes":                             {"[ Homes ]\nlocking = no\n", plainHeld("/home/alice/a", bothLocks), true},
		"homes, not his":                    {"[homes]\nlocking = no\n", plainHeld("/home/bob/a", bothLocks), false},
		"a section that goes on":            {"[ho\\\nmes]\nlocking = no\n", plainHeld("/home/alice/a", bothLocks), true},
		"what others add":                   {"include = /etc/samba/%m.conf\n", plainHeld("/a", bothLocks), true},
		"nothing added":                     {"include =\nregistry shares = no\nconfig backend = file\n", plainHeld("/a", client.RestFlock), false},
		"the registry":                      {"[global]\nConfig Backend = registry\n", plainHeld("/a", bothLocks), true},
		"shares of the registry":            {"registry shares = yes\n", plainHeld("/a", bothLocks), true},
		"another file":                      {"config file = /etc/other\n", plainHeld("/a", bothLocks), true},
		"a path that goes on":               {"[a]\npath = /sr\\\nv\nlocking = no\n", plainHeld("/srv/a", bothLocks), true},
		"a comment of a share that goes on": {"[a]\npath = /srv\ncomment = a \\\nb\n", plainHeld("/srv/a", bothLocks), false},
		"more than is read":                 {strings.Repeat("#", maxConfigFile+1), plainHeld("/a", bothLocks), true},
		"an empty file":                     {"", plainHeld("/a", client.RestFlock), false},
	} {
		d := fakeTestparm(t, "touch $0.asked\n")
		d.patience = doctorPatience
		d.passwd, d.afpConfs = filepath.Join(d.proc, "passwd"), nil
		if err := errors.Join(os.Mkdir(d.proc+"/7", 0o755), os.WriteFile(d.proc+"/7/comm", []byte("smbd\n"), 0o644),
			os.WriteFile(d.passwd, []byte("alice:x:1000:1000::/home/alice:/bin/sh\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
		d.smbConf(t, c.conf)
		d.unseen(t.Context(), []held{c.h}, guarding{})
		if _, err := os.Stat(filepath.Join(d.programs.dirs[0], "testparm.asked")); (err == nil) != c.asks {
			t.Errorf("%s: testparm is asked: %v", name, !c.asks)
		}
		if c.h.isBundle() {
			continue
		}
		d.smbConfs = d.smbConfs[:1] // which is not there: testparm may have one of its own
		if smb, afp := d.mayServe(t.Context(), []held{c.h}); !smb || afp {
			t.Errorf("%s, without an smb.conf: %v, %v", name, smb, afp)
		}
		d.programs.dirs = nil
		if smb, afp := d.mayServe(t.Context(), []held{c.h}); smb || afp {
			t.Errorf("%s, without an smb.conf and testparm: %v, %v", name, smb, afp)
		}
	}
}

func BenchmarkLookAtSmbConf(b *testing.B) {
	d := newDoctor()
	d.smbConfs, d.afpConfs = []string{"testdata/doctor/testparm/four.conf"}, nil
	all := []held{plainHeld("/var/lib/a/b/c", bothLocks)}
	for b.Loop() {
		if smb, _ := d.mayServe(b.Context(), all); smb {
			b.Fatal("it serves")
		}
	}
}
