package flock

import (
	"os"
	"testing"
)

// What one lookout has walked once lies before everything that others can change: what they do between two looks is seen.
func TestALookoutSeesWhatHasBecomeOfEachName(t *testing.T) {
	dir, second := publicDir(t), publicDir(t)
	plant(t, dir, "dir a", "file a/moved", "file a/stays", "file a/replaced")
	plant(t, second, "file gone")
	o := newOpener(t, dir, second)
	files := map[string]*File{}
	for _, path := range []string{dir + "/a/moved", dir + "/a/stays", dir + "/a/replaced", second + "/gone"} {
		files[path] = open(t, o, path)
	}
	fds := descriptors(t)
	l := o.Lookout()
	look := func(path string, want bool) {
		t.Helper()
		if same, err := l.LeadsTo(files[path].Target, files[path].ID); err != nil || same != want {
			t.Errorf("%s: %v, %v, want %v", path, same, err, want)
		}
	}
	for path := range files {
		look(path, true)
	}
	must(t, os.Rename(dir+"/a/moved", dir+"/a/elsewhere"))
	must(t, os.Rename(newFile(t, dir+"/a/new"), dir+"/a/replaced"))
	must(t, os.Remove(second+"/gone"))
	look(dir+"/a/moved", false)
	look(dir+"/a/stays", true)
	look(dir+"/a/replaced", false)
	look(second+"/gone", false)
	must(t, os.Rename(dir+"/a", dir+"/b"))
	look(dir+"/a/stays", false)
	must(t, os.Symlink("b", dir+"/a"))
	look(dir+"/a/stays", false)
	if same, err := l.LeadsTo("/nowhere/allowed", files[dir+"/a/stays"].ID); same || err != nil {
		t.Errorf("outside of what is allowed: %v, %v", same, err)
	}
	l.Close()
	sameDescriptors(t, fds)
}
