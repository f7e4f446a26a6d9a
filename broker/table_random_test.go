package broker

import (
	"math/rand/v2"
	"os"
	"testing"
)

// tblSource gives the next byte of what decides a run; ok is false at its end.
type tblSource func() (b byte, ok bool)

const tblKeys = 5

// tblDrive does what the bytes say: the first sets the limits, then each step is an operation and its parameters.
func tblDrive(p *tblPair, next tblSource) {
	ok := true
	draw := func(n int) int {
		b, more := next()
		ok = ok && more
		return int(b) % n
	}
	sizes := []limits{{1000, 1000, 1000, 1000}, {1000, 1000, 2, 5}, {4, 9, 100, 100}, {1000, 64, 1000, 32}, {100, 100, 100, 100}}
	p.setLimits(sizes[draw(len(sizes))])
	for {
		op := draw(16)
		if !ok {
			return
		}
		claims, holds := p.claims(), p.holds()
		if len(claims) > 16 { // the model takes its time
			p.abandon(claims[draw(len(claims))])
			continue
		}
		switch {
		case op < 5 || len(claims)+len(holds) == 0 && op < 15:
			p.add(tblOwner(draw(16)), mode(1+draw(2)), tblSet(draw(256)), draw(3) != 0)
		case op < 9:
			for i, n := 0, draw(len(claims)+1); i < len(claims); i++ {
				if c := claims[(i+n)%len(claims)]; c.state == claimPending && p.grantable(c) {
					p.grant(c)
					break
				}
			}
		case op < 11 && len(holds) > 0:
			p.release(holds[draw(len(holds))])
		case op == 11 && len(claims) > 0:
			p.abandon(claims[draw(len(claims))])
		case op == 12 && len(claims) > 0:
			p.rekey(claims[draw(len(claims))], tblSet(draw(256)))
		case op == 13 && len(holds) > 0:
			p.markEnding(holds[draw(len(holds))])
		case op == 14:
			p.setLimits(sizes[draw(len(sizes))])
		case op == 15 && len(claims) == 0:
			o, m, k := tblOwner(draw(16)), mode(1+draw(2)), key{1, uint64(draw(tblKeys))}
			if len(p.t.holdsOf(k)) == 0 {
				p.restore(o, m, k)
			}
		}
	}
}

// tblOwner is one of four uids, root among them, with two sessions and two tags each.
func tblOwner(n int) owner {
	o := owner{uid: uint32(n % 4)}
	switch n / 4 {
	case 0, 1:
		o.session = uint64(1 + n)
	case 2:
		o.tag = "t"
	}
	return o
}

// tblSet is one key for half of the bytes, two or three for the others.
func tblSet(n int) []key {
	keys := []key{{1, uint64(n % tblKeys)}}
	if n >= 128 {
		keys = append(keys, key{1, uint64(n / tblKeys % tblKeys)})
	}
	if n >= 224 {
		keys = append(keys, key{1, uint64(n / 3 % tblKeys)})
	}
	return sortKeys(keys)
}

// tblEnd ends all that is left, and leaves an empty table.
func tblEnd(p *tblPair) {
	for len(p.claims())+len(p.holds()) > 0 {
		for _, h := range p.holds() {
			p.release(h)
		}
		if claims := p.claims(); len(claims) > 0 {
			if claims[0].state == claimPending && p.grantable(claims[0]) {
				p.grant(claims[0])
			} else {
				p.fail("nobody holds anything, and claim %d waits", claims[0].arrival)
			}
		}
	}
}

func TestTableAgreesWithModel(t *testing.T) {
	seeds, steps := 100, 2000
	switch {
	case testing.Short():
		seeds = 10
	case os.Getenv("LOCKER_TEST_ALL") != "":
		seeds = 400
	}
	met := map[tblMet]int{}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		p := tblNewPair(t, limits{})
		left := 4 * steps
		tblDrive(p, func() (byte, bool) { left--; return byte(r.Uint32()), left >= 0 })
		tblEnd(p)
		for v, n := range p.met {
			met[v] += n
		}
	}
	tblMetAll(t, met)
}

func tblMetAll(t *testing.T, met map[tblMet]int) {
	for how, vs := range tblEverything {
		for _, v := range vs {
			t.Logf("%s %s: %d times", how, tblVerdicts[v], met[tblMet{how, v}])
			if met[tblMet{how, v}] == 0 {
				t.Errorf("%s %s was never met", how, tblVerdicts[v])
			}
		}
	}
}

// tblEverything is all that can happen to a claim.
var tblEverything = map[string][]verdict{
	"add":   {pending, queued, satisfied, deadlock, conversion, quotaHolds, quotaWaiters},
	"try":   {pending, blocked, satisfied, deadlock, conversion, quotaHolds},
	"rekey": {pending, queued, satisfied, deadlock, conversion, quotaHolds},
	"event": {pending, satisfied, deadlock, conversion},
}

var tblVerdicts = map[verdict]string{
	pending: "pending", queued: "queued", satisfied: "satisfied", blocked: "blocked", deadlock: "deadlock",
	conversion: "conversion", quotaHolds: "quota-holds", quotaWaiters: "quota-waiters",
}

// tblSeeds are byte strings that together make everything happen.
func tblSeeds() (seeds [][]byte) {
	for _, n := range []uint64{59, 2, 19} {
		r := rand.New(rand.NewPCG(n, 2))
		b := make([]byte, 1200)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		seeds = append(seeds, b)
	}
	return seeds
}

// tblBytes is a run that b decides.
func tblBytes(t *testing.T, b []byte) *tblPair {
	p := tblNewPair(t, limits{})
	tblDrive(p, func() (byte, bool) {
		if len(b) == 0 {
			return 0, false
		}
		next := b[0]
		b = b[1:]
		return next, true
	})
	tblEnd(p)
	return p
}

func TestFuzzSeedsMakeEverythingHappen(t *testing.T) {
	met := map[tblMet]int{}
	for _, b := range tblSeeds() {
		for v, n := range tblBytes(t, b).met {
			met[v] += n
		}
	}
	tblMetAll(t, met)
}

func FuzzTableAgainstModel(f *testing.F) {
	for _, b := range tblSeeds() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { tblBytes(t, b[:min(len(b), 2000)]) })
}
