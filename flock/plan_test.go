package flock

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// A way is written as its components, each with "!" if others can write there and "@N" if mount N begins there.
func surveyOf(way string) *survey {
	s := &survey{stops: []stop{{path: "/", mount: &mount{id: mountID{n: 1}}, closed: true}}}
	path, m := "", s.stops[0].mount
	for _, word := range strings.Fields(way) {
		name, number, crosses := strings.Cut(word, "@")
		if crosses {
			m = &mount{}
			fmt.Sscan(number, &m.id.n)
		}
		name, open := strings.CutSuffix(name, "!")
		path += "/" + name
		s.stops = append(s.stops, stop{path, m, !open})
	}
	return s
}

func TestWalkTrustsOnlyWhatOthersCannotChange(t *testing.T) {
	id := func(n uint64) mountID { return mountID{n: n} }
	for _, c := range []struct {
		way, path, entry string
		want             root
	}{
		{"srv tm", "/srv/tm", "/srv/tm", root{first: "/srv/tm"}},
		{"srv tm!", "/srv/tm", "/srv/tm", root{first: "/srv/tm"}}, // others own tm, not the way to it
		{"tmp! a b", "/tmp/a/b", "/tmp/a/b", root{first: "/tmp", tail: "a/b"}},
		{"srv", "/srv/later/still", "/srv/later/still", root{first: "/srv/later", tail: "still"}}, // does not exist yet
		{"", "/srv/later", "/srv/later", root{first: "/srv", tail: "later"}},
		{"srv tm@2", "/srv/tm", "/srv/tm", root{first: "/srv/tm"}},
		{"srv tm disk@2", "/srv/tm/disk", "/srv/tm", root{first: "/srv/tm/disk", firstWant: id(2)}},
		{"srv tm! disk@2", "/srv/tm/disk", "/srv/tm", root{first: "/srv/tm", hops: []hop{{"", "disk", id(2)}}}},
		{"home@2 alice! x y disk@3", "/home/alice/x/y/disk", "/home",
			root{first: "/home/alice", firstWant: id(2), hops: []hop{{"x/y", "disk", id(3)}}}},
		{"home@2 alice! x disk@3 y z@4 end", "/home/alice/x/disk/y/z/end", "/home/alice/x/disk/y/z/end",
			root{first: "/home/alice", hops: []hop{{"x", "disk", id(3)}, {"y", "z", id(4)}}, tail: "end"}},
		{"home@2 alice!@3 disk@4", "/home/alice/disk", "/home",
			root{first: "/home/alice", firstWant: id(3), hops: []hop{{"", "disk", id(4)}}}},
	} {
		got := newRoot(c.path, c.entry, surveyOf(c.way))
		if !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%q for %s (%s):\ngot  %+v\nwant %+v", c.way, c.path, c.entry, *got, c.want)
		}
	}
}

func TestLongestRootWins(t *testing.T) {
	o := &Opener{roots: map[string]*root{"/srv": {first: "1"}, "/srv/a": {first: "2"}, "/srv/a/b": {first: "3"}, "/file": {first: "4"}}}
	for path, want := range map[string]string{
		"/srv/x": "1 x", "/srv/ab": "1 ab", "/srv/a": "2 ", "/srv/a/c": "2 c", "/srv/a/b": "3 ", "/srv/a/b/c/d": "3 c/d", "/srv/a/bc": "2 bc",
		"/file": "4 ", "/file/x": "4 x",
	} {
		r, rest := o.rootOf(path)
		if r == nil || r.first+" "+rest != want {
			t.Errorf("%s: got %+v, rest %q, want %s", path, r, rest, want)
		}
	}
	for _, path := range []string{"/sr", "/srv2/x", "/files", "/", "/x"} {
		if r, _ := o.rootOf(path); r != nil {
			t.Errorf("%s is below %+v", path, r)
		}
	}
}

func TestWarningsSayWhatIsWrongWithAnEntry(t *testing.T) {
	dir := publicDir(t)
	plant(t, dir, "dir real", "symlink link real", "dir real/open", "mode real/open 777", "dir real/open/below", "file real/file")
	for _, c := range []struct{ entry, want string }{
		{dir + "/link", "symbolic link"},
		{dir + "/link/open", "symbolic link"},
		{dir + "/none/yet", "does not exist yet"},
		{dir + "/real/open/below", "can be moved or replaced by others"},
	} {
		_, warnings, err := NewOpener([]string{c.entry})
		must(t, err)
		if !slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, c.want) && strings.Contains(w, c.entry) }) {
			t.Errorf("%s: %q says nothing of %q", c.entry, warnings, c.want)
		}
	}
	for _, entry := range []string{"/usr", "/usr/bin/env"} {
		_, warnings, err := NewOpener([]string{entry})
		must(t, err)
		if i := slices.IndexFunc(warnings, func(w string) bool { return strings.HasPrefix(w, "allow") && !strings.Contains(w, "symbolic") }); i >= 0 {
			t.Errorf("%s: warned without need: %q", entry, warnings[i])
		}
	}
	for _, entry := range []string{"", "relative", "/", "/a/../b", "/a//b", "/a/", "/a\x00"} {
		if _, _, err := NewOpener([]string{entry}); err == nil {
			t.Errorf("allow entry %q was taken", entry)
		}
	}
}

func TestEntryMayBeAFileAndMayComeLater(t *testing.T) {
	dir := publicDir(t)
	o := newOpener(t, dir+"/file", dir+"/later/file")
	for _, path := range []string{dir + "/file", dir + "/later/file"} {
		_, err := o.Open(path, Want{Mode: Exclusive})
		wantError(t, err, ErrNotFound, path)
	}
	plant(t, dir, "file file", "dir later", "file later/file", "file later/other")
	for _, path := range []string{dir + "/file", dir + "/later/file"} {
		must(t, open(t, o, path).TryLock(Exclusive))
	}
	_, err := o.Open(dir+"/file/x", Want{Mode: Exclusive})
	wantError(t, err, ErrNotFound, "below a file")
	_, err = o.Open(dir+"/later/other", Want{Mode: Exclusive})
	wantError(t, err, ErrOutside, "beside the entry")
	must(t, os.Remove(dir+"/file"))
	plant(t, dir, "symlink file later/other")
	_, err = o.Open(dir+"/file", Want{Mode: Exclusive})
	wantError(t, err, ErrSymlink, "an entry that became a link")
}
