package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"locker/authz"
	"locker/guard"
)

// placeOf takes the guard's place at path.
func placeOf(path string) (*takenPlace, error) {
	return takePlace("guard", path, path+ownerSuffix)
}

// guardHere serves a guard at path until the test ends.
func guardHere(t *testing.T, path string) {
	t.Helper()
	if err := makeOwnDir(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	place, err := placeOf(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- (&guard.Server{}).Serve(ctx, place.UnixListener) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		place.release()
	})
}

// What the policy lets through, the guard must take: it is told all of it in one message.
func TestTheLongestListOfAPolicyIsOneThatTheGuardTakes(t *testing.T) {
	list := func(n, length int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("/%0*d", length-1, i))
		}
		return list
	}
	const most = 16<<10 - 14
	full := list(63, 254)
	full = append(full, "/"+strings.Repeat("x", most-63*256-3))
	long := append(list(63, 254), "/"+strings.Repeat("x", most-63*256-2))
	for name, c := range map[string]struct {
		programs []string
		fits     bool
	}{
		"as many as there may be": {list(guard.MaxPaths, 20), true},
		"one more":                {list(guard.MaxPaths+1, 20), false},
		"as long as it may be":    {full, true},
		"a byte more":             {long, false},
	} {
		path := filepath.Join(t.TempDir(), "g", "guard.sock")
		guardHere(t, path)
		c2, err := dialGuard(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer c2.Close()
		err = c2.Deny(t.Context(), c.programs)
		if took := err == nil || errors.Is(err, guard.ErrUnavailable); took != c.fits {
			t.Errorf("%s: the guard says %v", name, err)
		}
		text := "allow = [\"/srv/x\"]\n[guard]\ndeny = [\"" + strings.Join(c.programs, "\", \"") + "\"]\n"
		if _, err := authz.Parse("/p", []byte(text), authz.SystemUsers()); (err == nil) != c.fits {
			t.Errorf("%s: the policy says %v", name, err)
		}
	}
}

func TestAGuardIsReachedHoweverLongItsPathIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 100), strings.Repeat("e", 100))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "g", "guard.sock")
	guardHere(t, path)
	c, err := dialGuard(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if c.PID() != int32(os.Getpid()) {
		t.Errorf("pid %d listens, want %d", c.PID(), os.Getpid())
	}
}

func TestThereIsOneGuardAtAPlaceAndNoneWhereOthersWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "g", "guard.sock")
	guardHere(t, path)
	if _, err := placeOf(path); err == nil || !strings.Contains(err.Error(), "in use by lockerd pid") {
		t.Errorf("a second one: %v", err)
	}
	if c, err := dialGuard(t.Context(), path); err != nil {
		t.Errorf("the first one is gone: %v", err)
	} else {
		c.Close()
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	if _, err := placeOf(filepath.Join(open, "guard.sock")); err == nil || !strings.Contains(err.Error(), "writable by others") {
		t.Errorf("where others write: %v", err)
	}
	if _, err := dialGuard(t.Context(), filepath.Join(open, "guard.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("where there is none: %v", err)
	}
}

func TestABrokersUserIsANameOrANumber(t *testing.T) {
	for user, want := range map[string]uint32{"root": 0, "54321": 54321} {
		if uid, err := uidOf(user); err != nil || uid != want {
			t.Errorf("%s: %d, %v", user, uid, err)
		}
	}
	for _, user := range []string{"no-such-user", "-1", "4294967296", "4294967295x"} {
		if uid, err := uidOf(user); err == nil {
			t.Errorf("%s is %d", user, uid)
		}
	}
}
