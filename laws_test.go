package locker_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The laws of the tree's shape. A change here is a change of the architecture: review it as such.

// mayImport says which packages of ours each package may import.
var mayImport = map[string][]string{
	"wire": {}, "authz": {}, "flock": {}, "audit": {}, "guard": {}, "keeper": {},
	"broker":      {"wire", "authz", "flock", "guard", "audit", "keeper"},
	"client":      {"wire"},
	"cmd/lockerd": {"broker", "authz", "flock", "guard", "audit", "keeper"},
	// audit, for reading only: 'locker audit verify' must work where no lockerd runs.
	"cmd/locker":  {"client", "wire", "audit"},
	"torture":     {}, // tests only
	"fileservers": {}, // tests only
}

// rootLinks are all packages from outside the standard library that run as root, each with what it is there for.
var rootLinks = map[string]string{
	"golang.org/x/sys/unix":               "system calls",
	"github.com/BurntSushi/toml":          "the policy file",
	"github.com/BurntSushi/toml/internal": "of toml",
	"github.com/hashicorp/go-hclog":       "the daemon's own log",
	"github.com/fatih/color":              "of hclog",
	"github.com/mattn/go-colorable":       "of hclog",
	"github.com/mattn/go-isatty":          "of hclog",
	"github.com/spf13/pflag":              "flags",
}

// privileged are the files of the root daemon that touch paths, modes, owners or capabilities. Every function in them
// that does says in a "Privileged:" comment what an attacker controls.
var privileged = []string{
	"authz/load.go", "authz/users.go", "broker/who.go",
	"cmd/lockerd/broker.go", "cmd/lockerd/child.go", "cmd/lockerd/guarding.go", "cmd/lockerd/keep.go", "cmd/lockerd/socket.go", "cmd/lockerd/statedir.go", "cmd/lockerd/upgrade.go",
	"audit/dir.go", "audit/recover.go", "audit/scan.go",
	"flock/adopt.go", "flock/bundle.go", "flock/changes.go", "flock/client.go", "flock/idle.go", "flock/lockable.go", "flock/mounts.go", "flock/open.go", "flock/outside.go", "flock/process.go", "flock/resolve.go", "flock/same.go", "flock/watch.go", "flock/written.go",
	"guard/available.go", "guard/held.go", "guard/judge.go",
	"keeper/socket.go",
}

// touches are the functions that make a file privileged.
var touches = map[string][]string{
	"os": {"Open", "OpenFile", "Create", "CreateTemp", "ReadFile", "WriteFile", "ReadDir", "Mkdir", "MkdirAll", "Remove", "RemoveAll", "Rename",
		"Chmod", "Chown", "Lchown", "Link", "Symlink", "Truncate", "Stat", "Lstat", "Readlink", "Chdir", "OpenRoot", "DirFS"},
	"unix": {"Open", "Openat", "Openat2", "Creat", "Mkdir", "Mkdirat", "Mknod", "Mknodat", "Unlink", "Unlinkat", "Rename", "Renameat", "Renameat2",
		"Chmod", "Fchmod", "Fchmodat", "Chown", "Fchown", "Fchownat", "Lchown", "Link", "Linkat", "Symlink", "Symlinkat", "Truncate", "Ftruncate",
		"Fallocate", "F_SETLEASE", "Stat", "Lstat", "Fstatat", "Statx", "Readlink", "Readlinkat", "InotifyAddWatch", "Prctl", "Capset", "Setuid", "Setgid", "Setgroups",
		"Mount", "Unmount", "Chroot", "Statfs", "Access", "Faccessat", "Setxattr", "Getxattr", "Exec", "Ftruncate"},
	"exec": {"Command", "CommandContext"},
}

// goFiles gives the Go files of a directory, tests left out, parsed with their comments.
func goFiles(t *testing.T, dir string) (map[string]*ast.File, *token.FileSet) {
	t.Helper()
	set := token.NewFileSet()
	files := map[string]*ast.File{}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = f
	}
	return files, set
}

