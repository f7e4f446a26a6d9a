package guard

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// A hundred bundles, with so many bands each as $LOCKER_GUARD_BANDS says: 10,000 of them take minutes to make.
func TestAHundredBundlesAreGuardedAndNothingElse(t *testing.T) {
	needGuard(t)
	const many = 100
	bands := 100
	if n, err := strconv.Atoi(os.Getenv("LOCKER_GUARD_BANDS")); err == nil {
		bands = n
	}
	r := newRig(t).serve()
	smbd, other := startAs(t, program(t, "fileserver"), "opener"), startAs(t, program(t, "other"), "opener")
	c := r.denying(smbd.exe)
	var all []bundle
	var dirs []string
	dir := t.TempDir()
	for i := range many + 1 {
		b := bundle{t, filepath.Join(dir, fmt.Sprintf("%d.sparsebundle", i))}
		b.fill(bands)
		all = append(all, b)
		dirs = append(dirs, b.root, filepath.Dir(b.band(0)))
	}
	begin := time.Now()
	for i, b := range all[:many] {
		b.guard(c, uint64(i)+1)
	}
	t.Logf("%d bundles of %d bands guarded in %v", many, bands, time.Since(begin).Round(time.Millisecond))
	dirs = dirs[:2*many]
	wantMarks(t, dirs...)
	for _, b := range all[:many] {
		band := b.band(rand.IntN(bands))
		smbd.want(refused, "read", band)
		smbd.want(refused, "read", b.token())
		other.want(opened, "read", band)
	}
	smbd.want(opened, "read", all[many].band(0))
	smbd.want(opened, "read", all[many].token())
	for i := range many / 2 {
		lift(t, c, uint64(i)+1)
		dirs = dirs[2:]
	}
	wantMarks(t, dirs...)
	for i, b := range all {
		want := refused
		if i < many/2 || i == many {
			want = opened
		}
		smbd.want(want, "read", b.band(rand.IntN(bands)))
	}
	begin = time.Now()
	must(t, c.Close())
	must(t, r.dial().Ping(soonContext(t))) // served when all is gone
	t.Logf("let go in %v", time.Since(begin).Round(time.Millisecond))
	wantMarks(t)
	smbd.want(opened, "read", all[many-1].band(0))
}
