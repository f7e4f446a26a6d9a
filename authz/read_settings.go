package authz

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// maxSocket is the longest name in sun_path without its NUL. unix(7).
const maxSocket = 107 // bytes

// read reads all tables. The whitelist is compared with the places of the server
// when both are known, and the rules are read last, since they must lie inside it.
func (r *reader) read(tables []table) {
	p := r.policy
	p.Server = Server{Socket: defaultSocket, SocketMode: 0o600, StateDir: defaultStateDir}
	p.Audit.SegmentSize = defaultSegmentSize
	var allowLines []int
	for _, t := range tables {
		switch t.name {
		case "":
			allowLines = r.readAllow(t)
		case "server":
			r.readServer(t)
		case "audit":
			r.readAudit(t)
		case "limits":
			r.readLimits(t)
		case "guard":
			r.readGuard(t)
		}
	}
	for i, entry := range p.Allow {
		if err := checkPlace(entry, p.Server.Socket, p.Server.StateDir); err != nil {
			r.failf(allowLines[i], "allow: %v", err)
		}
	}
	r.readRules(tables)
}

// unknown reports a key that the table does not have.
func (r *reader) unknown(t table, e entry, valid ...string) {
	where := "[" + t.name + "]"
	switch {
	case t.name == "":
		where = "the top of the file"
	case t.array:
		where = "[[" + t.name + "]]"
	}
	if t.name != "" && e.key == "allow" {
		r.failf(e.line, "allow does not belong into %s: write it above all tables", where)
		return
	}
	if t.name == "" && slices.Contains(tableOrder[1:], e.key) {
		r.failf(e.line, "%q is a table: write [%s]", e.key, e.key)
		return
	}
	r.failf(e.line, "unknown key %q in %s%s", e.key, where, suggest(e.key, valid, "keys are"))
}

// readAllow returns the line of each entry of Policy.Allow.
func (r *reader) readAllow(t table) (lines []int) {
	found := false
	for _, e := range t.entries {
		if e.key != "allow" {
			r.unknown(t, e, "allow")
			continue
		}
		found = true
		entries, at := r.strings(e, `["/srv/backups"]`)
		for i, root := range entries {
			if err := CheckPath(root); err != nil {
				if root == "/" {
					err = errPlaceRoot(root)
				}
				r.failf(at[i], "allow: %q: %v", root, err)
				continue
			}
			if strings.ContainsAny(root, "{}") {
				r.failf(at[i], "allow: %q: no templates here, only in rules", root)
				continue
			}
			r.policy.Allow = append(r.policy.Allow, root)
			lines = append(lines, at[i])
		}
	}
	if !found {
		r.failf(1, `allow is missing: begin with the whitelist, such as allow = ["/srv/backups"]`)
	}
	return lines
}

func (r *reader) readServer(t table) {
	s := &r.policy.Server
	hasMode, groupLine := false, 0
	for _, e := range t.entries {
		switch e.key {
		case "socket":
			v, ok := r.place(e, defaultSocket)
			switch {
			case !ok:
			case len(v) > maxSocket:
				r.failf(e.line, "socket: longer than %d bytes", maxSocket)
			case path.Dir(v) == "/":
				r.failf(e.line, `socket: %q stands in "/": give it a directory`, v)
			default:
				s.Socket = v
			}
		case "state_dir":
			if v, ok := r.place(e, defaultStateDir); ok {
				s.StateDir = v
			}
		case "socket_mode":
			hasMode = true
			r.readSocketMode(e)
		case "socket_group":
			gid, err := r.resolve.gid(e.value)
			if err != nil {
				r.failf(e.line, "socket_group: %v", err)
				continue
			}
			s.SocketGroup, s.HasSocketGroup, groupLine = gid, true, e.line
		default:
			r.unknown(t, e, "socket", "socket_mode", "socket_group", "state_dir")
		}
	}
	if !s.HasSocketGroup {
		return
	}
	if !hasMode {
		s.SocketMode = 0o660
	} else if s.SocketMode&0o020 == 0 {
		r.failf(groupLine, "socket_group has no effect: socket_mode %04o does not let a group in", s.SocketMode)
	}
}

// place reads the path of something that is the server's own.
func (r *reader) place(e entry, example string) (string, bool) {
	v, ok := r.text(e, example)
	if ok {
		if err := CheckPath(v); err != nil {
			r.failf(e.line, "%s: %q: %v", e.key, v, err)
			ok = false
		}
	}
	return v, ok
}

// readSocketMode reads octal digits. connect(2) needs write permission; the
// execute bits mean nothing and world-write is said in full or not at all.
func (r *reader) readSocketMode(e entry) {
	v, ok := r.text(e, "0660")
	if !ok {
		return
	}
	mode, err := strconv.ParseUint(v, 8, 12)
	octal := len(v) == 4 && v[0] == '0' || len(v) == 3
	switch {
	case err != nil || !octal:
		r.failf(e.line, `socket_mode: %q is not an octal mode such as "0660"`, v)
	case mode&0o600 != 0o600:
		r.failf(e.line, `socket_mode: %q takes reading or writing from the owner`, v)
	case mode&0o111 != 0:
		r.failf(e.line, `socket_mode: %q has execute bits`, v)
	case mode&0o002 != 0 && mode != 0o666:
		r.failf(e.line, `socket_mode: %q lets everybody write; if that is meant, write "0666"`, v)
	default:
		r.policy.Server.SocketMode = fs.FileMode(mode)
	}
}

func (r *reader) readAudit(t table) {
	for _, e := range t.entries {
		if e.key != "segment_size" {
			r.unknown(t, e, "segment_size")
			continue
		}
		if n, ok := r.size(e, 64<<10, 4<<30); ok {
			r.policy.Audit.SegmentSize = n
		}
	}
}

func (r *reader) readLimits(t table) {
	keys := r.policy.Limits.keys()
	valid := []string{"unsent"}
	for _, k := range keys {
		valid = append(valid, k.key)
	}
	lines := map[string]int{}
	for _, e := range t.entries {
		i := slices.IndexFunc(keys, func(k limitKey) bool { return k.key == e.key })
		switch {
		case e.key == "unsent":
			if n, ok := r.size(e, minUnsent, maxUnsent); ok {
				r.policy.Limits.UnsentAll = n
			}
		case i < 0:
			r.unknown(t, e, valid...)
		default:
			if n, ok := r.integer(e, keys[i].max); ok {
				*keys[i].field = n
				lines[e.key] = e.line
			}
		}
	}
	for _, k := range keys {
		i := slices.IndexFunc(keys, func(all limitKey) bool { return all.key == k.all })
		if i < 0 || *k.field <= *keys[i].field {
			continue
		}
		if line := max(lines[k.key], lines[k.all]); line > 0 {
			r.failf(line, "%s (%d) is more than %s (%d)", k.key, *k.field, k.all, *keys[i].field)
		}
	}
}
