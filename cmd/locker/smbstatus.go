package main

import (
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"locker/client"
	"locker/wire"
)

// lockerd says from which address the client of an smbd comes. Who it is only Samba knows, and it tells root alone: smbstatus is asked if
// it is here, and if it says nothing nobody hears of it. It is asked beside everything else, which never waits for it.

// sambaPatience is how long smbstatus may take.
const sambaPatience = 2 * time.Second

// sambaAsker asks about one smbd, the first that is in the way.
type sambaAsker struct {
	programs programs

	mu    sync.Mutex // guards all below
	pid   int32      // 0: nobody was asked about yet
	heard string     // "alice on macbook", when done is closed; empty: nothing is known
	done  chan struct{}
}

// smbdOf gives the first smbd among those in the way, 0 if there is none.
func smbdOf(blockers []client.Blocker) int32 {
	for _, b := range blockers {
		if b.Kind == wire.Outside && b.PID > 0 && (b.Command == "smbd" || strings.HasPrefix(b.Command, "smbd[")) { // its title, since 4.18
			return b.PID
		}
	}
	return 0
}

// ask begins to ask about the smbd that is in the way, unless there is none or it has begun before. It does not wait; ctx ends it.
func (a *sambaAsker) ask(ctx context.Context, blockers []client.Blocker) {
	pid := smbdOf(blockers)
	a.mu.Lock()
	defer a.mu.Unlock()
	if pid == 0 || a.pid != 0 {
		return
	}
	done := make(chan struct{})
	a.pid, a.done = pid, done
	go func() { // nobody waits for it: it ends with ctx, or when it has taken too long
		defer close(done)
		heard := a.programs.sambaClient(ctx, pid)
		a.mu.Lock()
		a.heard = heard
		a.mu.Unlock()
	}()
}

// about gives what was heard about pid so far, after waiting for it for as long as patience.
func (a *sambaAsker) about(pid int32, patience time.Duration) string {
	a.mu.Lock()
	done := a.done
	a.mu.Unlock()
	if done != nil && patience > 0 {
		late := time.NewTimer(patience)
		defer late.Stop()
		select {
		case <-done:
		case <-late.C:
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pid != pid {
		return ""
	}
	return a.heard
}

// named adds to a place in a queue who the client of the smbd in the way is.
func (a *sambaAsker) named(q client.Queue) client.Queue {
	if len(q.Blockers) == 0 || smbdOf(q.Blockers[:1]) == 0 {
		return q
	}
	if heard := a.about(q.Blockers[0].PID, 0); heard != "" {
		first := q.Blockers[0]
		first.Reason = strings.TrimPrefix(first.Reason+", "+heard, ", ")
		q.Blockers = append([]client.Blocker{first}, q.Blockers[1:]...)
	}
	return q
}

// saySamba says, after a refusal, who the client of the smbd in the way is: if that is known by now, or somebody sits there who will wait
// a moment for it.
func (c *cli) saySamba(blockers []client.Blocker) {
	pid := smbdOf(blockers)
	if pid == 0 {
		return
	}
	var patience time.Duration
	if isTerminal(os.Stderr) {
		ctx, stop := context.WithCancel(context.Background())
		defer stop()
		c.samba.ask(ctx, blockers)
		patience = sambaPatience
	}
	if heard := c.samba.about(pid, patience); heard != "" {
		c.say.line(saySambaClient(pid, heard))
	}
}

// sambaClient asks Samba for whom its process works: user, and machine as that calls itself; "" if it does not say.
func (p programs) sambaClient(ctx context.Context, pid int32) string {
	path := p.find("smbstatus")
	if path == "" {
		return ""
	}
	out, err := p.run(ctx, sambaPatience, path, "--json", "--processes")
	if err != nil {
		return ""
	}
	var status struct {
		Sessions map[string]struct {
			Server struct {
				PID json.Number `json:"pid"` // a string in 4.17
			} `json:"server_id"`
			User    string `json:"username"`
			Machine string `json:"remote_machine"`
		} `json:"sessions"`
	}
	if json.Unmarshal(out, &status) != nil {
		return ""
	}
	for _, s := range status.Sessions {
		if s.Server.PID.String() == strconv.Itoa(int(pid)) && s.User != "" {
			if s.Machine == "" {
				return s.User
			}
			return s.User + " on " + s.Machine
		}
	}
	return ""
}
