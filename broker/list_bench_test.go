package broker

import (
	"fmt"
	"testing"

	"locker/wire"
)

// BenchmarkList is a list of 10,000 holds over a real socket, as the broker makes it and a client reads it.
func BenchmarkList(b *testing.B) {
	const n = 10000
	r := newRig(b, func(r *rig) {
		r.segment = 64 << 20
		r.policy = rules(r.files, "allow = [\"FILES\"]\n[limits]\nholds = 20000\n[[rule]]\nname = \"bench\"\nusers = [UID]\npaths = [\"FILES\"]\nmax_hold = \"12h\"\ncan = [\"lock\"]\n")
	})
	p := r.dial()
	two := []*peer{p, r.dial()} // one connection may not hold so many
	for i := range n {
		two[i%2].granted(attached(r.file(fmt.Sprint("file-", i))))
	}
	b.ReportAllocs()
	for b.Loop() {
		if rows := p.rowsOf(p.send(&wire.List{})); len(rows) != n {
			b.Fatalf("%d rows", len(rows))
		}
	}
}
