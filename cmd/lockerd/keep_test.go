package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// In a directory like /tmp another may have been there before us.
func TestKeeperKeepsInNoDirectoryOfAnother(t *testing.T) {
	for what, plant := range map[string]func(dir, elsewhere string) error{
		"a link":                        func(dir, elsewhere string) error { return os.Symlink(elsewhere, dir) },
		"a link to what is not there":   func(dir, elsewhere string) error { return os.Symlink(elsewhere+"/none", dir) },
		"a file":                        func(dir, _ string) error { return os.WriteFile(dir, nil, 0o600) },
		"a directory that others write": func(dir, _ string) error { return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777)) },
		"a directory of another": func(dir, elsewhere string) error {
			if os.Geteuid() != 0 { // only root can make one
				return os.Symlink(elsewhere, dir)
			}
			return errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, 54321, -1))
		},
	} {
		s := place(t)
		s.stateDir = t.TempDir()
		elsewhere := t.TempDir()
		if err := plant(s.socket+keeperSuffix, elsewhere); err != nil {
			t.Fatal(what, err)
		}
		if k, err := keepBeside(s, false); err == nil {
			k.release()
			t.Errorf("it keeps in %s", what)
		}
		if names, _ := os.ReadDir(elsewhere); len(names) > 0 {
			t.Errorf("%s: it made %v elsewhere", what, names)
		}
	}
	// What it has made itself it finds again.
	s := place(t)
	s.stateDir = t.TempDir()
	for range 2 {
		k, err := keepBeside(s, false)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(filepath.Dir(k.path)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("its directory has mode %v, %v", info.Mode(), err)
		}
		k.release()
	}
}