func TestPackagesImportWhatTheDiagramShows(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "testdata" || d.Name() == "bin" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		dir := filepath.Dir(path)
		allowed, known := mayImport[dir]
		if !known {
			t.Errorf("%s: package %s is not in the diagram", path, dir)
			return nil
		}
		seen[dir] = true
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imp := range f.Imports {
			name, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			if ours, ok := strings.CutPrefix(name, "locker/"); ok && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s; %s may import %v of ours", path, ours, dir, allowed)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range mayImport {
		if !seen[dir] {
			t.Errorf("the diagram has a package %s that is not in the tree", dir)
		}
	}
}

func TestTheRootDaemonLinksOnlyWhatIsListed(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./cmd/lockerd").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	linked := map[string]bool{}
	for _, pkg := range strings.Fields(string(out)) {
		if pkg == "locker" || strings.HasPrefix(pkg, "locker/") {
			continue
		}
		linked[pkg] = true
		if rootLinks[pkg] == "" {
			t.Errorf("lockerd links %s, which is not listed with a reason", pkg)
		}
	}
	for pkg := range rootLinks {
		if !linked[pkg] {
			t.Errorf("%s is listed and lockerd does not link it: take it off the list", pkg)
		}
	}
	for _, forbidden := range []string{"net/http", "crypto/tls", "os/user", "plugin", "reflect2"} {
		if out, err := exec.Command("go", "list", "-deps", "./cmd/lockerd").Output(); err != nil {
			t.Fatal(err)
		} else if slices.Contains(strings.Fields(string(out)), forbidden) {
			t.Errorf("lockerd links %s, which has no place in a root daemon", forbidden)
		}
	}
}

func TestPrivilegeIsVisible(t *testing.T) {
	found := map[string]bool{}
	for _, dir := range []string{"wire", "authz", "flock", "audit", "guard", "keeper", "broker", "cmd/lockerd"} {
		files, set := goFiles(t, dir)
		for name, file := range files {
			for _, decl := range file.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				call := privilegedCall(fn)
				if call == "" {
					continue
				}
				found[name] = true
				if fn.Doc == nil || !strings.Contains(fn.Doc.Text(), "Privileged:") {
					t.Errorf("%s: %s calls %s and has no Privileged: comment that says what an attacker controls", set.Position(fn.Pos()), fn.Name.Name, call)
				}
			}
		}
	}
	got := slices.Sorted(maps.Keys(found))
	want := slices.Sorted(slices.Values(privileged))
	if !slices.Equal(got, want) {
		t.Errorf("files that use privilege:\n got %s\nwant %s", strings.Join(got, " "), strings.Join(want, " "))
	}
}

// privilegedCall names the first call in fn that touches a path, a mode or an owner.
func privilegedCall(fn *ast.FuncDecl) (name string) {
	ast.Inspect(fn, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := sel.X.(*ast.Ident)
		if ok && name == "" && slices.Contains(touches[pkg.Name], sel.Sel.Name) {
			name = pkg.Name + "." + sel.Sel.Name
		}
		return true
	})
	return name
}

func TestOneFunctionOpensPaths(t *testing.T) {
	var callers []string
	for dir := range mayImport {
		files, _ := goFiles(t, dir)
		for name, file := range files {
			ast.Inspect(file, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok && (sel.Sel.Name == "Openat2" || sel.Sel.Name == "SYS_OPENAT2") {
					callers = append(callers, name)
				}
				return true
			})
		}
	}
	if len(callers) != 1 || filepath.Dir(callers[0]) != "flock" {
		t.Errorf("openat2 is called in %v; want exactly one call, in package flock", callers)
	}
}

func TestNoPackageHasAnInit(t *testing.T) {
	for dir := range mayImport {
		files, set := goFiles(t, dir)
		for _, file := range files {
			for _, decl := range file.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					t.Errorf("%s: init runs before main can decide anything", set.Position(fn.Pos()))
				}
			}
		}
	}
}
