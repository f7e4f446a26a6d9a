package torture

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"locker/client"
)

// inheritAll lets go of what the last lives of the clients have left: those that were killed at the end of a round have no successor.
func (r *run) inheritAll() error {
	if err := r.settled(r.ctx); err != nil {
		return err
	}
	history := filepath.Join(r.dir, "history-end")
	r.crowd.history = append(r.crowd.history, history)
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	x := &process{part: part{Files: r.files()}, m: r.m, stop: ctx, said: map[string]bool{}}
	var err error
	if x.events, err = openNotebook(r.m, r.events); err != nil {
		return err
	}
	defer x.events.f.Close()
	if x.history, err = openAppend(history); err != nil {
		return err
	}
	defer x.history.Close()
	if x.c, err = client.Dial(ctx, r.socket); err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer x.c.Close()
	for slot := range slots {
		x.Slot, x.Life = slot, r.lives[slot]+1
		x.inherit()
	}
	return nil
}

// within asks for all rows until check is content with them, or the time is up; on a machine that hardly lets us ask, some questions longer.
func (r *run) within(ctx context.Context, most time.Duration, check func([]client.Row) error) error {
	c, err := client.Dial(ctx, r.socket)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer c.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	const least = 100 // questions: a second's, where nobody keeps us waiting
	begun := time.Now()
	for n := 0; ; n++ {
		rows, err := c.List(ctx, true)
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		if err = check(rows); err == nil {
			return nil
		}
		if time.Since(begun) > most && n >= least {
			return err
		}
		<-tick.C
	}
}

// checkRest looks whether anything is locked, kept or listed, now that everybody has let go.
func (r *run) checkRest() {
	for f := range files + quiet {
		if ws := r.m.owned(f); len(ws) > 0 {
			r.report(finding{kind: "left", text: fmt.Sprintf("the harness itself: %s is owned by %v at the end of a round", fileName(f), ws)})
			return
		}
	}
	err := r.within(r.ctx, time.Second, func(rows []client.Row) error {
		for _, row := range rows {
			return fmt.Errorf("%d rows are listed after everybody has let go, for example %+v", len(rows), row)
		}
		for f := range files + quiet {
			if err := tryAll(filepath.Join(r.files(), fileName(f))); err != nil {
				return err
			}
		}
		for _, p := range []*incarnation{r.of(brokerRole), r.of(keeperRole)} {
			if err := r.descriptors(p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && r.ctx.Err() == nil {
		r.tally(r.round).found("left")
		r.report(finding{kind: "left", text: err.Error()})
	}
}

// tryAll looks whether a file is free.
func tryAll(name string) error {
	o, err := openOutsider(name)
	if err != nil {
		return err
	}
	defer o.close()
	for kind, try := range map[string]func() (bool, error){"flock": o.tryFlock, "an OFD lock": o.tryOFD} {
		if in, err := try(); err != nil || !in {
			return fmt.Errorf("%s cannot be had on %s after everybody has let go: %v", kind, name, err)
		}
	}
	return nil
}

// descriptors looks whether a process still has a file of ours open, or watches a process. Only a seeded no-keeper has no such process.
func (r *run) descriptors(p *incarnation) error {
	dir := filepath.Join("/proc", strconv.Itoa(p.pid), "fd")
	names, err := os.ReadDir(dir)
	if os.IsPermission(err) {
		return nil // not dumpable, and we are not root: what it has shows only in what is locked
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		target, err := os.Readlink(filepath.Join(dir, name.Name()))
		if err != nil {
			continue
		}
		if strings.HasPrefix(target, r.files()+"/") || p.role == keeperRole && strings.Contains(target, "pidfd") {
			return fmt.Errorf("the %v still has descriptor %s open: %s", p.role, name.Name(), target)
		}
	}
	return nil
}
