package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// crowd are the client processes of a round, and the prober.
type crowd struct {
	*run
	mu      sync.Mutex // guards what follows
	current [slots]*exec.Cmd
	asked   [slots]bool // its end
	over    bool
	history []string       // files
	ends    map[word]int64 // when a life was ended; its word is of worker 0, request 0
	work    sync.WaitGroup
}

// begin starts all of them.
func (r *run) gather(m mix) *crowd {
	c := &crowd{run: r, ends: map[word]int64{}}
	r.m.stop.Store(0)
	for slot := range slots {
		c.live(slot, m)
	}
	cmd := r.part("prober", part{Mix: m})
	if err := start(r.starts, cmd); err != nil {
		r.fault(finding{kind: "end", text: fmt.Sprintf("start the prober: %v", err)})
		return c
	}
	c.work.Go(func() {
		if err := cmd.Wait(); err != nil {
			r.fault(finding{kind: "end", text: fmt.Sprintf("the prober ended: %v\n%s", err, tail(r.partLog()))})
		}
	})
	return c
}

func (r *run) partLog() string { return filepath.Join(r.dir, "clients.log") }

// part makes the command of a client or the prober.
func (r *run) part(name string, p part) *exec.Cmd {
	p.Memory, p.Events, p.Files, p.Socket, p.Seed = r.memory, r.events, r.files(), r.socket, r.seed
	text, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	cmd := exec.Command("/proc/self/exe")
	if self, err := os.Executable(); err == nil {
		cmd.Path = self
	}
	// One CPU each is enough for them; more would only make them look for each other's work.
	cmd.Env = append(os.Environ(), roleEnv+"="+name, partEnv+"="+string(text), "GOMAXPROCS=1")
	if out, err := openAppend(r.partLog()); err == nil {
		cmd.Stdout, cmd.Stderr = out, out
	}
	return cmd
}

// live starts the next life of a client, and the one after it when that has been killed.
func (c *crowd) live(slot int, m mix) {
	c.mu.Lock()
	c.lives[slot]++
	life := c.lives[slot]
	c.mu.Unlock()
	history := filepath.Join(c.dir, fmt.Sprintf("history-%d-%d", slot, life))
	cmd := c.part("client", part{Slot: slot, Life: life, Mix: m, History: history})
	err := start(c.starts, cmd)
	if out, ok := cmd.Stdout.(*os.File); ok {
		out.Close()
	}
	if err != nil {
		c.fault(finding{kind: "end", text: fmt.Sprintf("start a client: %v", err)})
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current[slot], c.asked[slot] = cmd, false
	c.history = append(c.history, history)
	c.work.Go(func() {
		err := cmd.Wait()
		c.mu.Lock()
		asked, over := c.asked[slot], c.over
		c.current[slot] = nil
		c.mu.Unlock()
		dead := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		switch {
		case asked && dead:
			if !over {
				c.live(slot, m)
			}
		case !asked && err == nil && c.m.stop.Load() != 0:
		default:
			c.fault(finding{kind: "end", text: fmt.Sprintf("client %d life %d (pid %d) ended: %v\n%s", slot, life, cmd.Process.Pid, cmd.ProcessState, tail(c.partLog()))})
		}
	})
}

// end kills a client, and gives its pid; 0: there is none just now.
func (c *crowd) end(slot int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	cmd := c.current[slot]
	if cmd == nil || c.asked[slot] || c.over {
		return 0
	}
	c.asked[slot] = true
	life := c.lives[slot]
	c.m.condemned[slot].Store(life) // before the kill: see memory
	c.ends[lifeOf(makeWord(slot*workers, life, 0, false))] = now()
	c.said("client %d life %d (pid %d) is to be killed", slot, life, cmd.Process.Pid)
	cmd.Process.Kill()
	c.killed.Add(1)
	return cmd.Process.Pid
}

// lifeOf gives the key of a life: the word without worker and request.
func lifeOf(w word) word { return makeWord(w.slot()*workers, w.life(), 0, false) }

// thin kills clients, each some time after something is sent to due, until ctx ends.
func (c *crowd) thin(ctx context.Context, random *rand.Rand, due <-chan struct{}) {
	for {
		select {
		case <-due:
			pause(upTo(random, 30*time.Millisecond))
			c.end(random.IntN(slots))
		case <-ctx.Done():
			return
		}
	}
}

// dismiss has all of them let go and end.
func (c *crowd) dismiss() error {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.m.stop.Store(1)
	done := make(chan struct{})
	go func() { // ends at the latest when the run's processes are killed
		c.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(2 * patience):
		c.destroy()
		<-done
		return fmt.Errorf("not all clients ended within %v of being told to", 2*patience)
	}
}

// destroy ends them without ado.
func (c *crowd) destroy() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for slot, cmd := range c.current {
		if cmd != nil {
			c.asked[slot] = true
			cmd.Process.Kill()
		}
	}
	c.m.stop.Store(1)
}
