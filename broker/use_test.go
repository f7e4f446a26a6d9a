package broker

import (
	"os"
	"runtime"
)

// use is what the process and the broker have in use.
type use struct{ descriptors, goroutines, sessions, accounts, holds, books int }

func (r *rig) use() use {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		r.t.Fatal(err)
	}
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	b := r.b
	return use{
		len(names), runtime.NumGoroutine(), len(b.sessions) + b.connections + b.early + len(b.watchers), len(b.accounts), b.table.files(),
		len(b.byPath) + len(b.perRule) + b.deadlines.Len() + b.opening,
	}
}

// atRest gives what a broker uses that has served somebody and now serves nobody.
func (r *rig) atRest() use {
	r.t.Helper()
	return r.atRestAt("at rest")
}

// atRestAt is atRest for a policy that does not allow every file.
func (r *rig) atRestAt(name string) use {
	r.t.Helper()
	p := r.dial()
	p.granted(attached(r.file(name)))
	p.conn.Close()
	eventually(r.t, "the broker is at rest", func() bool { u := r.use(); return u.sessions == 0 && u.accounts == 0 })
	base := r.use()
	eventually(r.t, "no more goroutines end", func() bool {
		now := r.use()
		same := now.goroutines == base.goroutines && now.descriptors == base.descriptors
		base = now
		return same
	})
	return base
}

// settles waits until no more is in use than before.
func (r *rig) settles(before use) {
	r.t.Helper()
	var now use
	defer func() {
		if r.t.Failed() {
			stacks := make([]byte, 1<<16)
			r.t.Logf("in use %+v, before %+v\n%s", now, before, stacks[:runtime.Stack(stacks, true)])
		}
	}()
	eventually(r.t, "all is given back", func() bool {
		now = r.use()
		return now.descriptors <= before.descriptors && now.goroutines <= before.goroutines && now.sessions <= before.sessions &&
			now.accounts <= before.accounts && now.holds <= before.holds && now.books <= before.books
	})
}
