package fileservers

import (
	"os"
	"testing"
)

// kind is a file server with its settings.
type kind struct {
	name     string
	comm     string // what its processes are called,
	program  string // and what they execute
	need     func(*testing.T, ...string)
	start    func(t *testing.T, dir string) *served
	verbs    []verb
	opensNot []string          // what gets through even when nothing can be opened
	held     map[string]string // what the token of a held bundle is answered with, by the verb's name
}

// verb is something that a client tries on a file, and what doctor calls it if it gets through.
type verb struct {
	name            string
	access, sharing string
	how             string
	then            string // of the handle, if the open succeeds
	past            string // doctor's word for that; "" if open is all
}

var smbVerbs = []verb{
	{"read", "r", "rw", "", "read", "read"},
	{"write", "rw", "rw", "", "write", "write"},
	{"write only", "w", "rw", "", "write", "write"},
	{"deny all", "rw", "-", "", "read", "read"},
	{"byte-range lock", "rw", "rw", "", "lock", "lock"},
	{"read with an oplock", "rw", "rw", "oplock", "read", "oplock"},
	{"write with an oplock", "rw", "rw", "oplock", "write", "oplock"},
	{"byte-range lock with an oplock", "rw", "rw", "oplock", "lock", "lock"},
	{"truncating open", "rw", "rw", "trunc", "", "truncate"},
}

var afpVerbs = []verb{
	{"read", "r", "rw", "", "read", "read"},
	{"read, deny writing", "r", "r", "", "read", "read"},
	{"write", "rw", "rw", "", "write", "write"},
	{"write only", "w", "rw", "", "write", "write"},
	{"deny all", "rw", "-", "", "write", "write"},
	{"neither read nor write", "-", "rw", "", "", ""},
	{"byte-range lock", "rw", "rw", "", "lock", "lock"},
	{"truncate", "rw", "rw", "", "trunc", "truncate"},
}

// setting is one way to configure a share for Macs.
type setting struct{ name, lines string }

var settings = []setting{
	{"default", ""},
	{"fruit locking netatalk", "fruit:locking = netatalk\n"},
	{"time machine", "fruit:time machine = yes\n"},
	{"time machine, fruit locking netatalk", "fruit:time machine = yes\nfruit:locking = netatalk\n"},
}

// otherSettings are what doctor judges beside these.
var otherSettings = []setting{
	{"strict locking", "strict locking = yes\n"},
	{"lax locking", "strict locking = no\n"},
	{"no oplocks", "oplocks = no\n"},
	{"no posix locking", "posix locking = no\n"},
	{"no locking", "locking = no\n"},
}

func samba(s setting) kind {
	return kind{
		name: "samba " + s.name, comm: "smbd", program: "smbd", need: needSamba, verbs: smbVerbs, opensNot: []string{"delete", "rename"}, held: sambaHeld[s.name],
		start: func(t *testing.T, dir string) *served { return startSmbd(t, dir, s) },
	}
}

// sambas are the settings that the guide speaks of.
func sambas() []kind {
	var all []kind
	for _, s := range settings {
		all = append(all, samba(s))
	}
	return all
}

// netatalks are the imitation of afpd, and the real one where there is one.
func netatalks() []kind {
	imitation := kind{
		name: "an imitation of afpd", comm: "afpd", program: python, verbs: afpVerbs, opensNot: []string{"rename"}, held: all(afpVerbs, "open DenyConflict"), start: imitateAFPD,
		need: func(t *testing.T, programs ...string) { need(t, append(programs, python)...) },
	}
	kinds := []kind{imitation}
	if root := os.Getenv(realAFPD); root != "" {
		real := imitation
		real.name, real.program, real.start = "afpd", root+"/usr/sbin/afpd", startAFPD(root)
		kinds = append(kinds, real)
	}
	return kinds
}

// refusedLater is without what a client with an oplock reads and writes. strict locking = auto: who has one, as a Mac does, is believed
// to be alone, and locks are not looked at.
var refusedLater = map[string]string{
	"read": "read FILE_LOCK_CONFLICT", "write": "write FILE_LOCK_CONFLICT", "write only": "write FILE_LOCK_CONFLICT",
	"deny all": "read FILE_LOCK_CONFLICT", "byte-range lock": "lock LOCK_NOT_GRANTED", "byte-range lock with an oplock": "lock LOCK_NOT_GRANTED",
	"truncating open": "open OK",
}

var sambaHeld = map[string]map[string]string{
	"default":                              refusedLater,
	"fruit locking netatalk":               all(smbVerbs, "open SHARING_VIOLATION"),
	"time machine, fruit locking netatalk": all(smbVerbs, "open SHARING_VIOLATION"),
}

// all answers every verb alike.
func all(verbs []verb, answer string) map[string]string {
	held := map[string]string{}
	for _, v := range verbs {
		held[v.name] = answer
	}
	return held
}
