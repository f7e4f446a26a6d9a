package authz

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

// ErrUnknownName is wrapped by Users for a name that the database lacks.
var ErrUnknownName = errors.New("no such name")

// Users turns names into ids. It is asked while a policy is loaded, never while
// a request is decided.
type Users interface {
	UID(name string) (uint32, error)
	GID(name string) (uint32, error)
	Names() (map[uint32]string, error) // uid → name
}

// groupNames is what Users may also have: names to suggest for an unknown group.
type groupNames interface {
	GroupNames() ([]string, error)
}

// snapshotter is what Users may also have: the same answers from one reading, for
// a policy with many names.
type snapshotter interface {
	Snapshot() (Users, error)
}

// SystemUsers returns the users and groups of /etc/passwd and /etc/group, read
// anew at each question. No NSS: it would load foreign code into a root process
// and could ask the network. Users of a directory service are named by number.
func SystemUsers() Users { return userFiles{"/etc/passwd", "/etc/group"} }

type userFiles struct{ passwd, group string }

// maxUserFile is in bytes. A larger database is refused, not cut short.
const maxUserFile = 64 << 20

// account is a line of passwd(5) or group(5): name:x:id:rest.
type account struct {
	name string
	id   uint32
	rest string
}

// accounts reads a file of passwd(5) or group(5). Lines that are none (comments,
// the + and - lines of NIS) are skipped, as getpwent(3) does.
//
// Privileged: an attacker controls neither the name nor the file, but perhaps how
// long it is (a tool that makes accounts) and some bytes of it (chfn(1)).
func accounts(file string) ([]account, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxUserFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", file, maxUserFile)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []account
	for line := range strings.SplitSeq(string(text), "\n") {
		fields := strings.SplitN(line, ":", 4)
		if len(fields) < 4 || fields[0] == "" || strings.ContainsAny(fields[0][:1], "+-#") {
			continue
		}
		id, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			continue
		}
		all = append(all, account{fields[0], uint32(id), fields[3]})
	}
	return all, nil
}

func (f userFiles) UID(name string) (uint32, error) {
	all, err := accounts(f.passwd)
	if err != nil {
		return 0, err
	}
	return lookUp(firstIDs(all), "user", name)
}

func (f userFiles) GID(name string) (uint32, error) {
	all, err := accounts(f.group)
	if err != nil {
		return 0, err
	}
	return lookUp(firstIDs(all), "group", name)
}

// Names returns the first name of each uid, as getpwuid(3) does.
func (f userFiles) Names() (map[uint32]string, error) {
	all, err := accounts(f.passwd)
	return firstNames(all), err
}

func firstNames(all []account) map[uint32]string {
	names := make(map[uint32]string, len(all))
	for _, a := range all {
		if _, known := names[a.id]; !known {
			names[a.id] = a.name
		}
	}
	return names
}

// Snapshot reads both files once. A missing group file is an empty one: small
// systems have none, and a policy that names a group is refused all the same.
func (f userFiles) Snapshot() (Users, error) {
	users, err := accounts(f.passwd)
	if err != nil {
		return nil, err
	}
	groups, err := accounts(f.group)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return userTable{users: firstIDs(users), groups: firstIDs(groups), names: firstNames(users)}, nil
}

func firstIDs(all []account) map[string]uint32 {
	ids := make(map[string]uint32, len(all))
	for _, a := range all {
		if _, known := ids[a.name]; !known {
			ids[a.name] = a.id
		}
	}
	return ids
}

// userTable answers from memory.
type userTable struct {
	users, groups map[string]uint32
	names         map[uint32]string
}

func (t userTable) UID(name string) (uint32, error)   { return lookUp(t.users, "user", name) }
func (t userTable) GID(name string) (uint32, error)   { return lookUp(t.groups, "group", name) }
func (t userTable) Names() (map[uint32]string, error) { return t.names, nil }
func (t userTable) GroupNames() ([]string, error)     { return slices.Collect(maps.Keys(t.groups)), nil }

func lookUp(ids map[string]uint32, what, name string) (uint32, error) {
	if id, ok := ids[name]; ok {
		return id, nil
	}
	return 0, fmt.Errorf("unknown %s %q: %w", what, name, ErrUnknownName)
}
