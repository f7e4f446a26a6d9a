package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// 'locker doctor' looks, with the caller's own rights, at what a lock would be worth: at the file system of each path, at the
// file servers' settings, at lockerd and at the kernel. It locks, writes and opens nothing of anybody's but a scratch file of
// its own. What it cannot find out is "unknown", and unknown counts as not kept out.

const (
	doctorPatience = 5 * time.Second // for each program, each path and lockerd
	maxProgramSays = 1 << 20         // bytes of a program's standard output
	maxConfigFile  = 1 << 20         // bytes of afp.conf and the user database
)

// kept says whether somebody is kept out. The zero value is no answer and never leaves doctor.
type kept uint8

const (
	keptYes kept = iota + 1
	keptPartly
	keptNo
	keptUnknown
)

func (k kept) String() string {
	switch k {
	case keptYes:
		return "yes"
	case keptPartly:
		return "partly"
	case keptNo:
		return "no"
	}
	return "unknown"
}

// verdictOn says what a lock on a path does to somebody.
type verdictOn struct {
	path   string // "" for the whole machine
	server string // samba, netatalk, or the type of a file system that others use too
	name   string // share or volume; "" for all
	kept   kept
	why    string   // and what would help; "" where nothing is to be said
	past   []string // what gets past the lock all the same: doctor_past.go
}

// examination is what doctor has found out. Its lists are in the order of the command line and of the configuration.
type examination struct {
	paths    []pathReport
	samba    sambaReport
	netatalk netatalkReport
	lockerd  lockerdReport
	guard    guardReport
	kernel   kernelReport
	verdicts []verdictOn
	problems []string // that are no verdicts: a sentence each, safe to show
}

func (e *examination) fine() bool {
	for _, v := range e.verdicts {
		if v.kept != keptYes {
			return false
		}
	}
	return len(e.problems) == 0
}

// doctor is where the examination looks; tests give it other places.
type doctor struct {
	programs  programs
	patience  time.Duration
	mountinfo func() ([]byte, error)
	proc      string   // /proc
	passwd    string   // /etc/passwd
	afpConfs  []string // the first that is there
	smbConfs  []string // that testparm may read; which, it alone knows
	euid      int
}

func newDoctor() *doctor {
	d := &doctor{
		programs:  callersPrograms(),
		patience:  doctorPatience,
		mountinfo: func() ([]byte, error) { return os.ReadFile("/proc/self/mountinfo") },
		proc:      "/proc",
		passwd:    "/etc/passwd",
		afpConfs:  []string{"/etc/netatalk/afp.conf", "/usr/local/etc/afp.conf", "/usr/local/etc/netatalk/afp.conf", "/etc/afp.conf"},
		smbConfs:  []string{"/etc/samba/smb.conf", "/usr/local/samba/etc/smb.conf", "/usr/local/etc/smb.conf", "/etc/smb4.conf", "/etc/smb.conf"},
		euid:      os.Geteuid(),
	}
	if named := os.Getenv("SMB_CONF_PATH"); named != "" && !d.programs.root { // root's testparm does not see it
		d.smbConfs = append(d.smbConfs, filepath.Join("/", named)) // where it runs
	}
	return d
}

func (c *cli) doctorCommand() *cobra.Command {
	cmd := c.command("doctor [--json] [PATH...]", wordsDoctor, wordsDoctorLong, func(ctx context.Context, args []string) error {
		paths, err := absolutes(args)
		if err != nil {
			return err
		}
		w := beginWait() // a signal ends the programs that we have started, too
		ctx = w.ctx(ctx)
		e, err := newDoctor().examine(ctx, c, paths)
		w.end()
		if sig := w.caught(); sig != 0 {
			return signalError{sig}
		}
		if err != nil {
			return err
		}
		if c.json {
			c.printJSON(e.object())
		} else {
			c.out.WriteString(e.text())
		}
		if !e.fine() {
			return statusError(exitAiling)
		}
		return nil
	})
	cmd.Flags().BoolVar(&c.json, "json", false, flagJSON)
	return cmd
}

// examine looks at everything. An error is about the paths: one is not there.
func (d *doctor) examine(ctx context.Context, c *cli, paths []string) (*examination, error) {
	e := &examination{}
	for _, path := range paths {
		p, err := d.lookAtPath(ctx, path)
		if err != nil {
			return nil, err
		}
		e.paths = append(e.paths, p)
	}
	e.samba = d.lookAtSamba(ctx)
	e.netatalk = d.lookAtNetatalk(ctx)
	e.lockerd = d.lookAtLockerd(ctx, c)
	e.kernel = lookAtKernel()
	e.guard = d.lookAtGuard(e.kernel.release)
	e.judge()
	return e, nil
}

// judge draws the conclusions.
func (e *examination) judge() {
	smbd, afpd := e.lockerd.guard.denies("smbd", e.samba.smbd), e.lockerd.guard.denies("afpd", e.netatalk.serves)
	if len(e.paths) == 0 {
		for _, s := range e.samba.shares {
			e.verdicts = append(e.verdicts, judgeShare("", s, usual().by(smbd, nil)))
		}
		if v, ok := e.samba.unknown(""); ok {
			e.verdicts = append(e.verdicts, v)
		}
		if e.netatalk.present() {
			e.verdicts = append(e.verdicts, judgeNetatalk("", "", usual().by(afpd, nil)))
		}
	}
	for i := range e.paths {
		p := &e.paths[i]
		e.problems = append(e.problems, p.problems()...)
		for _, s := range p.shares(e.samba.shares) {
			e.verdicts = append(e.verdicts, judgeShare(p.path, s, p.worth().by(smbd, p)))
		}
		if v, ok := e.samba.unknown(p.path); ok {
			e.verdicts = append(e.verdicts, v)
		}
		if e.netatalk.present() {
			for _, name := range p.volumes(&e.netatalk) {
				e.verdicts = append(e.verdicts, judgeNetatalk(p.path, name, p.worth().by(afpd, p)))
			}
		}
		if v, ok := p.judgeOthers(); ok {
			e.verdicts = append(e.verdicts, v)
		}
	}
	e.tellPast()
	e.problems = append(e.problems, e.lockerd.problems()...)
	e.problems = append(e.problems, e.kernel.problems()...)
}
