package keeper

import (
	"errors"
	"path/filepath"
	"sync"
	"testing"
)

// A keeper that dies of SIGKILL takes connections and messages until it is quite dead, as one does that has stopped: only Sync
// tells.
func TestAKeeperThatDiesDuringAnUploadIsNoticedBySync(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keeper.sock")
	fd := file(t, 5)
	k := startChild(t, "keeper", path)
	k.stop()
	c := dialKeeper(t, path)
	for id := range 100 {
		must(t, upload(t.Context(), c, Entry{ID: uint64(id), Lock: fd, Holder: fd}))
	}
	var synced sync.WaitGroup
	synced.Go(func() {
		if err := c.Sync(t.Context()); !errors.Is(err, ErrGone) {
			t.Errorf("sync: %v", err)
		}
	})
	select {
	case <-c.Gone():
		t.Error("the keeper is gone before it was killed")
	default:
	}
	k.kill()
	synced.Wait()
	if err := c.Sync(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("another sync: %v", err)
	}
	if err := c.Put(Entry{ID: 1, Lock: fd, Holder: -1}); !errors.Is(err, ErrGone) {
		t.Errorf("put: %v", err)
	}
	if err := upload(t.Context(), c, Entry{ID: 1, Lock: fd, Holder: -1}); !errors.Is(err, ErrGone) {
		t.Errorf("upload: %v", err)
	}
	if err := c.Set(1, nil); !errors.Is(err, ErrGone) {
		t.Errorf("set: %v", err)
	}
	if _, _, err := c.List(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("list: %v", err)
	}
	c.Drop(1)
}

// Wherever in an upload the keeper dies.
func TestAnUploadIsWholeOrNotSynced(t *testing.T) {
	leaksNothing(t, "upload", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keeper.sock")
		fd := file(t, 5)
		for round := range 10 {
			k := startChild(t, "keeper", path)
			c := dialKeeper(t, path)
			var killed sync.WaitGroup
			for id := range 1000 {
				if id == round*100 {
					killed.Go(k.kill)
				}
				if err := upload(t.Context(), c, Entry{ID: uint64(id), Lock: fd, Holder: -1}); err != nil {
					if !errors.Is(err, ErrGone) {
						t.Errorf("upload: %v", err)
					}
					break
				}
			}
			killed.Wait()
			if err := c.Sync(t.Context()); !errors.Is(err, ErrGone) {
				t.Errorf("sync with a dead keeper: %v", err)
			}
			<-c.Gone()
			must(t, c.Close())
		}
	})
}

func TestADeadKeeperIsNoticedWhenNobodySends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keeper.sock")
	k := startChild(t, "keeper", path)
	c := dialKeeper(t, path)
	must(t, c.Sync(t.Context()))
	if int(c.PID()) != k.cmd.Process.Pid {
		t.Errorf("the keeper is %d, want %d", c.PID(), k.cmd.Process.Pid)
	}
	k.kill()
	<-c.Gone()
}

// Who waits for room in the queue, or for an answer, is told as well.
func TestADeadKeeperKeepsNobodyWaiting(t *testing.T) {
	c, end := pair(t)
	fd := file(t, 5)
	fill(t, c, fd)
	var waiting sync.WaitGroup
	for range 5 {
		waiting.Go(func() {
			if err := upload(t.Context(), c, Entry{ID: 1 << 40, Lock: fd, Holder: -1}); !errors.Is(err, ErrGone) {
				t.Errorf("upload: %v", err)
			}
		})
		waiting.Go(func() {
			if err := c.Sync(t.Context()); !errors.Is(err, ErrGone) {
				t.Errorf("sync: %v", err)
			}
		})
	}
	waiting.Go(func() {
		if _, _, err := c.List(t.Context()); !errors.Is(err, ErrGone) {
			t.Errorf("list: %v", err)
		}
	})
	c.Drop(1)
	must(t, end.Close())
	waiting.Wait()
	<-c.Gone()
}

// Close may come while others send, wait and read.
func TestCloseBesideEverythingElse(t *testing.T) {
	leaksNothing(t, "close", func(t *testing.T) {
		r := newRig(t).serve()
		fd := file(t, 5)
		for range 30 {
			c := r.dial()
			var busy sync.WaitGroup
			first := make(chan struct{}, 100)
			do := func(what func(id uint64) error) {
				busy.Go(func() {
					for id := uint64(0); ; id++ {
						err := what(id)
						if errors.Is(err, ErrGone) {
							return
						}
						if err != nil && !errors.Is(err, ErrFull) {
							t.Error(err)
							return
						}
						select {
						case first <- struct{}{}:
						default:
						}
					}
				})
			}
			do(func(id uint64) error { return c.Put(Entry{ID: id % 100, Lock: fd, Holder: fd}) })
			do(func(id uint64) error { return upload(t.Context(), c, Entry{ID: id % 100, Lock: fd, Holder: -1}) })
			do(func(id uint64) error { c.Drop(id % 100); return c.Set(id, nil) })
			do(func(id uint64) error { return c.Sync(t.Context()) })
			do(func(id uint64) error {
				entries, _, err := c.List(t.Context())
				for _, e := range entries {
					closeBoth(e)
				}
				return err
			})
			<-first
			must(t, c.Close())
			busy.Wait()
			must(t, c.Close())
		}
		r.stop()
		if w := r.warned(); w != "" {
			t.Error(w)
		}
	})
}
