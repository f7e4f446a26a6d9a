package main

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"locker/client"
)

// text is the whole examination for people.
func (e *examination) text() string {
	var b strings.Builder
	part := func(head string, rows [][]string) {
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		b.WriteString(head + "\n")
		if len(rows) > 0 {
			for i := range rows {
				rows[i][0] = "  " + rows[i][0]
			}
			b.WriteString(columnsOf(rows))
		}
	}
	for i := range e.paths {
		part(shown(e.paths[i].path), e.paths[i].rows())
	}
	part("Samba", e.samba.rows(e.asked))
	part("netatalk", e.netatalk.rows())
	part("lockerd", append(e.lockerd.rows(), e.guard.rows(&e.lockerd)...))
	part("kernel", e.kernel.rows())
	var lines [][]string
	for _, v := range e.verdicts {
		line := sayVerdict(v)
		if len(e.paths) > 1 {
			line = shown(v.path) + ": " + line
		}
		lines = append(lines, []string{line})
	}
	for _, p := range e.problems {
		lines = append(lines, []string{"problem: " + p})
	}
	if len(lines) == 0 {
		lines = append(lines, []string{"nothing here to keep out: neither Samba nor netatalk serves it"})
	}
	part("verdict", lines)
	return b.String()
}

// asked reports whether a share is one of those that the verdicts are about.
func (e *examination) asked(s share) bool {
	for _, v := range e.verdicts {
		if v.server == "samba" && v.name == s.name {
			return true
		}
	}
	return false
}

func (p *pathReport) rows() [][]string {
	var rows [][]string
	if p.real != "" && p.real != p.path {
		rows = append(rows, []string{"leads to", shown(p.real) + " (lockerd follows no symbolic link: name that)"})
	}
	what := p.kind.String()
	if p.target != p.real {
		what += ", by its " + shown(strings.TrimPrefix(p.target, p.real+"/"))
	}
	locks := strings.Join(p.engines, " ")
	if locks == "" {
		locks = "none"
	}
	rows = append(rows, []string{"is a", what}, []string{"locks", noted(locks, p.only)})
	if m := p.mount; m != nil {
		kind := shown(m.fstype)
		if p.magic != 0 {
			kind += fmt.Sprintf(" (%s0x%x)", spaced(typeName(p.magic)), uint32(p.magic))
		}
		rows = append(rows, []string{"on", kind + ", " + orDash(m.source) + " at " + orDash(m.point)},
			[]string{"options", orDash(strings.Join(m.options, ","))})
	}
	if p.test.dir != "" {
		rows = append(rows, []string{"self-test", p.test.words()})
	}
	return rows
}

func spaced(s string) string {
	if s == "" {
		return ""
	}
	return s + ", "
}

