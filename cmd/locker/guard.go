package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"locker/client"
)

// guarding is what lockerd says of its guard: whether it keeps file servers from held bundles, and which.
type guarding struct {
	state    client.GuardState
	programs []string // paths without symbolic links
}

func askGuard(ctx context.Context, conn *client.Client) (g guarding, err error) {
	g.state, g.programs, err = conn.Guard(ctx)
	return g, err
}

// words says it for people.
func (g guarding) words() string {
	var programs []string
	for _, p := range g.programs {
		programs = append(programs, shown(p))
	}
	list := strings.Join(programs, ", ")
	switch g.state {
	case client.GuardOn:
		return "on: held bundles are kept from " + list
	case client.GuardOff:
		return "off: the policy denies nobody"
	case client.GuardDown:
		return "down: held bundles are not kept from " + list + "; " + logSaysWhy
	}
	return "none: this lockerd is too old for one"
}

func (g guarding) write(o *object) {
	o.key("guard")
	o.open('{')
	g.fields(o)
	o.close('}')
}

func (g guarding) fields(o *object) {
	o.text("state", g.state.String())
	o.list("denied", append([]string{}, g.programs...))
}

// denies reports whether a server is kept out: every one of the programs that it is, or, where none was found, any of its name.
func (g guarding) denies(name string, found []string) bool {
	if g.state != client.GuardOn {
		return false
	}
	if len(found) == 0 {
		return slices.ContainsFunc(g.programs, func(p string) bool { return filepath.Base(p) == name })
	}
	return !slices.ContainsFunc(found, func(p string) bool { return !slices.Contains(g.programs, p) })
}

// serverPrograms gives the programs that run under this name, as far as we may see, else the installed one; without symbolic links.
func (d *doctor) serverPrograms(name, installed string) []string {
	var found []string
	for _, pid := range d.pidsOf(name) {
		exe, err := os.Readlink(filepath.Join(d.proc, pid, "exe"))
		if exe = strings.TrimSuffix(exe, " (deleted)"); err == nil && !slices.Contains(found, exe) { // what it was still counts
			found = append(found, exe)
		}
	}
	if real, err := filepath.EvalSymlinks(installed); len(found) == 0 && installed != "" && err == nil {
		found = []string{real}
	}
	return found
}
