package main

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"

	"locker/client"
)

// The command lines of 2016: flags alone, with one dash or two, as Go's package flag reads them.

// oldLine is a parsed command line of 2016.
type oldLine struct {
	client, server, lock, unlock, help bool
	path, socket                       string
	allow                              []string
}

// isOld reports whether the first argument begins a command line of 2016. --socket alone does not tell: it may also
// stand before a subcommand, and then what follows its value decides.
func isOld(args []string) bool {
	for len(args) > 0 {
		name, _, joined := oldFlag(args[0])
		switch name {
		case "client", "server", "lock", "unlock", "path", "allow":
			return true
		case "socket":
			if !strings.HasPrefix(args[0], "--") {
				return true
			}
			args = args[1:]
			if !joined && len(args) > 0 {
				args = args[1:]
			}
		default:
			return false
		}
	}
	return false
}

// oldFlag takes an argument apart: -name, --name, -name=value. The name is "" for anything else.
func oldFlag(arg string) (name, value string, joined bool) {
	name = strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
	if name == arg || name == "" || name[0] == '-' || name[0] == '=' {
		return "", "", false
	}
	name, value, joined = strings.Cut(name, "=")
	return name, value, joined
}

// parseOld reads a command line of 2016.
func parseOld(args []string) (oldLine, error) {
	var o oldLine
	for len(args) > 0 {
		arg := args[0]
		name, value, joined := oldFlag(arg)
		args = args[1:]
		switch name {
		case "client", "server", "lock", "unlock", "help", "h":
			is := true
			if joined {
				var err error
				if is, err = strconv.ParseBool(value); err != nil {
					return o, &usageError{text: oldBadBool(name, value)}
				}
			}
			*map[string]*bool{
				"client": &o.client, "server": &o.server, "lock": &o.lock, "unlock": &o.unlock, "help": &o.help, "h": &o.help,
			}[name] = is
			continue
		case "path", "socket", "allow":
		default:
			return o, &usageError{text: oldUnknown(arg)}
		}
		if !joined {
			if len(args) == 0 {
				return o, &usageError{text: oldNoValue(name)}
			}
			value, args = args[0], args[1:]
		}
		switch name {
		case "path":
			o.path = value
		case "socket":
			o.socket = value
		case "allow":
			o.allow = append(o.allow, value)
			for len(args) > 0 && !strings.HasPrefix(args[0], "-") { // several after one -allow
				o.allow, args = append(o.allow, args[0]), args[1:]
			}
		}
	}
	return o, o.check()
}

// check refuses what makes no sense together. Flags that the chosen side does not use were no error in 2016.
func (o *oldLine) check() error {
	text := ""
	switch {
	case o.help:
	case o.client && o.server:
		text = oldBoth
	case o.server:
	case o.lock && o.unlock:
		text = oldTwice
	case !o.lock && !o.unlock:
		text = oldNeither
	case o.path == "":
		text = oldNoPath
	}
	if text == "" {
		return nil
	}
	return &usageError{text: text}
}

// runOld does what a command line of 2016 says.
func (c *cli) runOld(args []string) error {
	o, err := parseOld(args)
	switch {
	case err != nil:
		return err
	case o.help:
		c.out.WriteString(oldUsage)
		return nil
	case o.server:
		if o.lock || o.unlock || o.path != "" {
			c.say.warning(oldIgnored)
		}
		return o.becomeLockerd()
	}
	c.socket, c.conflict = o.socket, -1
	path, err := absolute(o.path)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if o.lock {
		return c.oldLock(ctx, path)
	}
	return c.with(ctx, func(conn *client.Client) error {
		ids, err := conn.UnlockPaths(ctx, "", path)
		if err != nil {
			return err
		}
		if slices.Contains(ids, 0) || len(ids) == 0 {
			c.out.WriteString(oldNotLocked + "\n")
		} else {
			c.out.WriteString(oldReleased + "\n")
		}
		return nil
	})
}

// oldLock waits for as long as it takes, and leaves the lock behind.
func (c *cli) oldLock(ctx context.Context, path string) error {
	return c.obtain(ctx, client.Request{Paths: []string{path}, Detached: true}, func(_ *client.Client, lock *client.Lock) {
		if lock.Holds()[0].Already {
			c.out.WriteString(oldAlready + "\n")
		} else {
			c.out.WriteString(oldLockSet + "\n")
		}
	})
}

// becomeLockerd starts the daemon in our place. The socket is passed on as it is: made absolute it might exceed the 107
// bytes that unix(7) allows.
func (o *oldLine) becomeLockerd() error {
	var args []string
	socket := o.socket
	if socket == "" {
		socket = os.Getenv(client.SocketEnv)
	}
	if socket != "" {
		args = append(args, "--socket", socket)
	}
	for _, a := range o.allow {
		path, err := absolute(a)
		if err != nil {
			return err
		}
		args = append(args, "--allow", path)
	}
	return execLockerd(args...)
}
