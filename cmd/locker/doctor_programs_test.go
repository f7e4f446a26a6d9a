package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestRootLooksForProgramsWhereOnlyRootWrites(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":relative::.:/usr/bin")
	p := callersPrograms()
	if os.Geteuid() == 0 {
		if !p.root || !slices.Equal(p.dirs, []string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"}) {
			t.Errorf("root looks in %q", p.dirs)
		}
	} else if p.root || p.dirs[0] != dir {
		t.Errorf("a user looks in %q", p.dirs)
	}
	if dirs := userDirs("/a:relative::.:/b"); !slices.Equal(dirs, []string{"/a", "/b", "/usr/sbin", "/sbin", "/usr/local/sbin"}) {
		t.Errorf("a user looks in %q", dirs)
	}

	program := filepath.Join(dir, "testparm")
	for _, tt := range []struct {
		mode        os.FileMode
		user, roots bool
	}{
		{0o755, true, os.Geteuid() == 0},
		{0o775, true, false}, // a group writes it
		{0o757, true, false},
		{0o644, false, false}, // not executable
	} {
		if err := errors.Join(os.WriteFile(program, nil, 0o755), os.Chmod(program, tt.mode)); err != nil {
			t.Fatal(err)
		}
		if found := (programs{dirs: []string{dir}}).find("testparm") != ""; found != tt.user {
			t.Errorf("mode %o: found by a user: %v, want %v", tt.mode, found, tt.user)
		}
		if found := (programs{dirs: []string{dir}, root: true}).find("testparm") != ""; found != tt.roots {
			t.Errorf("mode %o: found by root: %v, want %v", tt.mode, found, tt.roots)
		}
	}
	if err := errors.Join(os.WriteFile(program, nil, 0o755), os.Chmod(program, 0o755)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(program, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if found := (programs{dirs: []string{dir}, root: true}).find("testparm"); found != "" {
			t.Errorf("root would run %s, which belongs to another", found)
		}
	}
}

func TestProgramSeesPlainEnvironment(t *testing.T) {
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	t.Setenv("SMB_CONF_PATH", "/evil")
	for _, root := range []bool{false, true} {
		out, err := programs{root: root}.run(t.Context(), patience, "/usr/bin/env")
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if !slices.Contains(lines, "LC_ALL=C") || slices.Contains(lines, "LC_ALL=de_DE.UTF-8") {
			t.Errorf("root %v: environment %q", root, lines)
		}
		if root && len(lines) != 2 {
			t.Errorf("a program that root runs sees %q", lines)
		}
	}
}
