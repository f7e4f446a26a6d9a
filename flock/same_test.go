package flock

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSameSeesWhateverBecameOfTheName(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, dir string)
		same bool
	}{
		{"nothing", func(*testing.T, string) {}, true},
		{"written", func(t *testing.T, d string) { must(t, os.WriteFile(d+"/a/file", []byte("more"), 0)) }, true},
		{"chmod 0", func(t *testing.T, d string) { must(t, os.Chmod(d+"/a/file", 0)) }, true},
		{"second name", func(t *testing.T, d string) { must(t, os.Link(d+"/a/file", d+"/a/two")) }, true},
		{"unlinked", func(t *testing.T, d string) { must(t, os.Remove(d+"/a/file")) }, false},
		{"renamed", func(t *testing.T, d string) { must(t, os.Rename(d+"/a/file", d+"/a/moved")) }, false},
		{"replaced", func(t *testing.T, d string) {
			must(t, os.Rename(newFile(t, d+"/a/new"), d+"/a/file"))
		}, false},
		{"made anew", func(t *testing.T, d string) {
			must(t, os.Remove(d+"/a/file"))
			newFile(t, d+"/a/file")
		}, false},
		{"exchanged", func(t *testing.T, d string) {
			newFile(t, d+"/a/new")
			must(t, unix.Renameat2(unix.AT_FDCWD, d+"/a/new", unix.AT_FDCWD, d+"/a/file", unix.RENAME_EXCHANGE))
		}, false},
		{"behind a link", func(t *testing.T, d string) {
			must(t, os.Rename(d+"/a/file", d+"/a/moved"))
			must(t, os.Symlink("moved", d+"/a/file"))
		}, false},
		{"now a FIFO", func(t *testing.T, d string) {
			must(t, os.Remove(d+"/a/file"))
			must(t, unix.Mkfifo(d+"/a/file", 0o600))
		}, false},
		{"parent renamed", func(t *testing.T, d string) { must(t, os.Rename(d+"/a", d+"/b")) }, false},
		{"parent behind a link", func(t *testing.T, d string) {
			must(t, os.Rename(d+"/a", d+"/b"))
			must(t, os.Symlink("b", d+"/a"))
		}, false},
		{"parent now a file", func(t *testing.T, d string) {
			must(t, os.Rename(d+"/a", d+"/b"))
			newFile(t, d+"/a")
		}, false},
		{"unlinked as if it were not", func(t *testing.T, d string) { // the kernel's name for it is then "…/file (deleted)"
			must(t, os.Remove(d+"/a/file"))
			newFile(t, d+"/a/file (deleted)")
		}, false},
		{"there and back", func(t *testing.T, d string) {
			must(t, os.Rename(d+"/a/file", d+"/a/moved"))
			must(t, os.Rename(d+"/a/moved", d+"/a/file"))
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := publicDir(t)
			plant(t, dir, "dir a", "file a/file")
			o := newOpener(t, dir)
			f := open(t, o, dir+"/a/file")
			must(t, f.TryLock(Exclusive))
			fds := descriptors(t)
			c.do(t, dir)
			if same, err := o.Same(f); err != nil || same != c.same {
				t.Errorf("got %v, %v, want %v", same, err, c.same)
			}
			if leads, err := o.LeadsTo(f.Target, f.ID); err != nil || leads != c.same {
				t.Errorf("leads to it: %v, %v, want %v", leads, err, c.same)
			}
			sameDescriptors(t, fds)
		})
	}
}

func TestSameOfABundleLooksAtItsToken(t *testing.T) {
	dir := publicDir(t)
	plant(t, dir, "dir b.sparsebundle", "file b.sparsebundle/token", "dir c.sparsebundle", "file c.sparsebundle/token")
	o := newOpener(t, dir)
	f := open(t, o, dir+"/b.sparsebundle")
	if same, err := o.Same(f); !same || err != nil {
		t.Errorf("untouched: %v, %v", same, err)
	}
	must(t, unix.Renameat2(unix.AT_FDCWD, dir+"/b.sparsebundle", unix.AT_FDCWD, dir+"/c.sparsebundle", unix.RENAME_EXCHANGE))
	if same, err := o.Same(f); same || err != nil {
		t.Errorf("another bundle under the name: %v, %v", same, err)
	}
}

func TestSameUnderANewWhitelistThatDoesNotHaveThePath(t *testing.T) {
	dir := publicDir(t)
	plant(t, dir, "dir a", "file a/file", "dir b")
	f := open(t, newOpener(t, dir), dir+"/a/file")
	if same, err := newOpener(t, dir+"/b").Same(f); same || err != nil {
		t.Errorf("got %v, %v", same, err)
	}
}

// The name that the kernel gives to what was x and is deleted is the name of another file.
func TestSameIsNotFooledByNamesThatLookDeleted(t *testing.T) {
	dir := publicDir(t)
	path := newFile(t, dir+"/x"+deletedName)
	o := newOpener(t, dir)
	aged(t, path)
	f := open(t, o, path)
	if same, err := o.Same(f); !same || err != nil {
		t.Errorf("untouched: %v, %v", same, err)
	}
	must(t, os.Rename(path, dir+"/x"))
	must(t, os.Remove(dir+"/x"))
	newFile(t, path)
	if same, err := o.Same(f); same || err != nil {
		t.Errorf("deleted under the name that it then shows: %v, %v", same, err)
	}
}

func TestLongestPathIsOpenedAndFoundAgain(t *testing.T) {
	dir := publicDir(t)
	path := dir
	for len(path)+1+len(name255)+2 < maxPath {
		path += "/" + name255
		must(t, os.Mkdir(path, 0o755))
	}
	path = newFile(t, path+"/"+name255[:maxPath-len(path)-1])
	o := newOpener(t, dir)
	f := open(t, o, path)
	must(t, f.TryLock(Exclusive))
	if same, err := o.Same(f); !same || err != nil || len(path) != maxPath {
		t.Errorf("untouched, %d bytes: %v, %v", len(path), same, err)
	}
	must(t, os.Rename(path, path[:len(path)-1]+"m"))
	if same, err := o.Same(f); same || err != nil {
		t.Errorf("renamed: %v, %v", same, err)
	}
	_, err := o.Open(path+"n", Want{Mode: Exclusive})
	wantError(t, err, ErrPath, "a byte more")
}
