package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sambaReport is what testparm(1) says.
type sambaReport struct {
	running  bool     // an smbd is
	smbd     []string // its programs, as far as they are known
	testparm string   // its path; "" if it is not there
	err      error    // testparm's
	shares   []share
}

// lookAtSamba asks testparm, which reads smb.conf as smbd does and prints what is not Samba's default.
func (d *doctor) lookAtSamba(ctx context.Context) sambaReport {
	s := sambaReport{running: d.runs("smbd"), testparm: d.programs.find("testparm")}
	s.smbd = d.serverPrograms("smbd", d.programs.find("smbd"))
	if s.testparm == "" {
		return s
	}
	out, err := d.programs.run(ctx, d.patience, s.testparm, "-s", "--suppress-prompt")
	if err != nil {
		s.err = err
		return s
	}
	homes, _ := homeDirs(d.passwd) // without them [homes] serves nothing that we know of
	s.shares = parseTestparm(string(out), homes)
	d.followLinks(ctx, s.shares)
	return s
}

// unknown is the verdict when Samba may serve the path and its settings are not known.
func (s *sambaReport) unknown(path string) (verdictOn, bool) {
	v := verdictOn{path: path, server: "samba", kept: keptUnknown}
	switch {
	case s.err != nil:
		v.why = sayTestparm(s.err)
	case s.testparm == "" && s.running:
		v.why = whyNoTestparm
	default:
		return v, false
	}
	return v, true
}

// section is one of smb.conf's: names in lower case and without spaces, since Samba knows them by any spelling.
type section struct {
	name   string
	values map[string]string
}

// parseSections reads "[name]" and "\tname = value", which is all that testparm prints beside comments.
func parseSections(text string) []section {
	var all []section
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			all = append(all, section{line[1 : len(line)-1], map[string]string{}})
		case strings.HasPrefix(line, "\t") && len(all) > 0:
			if name, value, ok := strings.Cut(line[1:], " = "); ok {
				all[len(all)-1].values[plainName(name)] = strings.TrimSpace(value)
			} else if name, ok := strings.CutSuffix(line, " ="); ok {
				all[len(all)-1].values[plainName(name)] = ""
			}
		}
	}
	return all
}

func plainName(name string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\v\f\r", r) {
			return -1
		}
		return r
	}, name))
}

// share is what matters of a share, with Samba's defaults filled in.
type share struct {
	name  string
	path  string // as in smb.conf; "" for [homes] without one
	homes bool

	available   bool
	objects     []string // vfs objects, in order
	locking     bool
	posix       bool   // posix locking, as smb.conf has it; see forced
	strict      string // strict locking: yes, no, auto
	kernel      bool   // kernel oplocks
	oplocks     bool
	fruit       bool   // the module is there: without it its settings mean nothing
	timeMachine bool   // fruit:time machine
	fruitLocks  string // fruit:locking, in lower case

	macros []string // in path, each once
	places []place  // where its files are
}

// forced reports whether vfs_fruit switches posix locking off, whatever smb.conf says: fruit_connect in vfs_fruit.c.
func (s *share) forced() bool { return s.fruit && s.timeMachine }

// parseTestparm gives the shares that serve files.
func parseTestparm(text string, homes []string) []share {
	global := map[string]string{}
	var shares []share
	for _, sec := range parseSections(text) {
		if strings.EqualFold(sec.name, "global") {
			global = sec.values
			continue
		}
		get := func(name, otherwise string) string {
			if v, ok := sec.values[name]; ok {
				return v
			}
			if v, ok := global[name]; ok { // the default of all shares
				return v
			}
			return otherwise
		}
		if yes(get("printable", "no")) || strings.EqualFold(sec.name, "IPC$") {
			continue
		}
		s := share{
			name: sec.name, path: get("path", ""), homes: strings.EqualFold(sec.name, "homes"),
			available: yes(get("available", "yes")), locking: yes(get("locking", "yes")), posix: yes(get("posixlocking", "yes")),
			strict: strict(get("strictlocking", "auto")), kernel: yes(get("kerneloplocks", "no")), oplocks: yes(get("oplocks", "yes")),
			timeMachine: yes(get("fruit:timemachine", "no")), fruitLocks: strings.ToLower(get("fruit:locking", "none")),
		}
		for _, object := range strings.FieldsFunc(get("vfsobjects", ""), func(r rune) bool { return strings.ContainsRune(" \t,;", r) }) {
			s.objects = append(s.objects, object)
			s.fruit = s.fruit || moduleName(object) == "fruit"
		}
		s.settle(homes)
		shares = append(shares, s)
	}
	return shares
}

// moduleName takes from a module its directory, its ".so" and its parameter.
func moduleName(object string) string {
	object, _, _ = strings.Cut(object, ":")
	return strings.TrimSuffix(filepath.Base(object), ".so")
}

// yes reads a boolean as Samba does (set_boolean in lib/util).
func yes(value string) bool {
	switch strings.ToLower(value) {
	case "yes", "true", "on", "1":
		return true
	}
	return false
}

func strict(value string) string {
	if strings.EqualFold(value, "auto") {
		return "auto"
	}
	if yes(value) {
		return "yes"
	}
	return "no"
}

// homeDirs gives the home directories of a passwd(5) file; those of a directory service are not known.
func homeDirs(passwd string) ([]string, error) {
	text, err := readBounded(passwd, maxConfigFile)
	if err != nil {
		return nil, err
	}
	var homes []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(line, ":")
		if len(fields) != 7 {
			continue
		}
		// Users of the system's own have homes such as /dev, and no Samba password.
		if uid, err := strconv.Atoi(fields[2]); err == nil && (uid == 0 || uid >= 500 && uid < 65534) {
			if home := filepath.Clean(fields[5]); filepath.IsAbs(home) && home != "/" && !slices.Contains(homes, home) {
				homes = append(homes, home)
			}
		}
	}
	if len(homes) == 0 {
		return nil, errors.New("no home directories")
	}
	return homes, nil
}

// runs reports whether a process of this name is there.
func (d *doctor) runs(name string) bool { return len(d.pidsOf(name)) > 0 }

// pidsOf gives the processes of this name, as far as proc(5) shows the processes of others.
func (d *doctor) pidsOf(name string) (pids []string) {
	entries, err := os.ReadDir(d.proc)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.Name()[0] < '0' || e.Name()[0] > '9' {
			continue
		}
		comm, err := os.ReadFile(filepath.Join(d.proc, e.Name(), "comm"))
		if err == nil && strings.TrimSuffix(string(comm), "\n") == name {
			pids = append(pids, e.Name())
		}
	}
	return pids
}
