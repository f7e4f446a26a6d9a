package main

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"locker/client"
	"locker/wire"
)

// asking are the flags of 'lock' and 'run' that say how to ask.
type asking struct {
	shared, idle, nonblock bool
	timeout, reason        string
}

func (a *asking) flags(c *cli, f *pflag.FlagSet) {
	f.BoolVarP(&a.shared, "shared", "s", false, flagShared)
	f.BoolVar(&a.idle, "idle", false, flagIdle)
	f.BoolVarP(&a.nonblock, "nonblock", "n", false, flagNonblock)
	f.StringVarP(&a.timeout, "timeout", "w", "", flagTimeout)
	f.StringVar(&a.reason, "reason", "", flagReason)
	f.IntVarP(&c.conflict, "conflict-exit-code", "E", -1, flagConflict)
}

// request makes a request for paths, as typed.
func (a *asking) request(c *cli, f *pflag.FlagSet, paths []string) (client.Request, error) {
	r := client.Request{Mode: client.Exclusive, Idle: a.idle, NoWait: a.nonblock, Reason: a.reason}
	if a.shared {
		if a.idle {
			return r, &usageError{text: wordsSharedIdle}
		}
		r.Mode = client.Shared
	}
	if f.Changed("conflict-exit-code") && (c.conflict < 0 || c.conflict > 255) {
		bad := c.conflict
		c.conflict = -1
		return r, &usageError{text: sayBadCode(bad)}
	}
	if f.Changed("timeout") {
		if a.nonblock {
			return r, &usageError{text: wordsWaitTwice}
		}
		d, err := duration("timeout", a.timeout)
		if err != nil {
			return r, err
		}
		r.Timeout, r.NoWait = d, d == 0
	}
	if len(paths) == 0 {
		return r, &usageError{text: wordsNoPath}
	}
	err := checkText("reason", a.reason, wire.MaxReason)
	if err != nil {
		return r, err
	}
	r.Paths, err = absolutes(paths)
	return r, err
}

// duration reads what time.ParseDuration does, and a bare number as seconds, as flock(1) has it.
func duration(flag, value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil {
		seconds, bad := strconv.ParseFloat(value, 64)
		if bad != nil || !(seconds < 1e9) {
			return 0, &usageError{text: sayBadDuration(flag, value)}
		}
		d = time.Duration(seconds * float64(time.Second))
	}
	if d < 0 {
		return 0, &usageError{text: sayBadDuration(flag, value)}
	}
	return d, nil
}

func (c *cli) lockCommand() *cobra.Command {
	var how asking
	var ttl, tag string
	var cmd *cobra.Command
	cmd = c.command("lock [-s | --idle] [-n | -w DUR] [--ttl DUR] [--tag T] [--reason TEXT] PATH...", wordsLock, wordsLockLong,
		func(ctx context.Context, args []string) error {
			r, err := how.request(c, cmd.Flags(), args)
			if err != nil {
				return err
			}
			if err := checkText("tag", tag, wire.MaxTag); err != nil {
				return err
			}
			r.Detached, r.Tag = true, tag
			if cmd.Flags().Changed("ttl") {
				if r.TTL, err = duration("ttl", ttl); err != nil {
					return err
				}
				if r.TTL == 0 {
					return &usageError{text: sayBadDuration("ttl", ttl)}
				}
			}
			return c.obtain(ctx, r, func(conn *client.Client, lock *client.Lock) {
				c.printGrants(lock.Holds())
				c.warnUnseen(ctx, conn, lock.Holds())
			})
		})
	how.flags(c, cmd.Flags())
	cmd.Flags().StringVar(&ttl, "ttl", "", flagTTL)
	cmd.Flags().StringVar(&tag, "tag", "", flagTag)
	cmd.Flags().BoolVar(&c.json, "json", false, flagJSON)
	return cmd
}

// obtain dials, waits for a detached lock, has it told and leaves it.
func (c *cli) obtain(ctx context.Context, r client.Request, tell func(*client.Client, *client.Lock)) error {
	w := beginWait()
	conn, lock, err := c.acquire(w.ctx(ctx), r)
	w.end()
	if conn != nil {
		defer conn.Close()
	}
	if err := w.verdict(conn, lock, err); err != nil {
		return err
	}
	tell(conn, lock)
	return nil
}

// acquire dials and waits for the lock. The connection is nil on an error.
func (c *cli) acquire(ctx context.Context, r client.Request) (*client.Client, *client.Lock, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	asking, stop := context.WithCancel(context.Background())
	r.OnQueued = func(q client.Queue) { c.samba.ask(asking, q.Blockers) }
	line := newStatusLine(r.Paths)
	if line != nil {
		r.OnQueued = func(q client.Queue) {
			c.samba.ask(asking, q.Blockers)
			line.show(c.samba.named(q))
		}
		r.Refresh = time.Second
		defer line.clear()
	}
	lock, err := conn.Lock(ctx, r)
	if err != nil {
		conn.Close()
		if hints := linkHints(err, r.Paths); hints != nil {
			err = &hinted{err, hints}
		}
		time.AfterFunc(sambaPatience, stop) // what is said of the failure may still want to hear it
		return nil, nil, err
	}
	stop()
	return conn, lock, nil
}

// verdict is what has become of a lock that we waited for: when a signal came, it ends us, and a grant of that very
// moment is given back, except for what its owner held before. To be called after end.
func (w *waiting) verdict(conn *client.Client, lock *client.Lock, err error) error {
	sig := w.caught()
	if sig == 0 {
		return err
	}
	if err == nil {
		ctx, stop := context.WithTimeout(context.Background(), releaseTime)
		defer stop()
		for _, h := range lock.Holds() {
			if !h.Already {
				conn.UnlockID(ctx, h.Token) // on an error there is nobody left to tell: we die of the signal
			}
		}
	}
	return signalError{sig}
}

// isBundle says that the path is a sparsebundle's or its token's, by its name or, if we may look there, by what it holds.
func isBundle(path string) bool {
	if strings.HasSuffix(strings.TrimSuffix(path, "/token"), ".sparsebundle") {
		return true
	}
	for _, part := range []string{"token", "bands", "Info.plist"} {
		if _, err := os.Lstat(path + "/" + part); err != nil {
			return false
		}
	}
	return true
}

func (c *cli) printGrants(holds []client.Hold) {
	if !c.json {
		for _, h := range holds {
			c.out.WriteString(sayGrant(h) + "\n")
		}
		return
	}
	var o object
	o.open('{')
	o.key("locks")
	o.open('[')
	for _, h := range holds {
		o.open('{')
		o.path("path", h.Path)
		o.number("token", h.Token)
		o.fact("already", h.Already)
		o.list("rests", h.Rests.Names())
		o.time("expires", h.Expires)
		o.close('}')
	}
	o.close(']')
	o.close('}')
	c.printJSON(&o)
}

func (c *cli) printJSON(o *object) {
	c.out.Write(o.b)
	c.out.WriteByte('\n')
}
