package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// process is what /proc/PID/stat says: proc_pid_stat(5).
type process struct {
	pid, parent, group, session int
	dead                        bool // a zombie
}

// survivors gives those who belong to the command and still run: its process group, or, if it is in ours, all our
// descendants in our session.
func (c *child) survivors() ([]int, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	self := os.Getpid()
	var alive []int
	for pid, p := range all {
		switch {
		case p.dead:
		case c.alone && p.group == c.pid, !c.alone && p.session == all[self].session && descends(all, pid, self):
			alive = append(alive, pid)
		}
	}
	return alive, nil
}

// descends reports whether pid is a child of root, or a child of one. Orphans are root's, since it is a subreaper.
func descends(all map[int]process, pid, root int) bool {
	for range len(all) { // the snapshot is not atomic, so it might hold a cycle
		p, ok := all[pid]
		if !ok {
			return false
		}
		if p.parent == root {
			return true
		}
		pid = p.parent
	}
	return false
}

// processes reads /proc.
func processes() (map[int]process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := map[int]process{}
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			text, err := os.ReadFile("/proc/" + name + "/stat")
			if err != nil {
				continue // gone meanwhile
			}
			if p, err := parseStat(text); err == nil {
				all[pid] = p
			}
		}
	}
	if _, ok := all[os.Getpid()]; !ok {
		return nil, fmt.Errorf("/proc does not show ourselves")
	}
	return all, nil
}

// parseStat reads one line. The command's name may hold anything, ") R 1" too: what follows begins behind the last ')'.
func parseStat(text []byte) (process, error) {
	var p process
	var state string
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return p, fmt.Errorf("no command name in %q", text)
	}
	if _, err := fmt.Sscanf(string(text), "%d", &p.pid); err != nil {
		return p, err
	}
	if _, err := fmt.Sscanf(string(text[end+1:]), "%s %d %d %d", &state, &p.parent, &p.group, &p.session); err != nil {
		return p, err
	}
	p.dead = state == "Z" || state == "X"
	return p, nil
}
