package broker

import (
	"bytes"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"locker/wire"
)

// rawAnswer sends a request and gives the bytes of the answer, request id left out.
func (p *peer) rawAnswer(m wire.Message) []byte {
	p.t.Helper()
	p.send(m)
	p.conn.SetReadDeadline(time.Now().Add(patience))
	body, err := wire.ReadFrame(p.conn, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return append(bytes.Clone(body[:2]), body[6:]...)
}

// twoUsers is a policy under which alice may lock below mine and yours, breaks below mine, lists nothing of others; and bob
// may do everything.
func twoUsers(r *rig) {
	r.policy = rules(r.files, `
allow = ["FILES"]
[[deny]]
name = "secret is closed"
users = [65531]
paths = ["FILES/mine/secret"]
[[rule]]
name = "alice's"
users = [65531]
paths = ["FILES/mine", "FILES/yours"]
can = ["lock", "lock-shared"]
[[rule]]
name = "alice may break"
users = [65531]
paths = ["FILES/mine"]
can = ["break"]
[[rule]]
name = "bob's"
users = [65532]
paths = ["FILES"]
can = ["lock", "lock-shared", "list", "break"]
`)
}

// Whoever may not lock a path learns the same from every answer, whatever is there and whoever holds it.
func TestARefusalTellsNothingOfWhatIsThere(t *testing.T) {
	needRoot(t, "two users")
	r := newRig(t, twoUsers)
	for _, dir := range []string{"/mine", "/mine/secret", "/yours", "/theirs"} {
		must(t, os.Mkdir(r.files+dir, 0o755))
	}
	a, b := r.dialAs(alice), r.dialAs(bob)
	outside := r.dir + "/outside" // of the whitelist
	paths := []string{r.files + "/theirs/x", r.files + "/mine/secret/x", outside}
	requests := func(path string) []wire.Message {
		return []wire.Message{
			attached(path), try(detached(path)), reader(timed(attached(path), 1)), attached(r.files+"/mine", path),
			&wire.Break{By: wire.ByPath, Path: path, Reason: "x"}, &wire.Unlock{By: wire.ByPath, Paths: []string{path}},
		}
	}
	ask := func(path string) (all [][]byte) {
		for _, m := range requests(path) {
			// The path is the asker's own word: take it out, to compare paths with each other.
			all = append(all, bytes.ReplaceAll(a.rawAnswer(m), append([]byte{0, byte(len(path))}, path...), []byte("PATH")))
		}
		return all
	}
	want := ask(paths[0]) // nothing is there
	states := []struct {
		name  string
		begin func(path string)
	}{
		{"nothing", func(string) {}},
		{"a file", func(path string) { must(t, os.WriteFile(path, nil, 0o600)) }},
		{"a directory", func(path string) { must(t, os.Mkdir(path, 0o755)) }},
		{"a symlink", func(path string) { must(t, os.Symlink("/etc", path)) }},
		{"a FIFO", func(path string) { must(t, unix.Mkfifo(path, 0o666)) }},
		{"a file that bob has locked", func(path string) {
			must(t, os.WriteFile(path, nil, 0o600))
			if path != outside {
				b.granted(detached(path))
			}
		}},
	}
	for _, state := range states {
		for _, path := range paths {
			state.begin(path)
			for i, got := range ask(path) {
				if !bytes.Equal(got, want[i]) {
					t.Errorf("%s at %s, request %d\n got %q\nwant %q", state.name, path, i, got, want[i])
				}
			}
			b.answer(b.send(&wire.Unlock{By: wire.ByAll, AnyTag: true}))
			must(t, os.RemoveAll(path))
		}
	}
	b.kept = nil
}

func TestIDsOfOtherPeoplesLocksCannotBeToldFromOthers(t *testing.T) {
	needRoot(t, "two users")
	r := newRig(t, twoUsers)
	must(t, os.Mkdir(r.files+"/theirs", 0o755))
	path := r.file("theirs/x")
	a, b := r.dialAs(alice), r.dialAs(bob)
	held := b.granted(detached(path))[0].ID
	waiting := b.send(attached(path))
	b.queued(waiting)
	for name, ask := range map[string]func(id uint64) wire.Message{
		"unlock": func(id uint64) wire.Message { return &wire.Unlock{By: wire.ByID, ID: id} },
		"break":  func(id uint64) wire.Message { return &wire.Break{By: wire.ByID, ID: id, Reason: "x"} },
		"cancel": func(id uint64) wire.Message { return &wire.Cancel{Target: uint32(id)} },
		"where":  func(id uint64) wire.Message { return &wire.Where{Target: uint32(id)} },
	} {
		want := a.rawAnswer(ask(1 << 30))
		for _, id := range []uint64{held, held + 1, 1, uint64(waiting)} {
			if got := a.rawAnswer(ask(id)); !bytes.Equal(got, want) {
				t.Errorf("%s of %d (the lock is %d)\n got %q\nwant %q", name, id, held, got, want)
			}
		}
	}
	if isFree(t, path) {
		t.Error("the lock is gone")
	}
	r.checkReplay()
	b.undisturbed()
}

func TestWhoMayBreakBreaksThereAndNowhereElse(t *testing.T) {
	needRoot(t, "two users")
	r := newRig(t, twoUsers)
	for _, dir := range []string{"/mine", "/mine/secret", "/yours"} {
		must(t, os.Mkdir(r.files+dir, 0o755))
	}
	a, b := r.dialAs(alice), r.dialAs(bob)
	for path, may := range map[string]bool{r.file("mine/x"): true, r.file("mine/secret/x"): false, r.file("yours/x"): false} {
		for _, by := range []wire.By{wire.ByPath, wire.ByID} {
			g := b.granted(attached(path))
			m := &wire.Break{By: by, Reason: "mine now"}
			if by == wire.ByPath {
				m.Path = path
			} else {
				m.ID = g[0].ID
			}
			got := a.answer(a.send(m))
			if rel, ok := got.(*wire.Released); ok != may || ok && (len(rel.IDs) != 1 || rel.IDs[0] != g[0].ID) {
				t.Errorf("%s: %+v", path, got)
			}
			if isFree(t, path) != may {
				t.Errorf("%s: free: %v", path, !may)
			}
			if may {
				if l := b.lost(); l.ID != g[0].ID || l.Cause != wire.Broken || l.Reason != "mine now" {
					t.Errorf("%+v", l)
				}
			}
			b.answer(b.send(&wire.Unlock{By: wire.ByPath, Paths: []string{path}}))
			r.checkReplay()
		}
	}
}
