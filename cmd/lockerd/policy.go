package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"locker/authz"
	"locker/flock"
)

// loadPolicy gives the policy to start with, and the function that takes the file anew (nil when there is none).
func loadPolicy(o options) (*authz.Policy, func() (*authz.Policy, error), error) {
	users := authz.SystemUsers()
	if len(o.allow) > 0 {
		names, err := users.Names()
		if err != nil {
			return nil, nil, err
		}
		p, err := authz.Standalone(o.allow, uint32(os.Geteuid()), names)
		return p, nil, err
	}
	load := func() (*authz.Policy, error) { return authz.Load(o.config, users) }
	p, err := load()
	if errors.Is(err, fs.ErrNotExist) && !o.configGiven {
		return nil, nil, fmt.Errorf("there is no policy file %s; write one (README.md has an example), or give --allow PATH to serve root and yourself alone", o.config)
	}
	return p, load, err
}

// allowWarnings says what is doubtful about the whitelist on this machine.
func allowWarnings(allow []string) []string {
	_, warnings, err := flock.NewOpener(allow)
	if err != nil {
		return []string{err.Error()}
	}
	return warnings
}

// groupAdm is the group that may read the log; -1 on a system without it, when we could not give it away, or when we need not,
// since it is our own: then a service manager need not let us give anything away.
func groupAdm() int {
	gid, err := authz.SystemUsers().GID("adm")
	if err != nil || os.Geteuid() != 0 || int(gid) == os.Getegid() {
		return -1
	}
	return int(gid)
}
