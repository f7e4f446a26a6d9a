package keeper

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxClosers is how many close(2) may hang at once.
const maxClosers = 4

// closer closes descriptors away from the keeper's one goroutine: close(2) of a file on FUSE asks the file system's
// daemon, which may not answer, and one dead mount must not stop the keeping of every other lock.
type closer struct {
	mu      sync.Mutex // guards the fields below
	waiting []int      // descriptors
	open    int        // descriptors: waiting, or with close(2) under way
	running int
	idle    chan struct{} // closed when open becomes 0; nil: nobody waits for that

	work sync.WaitGroup
}

// fewWaiting is how many descriptors may wait for start.
const fewWaiting = 16

// close takes descriptors to be closed at the next start: waking another thread for each would cost more than closing it. It never
// blocks.
func (c *closer) close(fds ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, fd := range fds {
		if fd >= 0 {
			c.waiting = append(c.waiting, fd)
			c.open++
		}
	}
	if len(c.waiting) >= fewWaiting {
		c.begin()
	}
}

// start has all that wait closed.
func (c *closer) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begin()
}

// begin is start for who holds mu. Another goroutine is for more than one, or if those that run may hang.
func (c *closer) begin() {
	for free := len(c.waiting); free > 0 && c.running < maxClosers; free -= fewWaiting {
		c.running++
		c.work.Go(c.run)
	}
}

func (c *closer) run() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.waiting) > 0 {
		fd := c.waiting[len(c.waiting)-1]
		c.waiting = c.waiting[:len(c.waiting)-1]
		c.mu.Unlock()
		unix.Close(fd) // whatever it says, the descriptor is gone: close(2)
		c.mu.Lock()
		c.open--
		if c.open == 0 && c.idle != nil {
			close(c.idle)
			c.idle = nil
		}
	}
	c.running--
}

// unclosed is how many descriptors are still open.
func (c *closer) unclosed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// settle waits until all are closed, or for so long.
func (c *closer) settle(atMost time.Duration) (settled bool) {
	c.mu.Lock()
	c.begin()
	if c.open == 0 {
		c.mu.Unlock()
		return true
	}
	if c.idle == nil {
		c.idle = make(chan struct{})
	}
	idle := c.idle
	c.mu.Unlock()
	over := time.NewTimer(atMost)
	defer over.Stop()
	select {
	case <-idle:
		return true
	case <-over.C:
		return false
	}
}
