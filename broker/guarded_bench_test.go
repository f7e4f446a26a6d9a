package broker

import (
	"testing"

	"locker/wire"
)

// BenchmarkBundle is a lock and an unlock of a sparsebundle, one that is not guarded and one that is, in turns.
func BenchmarkBundle(b *testing.B) {
	pair := func(b *testing.B, f *fenced, programs ...string) {
		f.programs = programs
		if _, err := f.b.Reload(b.Context()); err != nil {
			b.Fatal(err)
		}
		f.awaitState(map[bool]string{true: "on", false: "off"}[len(programs) > 0])
		p := f.dial()
		m := attached(f.files + "/mac.sparsebundle")
		for b.Loop() {
			g := p.granted(m)
			p.answer(p.send(&wire.Unlock{By: wire.ByID, ID: g[0].ID}))
		}
		p.conn.Close()
	}
	f := newFenced(b, nil)
	f.mac()
	b.Run("none", func(b *testing.B) { pair(b, f) })
	b.Run("guarded", func(b *testing.B) { pair(b, f, f.server) })
}
