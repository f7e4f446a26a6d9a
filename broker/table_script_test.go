package broker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// tblScript plays a story of owners and files on a table (and on the model beside it) and compares what happens, line
// by line. A line is
//
//	WHO OP FILES = WHAT HAPPENS
//
// WHO is an owner, with ":name" if he has several claims: "a".."z" are detached owners of as many uids, "a1" is session
// 1 of a's uid, "root" is uid 0. OP: x, s: claim exclusively, shared (the kernel says yes at once); px, ps: the same,
// but the kernel does not answer; xn, sn: without waiting; yes: now it answers; cancel; rekey; free, end: release, mark
// ending WHO's holds on FILES. WHAT HAPPENS: the verdict (granted: pending, and the kernel said yes), then whoever
// moved, as "b granted", and of a deadlock the owners on the cycle: "deadlock via b c a".
type tblScript struct {
	*tblPair
	claims map[string]*claim
	names  map[*claim]string
	slow   map[*claim]bool // the kernel does not answer
}

func tblPlay(t *testing.T, l limits, story string) *tblScript {
	t.Helper()
	s := &tblScript{tblNewPair(t, l), map[string]*claim{}, map[*claim]string{}, map[*claim]bool{}}
	for n, line := range strings.Split(story, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if strings.TrimSpace(line) == "" {
			continue
		}
		do, want, _ := strings.Cut(line, "=")
		got := s.do(strings.Fields(do))
		if want = strings.Join(strings.Fields(want), " "); got != want {
			s.fail("line %d: %s\n got: %s\nwant: %s", n+1, strings.TrimSpace(do), got, want)
		}
	}
	return s
}

func tblWho(name string) owner {
	if name == "root" {
		return owner{}
	}
	o := owner{uid: uint32(name[0])}
	for _, digit := range name[1:] {
		o.session = uint64(o.uid)<<8 | uint64(digit)
	}
	return o
}

func tblName(o owner) string {
	switch {
	case o.uid == 0:
		return "root"
	case o.session != 0:
		return fmt.Sprintf("%c%c", rune(o.uid), rune(o.session&0xff))
	}
	return fmt.Sprintf("%c", rune(o.uid))
}

func tblFiles(s string) (keys []key) {
	for _, name := range strings.Split(s, ",") {
		keys = append(keys, key{1, uint64(name[0])})
	}
	return sortKeys(keys)
}

func (s *tblScript) do(f []string) string {
	name, op := f[0], f[1]
	who, _, _ := strings.Cut(name, ":")
	var keys []key
	if len(f) > 2 {
		keys = tblFiles(f[2])
	}
	s.moved = nil
	var out []string
	switch op {
	case "x", "s", "px", "ps", "xn", "sn":
		m := exclusive
		if strings.Contains(op, "s") {
			m = shared
		}
		c, v := s.add(tblWho(who), m, keys, !strings.Contains(op, "n"))
		if s.names[c], s.slow[c] = name, op[0] == 'p'; c.inTable() {
			s.claims[name] = c
		}
		out = append(out, s.say("", c, v, s.found))
	case "yes":
		c := s.claims[name]
		s.slow[c] = false
		out = append(out, s.say("", c, pending, detail{}))
	case "cancel":
		s.abandon(s.claims[name])
	case "rekey":
		c := s.claims[name]
		s.rekey(c, keys)
		before := s.moved
		s.moved = nil
		out = append(out, s.say("", c, s.verdict, s.found))
		s.moved = append(before, s.moved...)
	case "free", "end":
		for _, k := range keys {
			for _, h := range s.t.holdsOf(k) {
				if h.owner == tblWho(who) {
					if op == "free" {
						s.release(h)
					} else {
						s.markEnding(h)
					}
				}
			}
		}
	default:
		s.fail("no such operation: %v", f)
	}
	for len(s.moved) > 0 {
		e := s.moved[0]
		s.moved = s.moved[1:]
		out = append(out, s.say(s.names[e.c]+" ", e.c, e.v, e.d))
	}
	return strings.Join(out, ", ")
}

// say puts what has happened to a claim into words, and grants it if the kernel says so.
func (s *tblScript) say(who string, c *claim, v verdict, d detail) string {
	switch {
	case v == pending && !s.slow[c]:
		s.grant(c)
		return who + "granted"
	case v == deadlock:
		via := []string{who + "deadlock via"}
		for _, l := range d.cycle {
			via = append(via, tblName(l.owner))
		}
		return strings.Join(via, " ")
	}
	return who + tblVerdicts[v]
}

// queued returns the names of those who stand at a file, and holding of those who hold it.
func (s *tblScript) queued(file string) string {
	var names []string
	for _, c := range s.t.queue(tblFiles(file)[0]) {
		names = append(names, s.names[c])
	}
	return strings.Join(names, " ")
}

func (s *tblScript) holding(file string) string {
	var names []string
	for _, h := range s.t.holdsOf(tblFiles(file)[0]) {
		names = append(names, tblName(h.owner))
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

var tblRoomy = limits{1 << 20, 1 << 20, 1 << 20, 1 << 20}
