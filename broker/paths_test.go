package broker

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"locker/flock"
	"locker/wire"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree tells everything about the files but when they were last read.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var all strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		text := []byte{}
		if d.Type().IsRegular() {
			text, _ = os.ReadFile(path)
		}
		fmt.Fprintf(&all, "%q ino %d mode %o links %d owner %d:%d size %d mtime %v ctime %v %q\n",
			path, st.Ino, st.Mode, st.Nlink, st.Uid, st.Gid, st.Size, st.Mtim, st.Ctim, text)
		return nil
	}))
	return all.String()
}

// bundle makes a sparsebundle.
func (r *rig) bundle(name string, parts ...string) string {
	r.t.Helper()
	dir := filepath.Join(r.files, name)
	must(r.t, os.Mkdir(dir, 0o755))
	for _, part := range parts {
		if strings.HasSuffix(part, "/") {
			must(r.t, os.Mkdir(filepath.Join(dir, part), 0o755))
		} else {
			must(r.t, os.WriteFile(filepath.Join(dir, part), []byte(part), 0o644))
		}
	}
	return dir
}

func TestEveryKindOfPathGetsItsCodeAndNothingOfTheFilesChanges(t *testing.T) {
	r := newRig(t, nil)
	in := func(parts ...string) string { return r.files + "/" + strings.Join(parts, "/") }
	must(t, os.MkdirAll(in("dir", "below"), 0o755))
	must(t, os.WriteFile(in("dir", "below", "file"), []byte("x"), 0o644))
	r.file("file")
	program := r.file("program")
	must(t, os.Chmod(program, 0o755))
	must(t, os.Symlink("file", in("link")))
	must(t, os.Symlink("dir", in("dirlink")))
	must(t, os.Symlink("below", in("dir", "belowlink")))
	must(t, os.Symlink("/etc/passwd", in("outlink")))
	must(t, os.Symlink("nowhere", in("dangling")))
	must(t, os.Symlink("loop", in("loop")))
	must(t, unix.Mkfifo(in("fifo"), 0o666))
	must(t, unix.Mknod(in("socket"), unix.S_IFSOCK|0o666, 0))
	must(t, os.Link(r.file("one"), in("two")))
	r.bundle("a.sparsebundle", "token", "bands/", "Info.plist")
	r.bundle("no token.sparsebundle", "bands/")
	r.bundle("bundle by what it holds", "token", "bands/", "Info.plist")
	r.bundle("folder.sparsebundle", "token/")
	odd := []string{"new\nline", "\x1b[31mred\x1b[0m", "\xff\xfe not UTF-8", "tab\tbell\a", "\u202egnp.exe", " space ", "-n", "*", "'$(id)'"}
	for _, name := range odd {
		must(t, os.WriteFile(in(name), nil, 0o600))
	}
	if os.Geteuid() == 0 {
		must(t, unix.Mknod(in("device"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		must(t, unix.Mknod(in("disk"), unix.S_IFBLK|0o666, int(unix.Mkdev(7, 99))))
	}
	long := r.files
	for len(long)+101 <= 4095 {
		long += "/" + strings.Repeat("x", 100)
	}
	long += "/" + strings.Repeat("y", 4094-len(long))

	const both, bsd, idle = wire.RestOFD | wire.RestFlock, wire.RestFlock, wire.RestOFD | wire.RestFlock | wire.RestIdle
	type want struct {
		code  wire.Code
		rests wire.Rest
	}
	cases := map[string]want{
		"relative":                             {code: wire.CodeInvalid},
		"./relative":                           {code: wire.CodeInvalid},
		"/":                                    {code: wire.CodeInvalid},
		in("dir", "..", "file"):                {code: wire.CodeInvalid},
		in(".."):                               {code: wire.CodeInvalid},
		in(".", "file"):                        {code: wire.CodeInvalid},
		in("", "file"):                         {code: wire.CodeInvalid},
		"/" + in("file"):                       {code: wire.CodeInvalid},
		in("file") + "/":                       {code: wire.CodeInvalid},
		in("file\x00"):                         {code: wire.CodeInvalid},
		in("file\x00/../../etc/passwd"):        {code: wire.CodeInvalid},
		"/etc/passwd":                          {code: wire.CodeDenied},
		"/proc/self/fd/0":                      {code: wire.CodeDenied},
		r.files + "2":                          {code: wire.CodeDenied},
		r.dir:                                  {code: wire.CodeDenied},
		long:                                   {code: wire.CodeNotFound},
		in(strings.Repeat("z", 256)):           {code: wire.CodeNotFound},
		in("none"):                             {code: wire.CodeNotFound},
		in("none", "none"):                     {code: wire.CodeNotFound},
		in("file", "below"):                    {code: wire.CodeNotFound},
		in("link"):                             {code: wire.CodeUnsupported},
		in("dirlink"):                          {code: wire.CodeUnsupported},
		in("dirlink", "below", "file"):         {code: wire.CodeUnsupported},
		in("dir", "belowlink", "file"):         {code: wire.CodeUnsupported},
		in("outlink"):                          {code: wire.CodeUnsupported},
		in("dangling"):                         {code: wire.CodeUnsupported},
		in("loop"):                             {code: wire.CodeUnsupported},
		in("fifo"):                             {code: wire.CodeUnsupported},
		in("socket"):                           {code: wire.CodeUnsupported},
		in("one"):                              {code: wire.CodeUnsupported},
		in("two"):                              {code: wire.CodeUnsupported},
		in("no token.sparsebundle"):            {code: wire.CodeUnsupported},
		in("folder.sparsebundle"):              {code: wire.CodeUnsupported},
		r.files:                                {rests: bsd},
		in("dir"):                              {rests: bsd},
		in("dir", "below", "file"):             {rests: both},
		in("program"):                          {rests: bsd},
		in("a.sparsebundle"):                   {rests: idle},
		in("a.sparsebundle", "token"):          {rests: idle},
		in("bundle by what it holds"):          {rests: idle},
		in("bundle by what it holds", "bands"): {rests: bsd},
	}
	for _, name := range odd {
		cases[in(name)] = want{rests: both}
	}
	if os.Geteuid() == 0 {
		cases[in("device")] = want{code: wire.CodeUnsupported}
		cases[in("disk")] = want{code: wire.CodeUnsupported}
	}
	base := r.atRest()
	must(t, os.Remove(in("at rest")))
	before := tree(t, r.files)
	p := r.dial()
	for path, want := range cases {
		m := p.answer(p.send(attached(path)))
		switch m := m.(type) {
		case *wire.Error:
			if m.Code != want.code || m.Path != path || m.Text == "" {
				t.Errorf("%q: %+v, want %v", path, m, want.code)
			}
		case *wire.Granted:
			if want.code != 0 || m.Grants[0].Rests != want.rests {
				t.Errorf("%q: %+v, want %+v", path, m, want)
			}
			rows := p.rowsOf(p.send(&wire.List{}))
			if len(rows) != 1 || rows[0].Path != path || rows[0].Stale {
				t.Errorf("%q is listed as %+v", path, rows)
			}
			p.answer(p.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path}}))
		}
	}
	for _, bundle := range []string{in("a.sparsebundle"), in("a.sparsebundle", "token"), in("bundle by what it holds")} {
		if e := p.refused(reader(attached(bundle))); e.Code != wire.CodeUnsupported || !strings.Contains(e.Text, "exclusively") {
			t.Errorf("%q shared: %+v", bundle, e)
		}
	}
	p.conn.Close()
	r.settles(base)
	if after := tree(t, r.files); after != before {
		t.Errorf("the files have changed\nbefore\n%s\nafter\n%s", before, after)
	}
}

// One path that is named often is opened once: 64 opens of a file would keep those from it who want nobody else to have it open.
func TestAPathThatIsNamedOftenIsOpenedOnce(t *testing.T) {
	r := newRig(t, nil)
	a, b := r.file("a"), r.file("b")
	opener := r.b.rules.Load().opener
	var opened []*flock.File
	for _, path := range []string{b, a} {
		f, err := opener.Open(path, flock.Want{Mode: flock.Exclusive})
		must(t, err)
		opened = append(opened, f, f, f)
	}
	files, slot := arrange(opened)
	if len(files) != 2 || files[0].FD() < 0 || files[1].FD() < 0 {
		t.Fatalf("%+v", files)
	}
	for i, f := range opened {
		if files[slot[i]] != f {
			t.Errorf("path %d leads to file %d", i, slot[i])
		}
	}
	for _, f := range files {
		must(t, f.Close())
	}
	g := r.dial().granted(attached(a, a, b, a))
	if g[0].ID != g[1].ID || g[1].ID != g[3].ID || g[0].ID == g[2].ID {
		t.Errorf("%+v", g)
	}
}