func noted(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// words says how the self-test went.
func (t *selfTest) words() string {
	if !t.done {
		return t.why
	}
	one := func(p probe) string {
		switch p.outcome {
		case outcomeExcludes:
			return "a second open is kept out"
		case outcomeTwice:
			return "a second open gets it too"
		}
		return "fails: " + sentence(p.err.Error())
	}
	text := "ofd: " + one(t.ofd) + "; flock: " + one(t.flock)
	if t.flock.outcome == outcomeExcludes {
		if t.separate {
			text += "; the two do not see each other"
		} else {
			text += "; the two see each other"
		}
	}
	switch t.netatalk.outcome {
	case outcomeExcludes:
		text += "; netatalk's locks see ofd"
	case outcomeTwice:
		text += "; netatalk's locks do not see ofd"
	}
	if t.lease.outcome == outcomeExcludes {
		return text + "; lockerd can tell whether a file is in use"
	}
	return text + "; lockerd cannot tell whether a file is in use (" + sentence(t.lease.err.Error()) + ")"
}

func running(is bool) string {
	if is {
		return "running"
	}
	return "not running, as far as we see"
}

func (s *sambaReport) rows(asked func(share) bool) [][]string {
	rows := [][]string{{"smbd", running(s.running)}}
	switch {
	case s.testparm == "":
		return append(rows, []string{"testparm", "not found: shares are not known"})
	case s.err != nil:
		return append(rows, []string{"testparm", noted(shown(s.testparm), shownText(s.err.Error()))})
	}
	rows = append(rows, []string{"testparm", shown(s.testparm) + ": " + count(len(s.shares), "share")})
	for _, sh := range s.shares {
		if asked(sh) {
			rows = append(rows, []string{"share " + shown(sh.name), sh.words()})
		}
	}
	return rows
}

// words says the settings that matter, as they are in force.
func (s *share) words() string {
	path := "the users' homes"
	if s.path != "" {
		path = shown(s.path)
	}
	if len(s.macros) > 0 {
		path += " (" + shown(strings.Join(s.macros, " ")) + " taken for any name)"
	}
	posix := yesNo(s.posix)
	if s.forced() {
		posix = "no (forced by fruit:time machine)"
	}
	kernel := yesNo(s.kernel && !s.forced())
	fruit := ""
	if !s.fruit && (s.timeMachine || s.fruitLocks != "none") {
		fruit = " (without effect: no vfs object fruit)"
	}
	return fmt.Sprintf("%s; vfs objects = %s; fruit:locking = %s, fruit:time machine = %s%s; posix locking = %s; locking = %s; strict locking = %s; kernel oplocks = %s",
		path, orDash(strings.Join(s.objects, " ")), orDash(s.fruitLocks), yesNo(s.timeMachine), fruit, posix, yesNo(s.locking), s.strict, kernel)
}

func yesNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

func (n *netatalkReport) rows() [][]string {
	if !n.present() {
		return [][]string{{"afpd", "not found"}}
	}
	rows := [][]string{{"afpd", orDash(n.afpd) + ", " + running(n.running)}}
	switch {
	case n.config == "":
		return append(rows, []string{"afp.conf", "not found: volumes are not known"})
	case n.err != nil:
		rows = append(rows, []string{"afp.conf", noted(shown(n.config), shownText(n.err.Error()))})
	default:
		rows = append(rows, []string{"afp.conf", shown(n.config) + ": " + count(len(n.volumes), "volume")})
	}
	return rows
}

func (r *lockerdReport) rows() [][]string {
	var rows [][]string
	if r.err != nil {
		rows = append(rows, []string{"lockerd", strings.Join(judge(r.err).lines, "; ")})
	}
	if s := r.status; s != nil {
		policy := orDash(s.PolicyFile)
		if s.PolicyError != "" {
			policy += " (its newest form is refused)"
		}
		log := "healthy"
		if s.AuditError != "" {
			log = "no grants: " + sentence(s.AuditError)
		}
		rows = append(rows, []string{"lockerd", orDash(s.Server) + ", pid " + pids(s)}, []string{"policy", policy}, []string{"audit", log})
		if r.capsKnown {
			rows = append(rows, []string{"idle probe", capability(r.can(unix.CAP_LEASE), "CAP_LEASE", "telling whether others' files are in use")})
		}
	}
	switch {
	case r.stateDir == "":
	case r.spaceErr != nil:
		rows = append(rows, []string{"state", noted(shown(r.stateDir), sentence(r.spaceErr.Error()))})
	default:
		rows = append(rows, []string{"state", shown(r.stateDir) + ", " + bytesWords(r.free) + " free"})
	}
	if r.checked {
		word := "no fault"
		if r.checkErr != nil {
			word = shownText(r.checkErr.Error())
		}
		rows = append(rows, []string{"--check", word})
	}
	return rows
}

func capability(has bool, name, what string) string {
	if has {
		return "lockerd has " + name + ", for " + what
	}
	return "lockerd lacks " + name + ", for " + what
}

// rows says whether there is a guard, and where there is none, whether one is possible.
func (g *guardReport) rows(r *lockerdReport) [][]string {
	text := ""
	if r.status != nil {
		text = r.guard.words()
	}
	if r.guard.state == client.GuardOn {
		return [][]string{{"guard", text}}
	}
	switch g.kernel {
	case keptYes:
		text = join(text, "the kernel has fanotify's permission events ("+shown(g.source)+")")
	case keptNo:
		text = join(text, "not possible: the kernel was built without fanotify's permission events ("+shown(g.source)+")")
	default:
		text = join(text, "no file says whether the kernel has fanotify's permission events")
	}
	return [][]string{{"guard", text}}
}

func (k *kernelReport) rows() [][]string {
	var has, lacks, open []string
	for _, f := range k.features() {
		switch f.kept {
		case keptYes:
			has = append(has, f.word)
		case keptNo:
			lacks = append(lacks, f.word)
		default:
			open = append(open, f.word)
		}
	}
	rows := [][]string{{"Linux", orDash(k.release)}}
	for _, list := range []struct {
		name  string
		words []string
	}{{"has", has}, {"lacks", lacks}, {"unknown", open}} {
		if len(list.words) > 0 {
			rows = append(rows, []string{list.name, strings.Join(list.words, ", ")})
		}
	}
	return rows
}

type feature struct {
	name string // in JSON
	word string
	kept kept
}

func (k *kernelReport) features() []feature {
	return []feature{
		{"ofd", "OFD locks", k.ofd}, {"openat2", "openat2", k.openat2}, {"pidfd", "pidfd", k.pidfd}, {"pidfs", "pidfs", k.pidfs},
		{"so_peerpidfd", "SO_PEERPIDFD", k.peerPIDFD}, {"lease", "F_SETLEASE", k.lease}, {"fanotify", "fanotify", k.fanotify},
	}
}

// bytesWords says how much, in units of 1024.
func bytesWords(n uint64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	i, f := 0, float64(n)
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	if i == 0 {
		return strconv.FormatUint(n, 10) + " bytes"
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + units[i]
}
