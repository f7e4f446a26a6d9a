package broker

import (
	"time"

	"locker/audit"
	"locker/authz"
	"locker/wire"
)

// denials rates what refusals may write into the log: a user whom the policy refuses must not be able to push
// everybody else's history out of it. What is left out is counted, and the count recorded. Guarded by Broker.mu.
type denials struct {
	rate, burst, rateAll float64
	all                  bucket
	uids                 map[uint32]*bucket
	pending              int    // buckets with something left out
	text                 string // of the record that counts them
}

// waitsPerDenial is how many more records of waits than of refusals one uid may cause: they change nothing that is held either,
// but who uses a contended file writes many in good faith.
const waitsPerDenial = 10

// bucket is a token bucket on the boot clock.
type bucket struct {
	tokens  float64
	at      time.Duration
	missing uint64 // records left out since the last one written
	who     *who
}

// maxBuckets bounds the memory for uids that were refused something lately.
const maxBuckets = 4096

// set changes the rates; what is counted stays counted.
func (d *denials) set(l authz.Limits) {
	d.rate, d.burst, d.rateAll = float64(l.DenialRate), float64(l.DenialBurst), float64(l.DenialRateAll)
	if d.uids == nil {
		d.all.tokens = d.rateAll
		d.uids = map[uint32]*bucket{}
	}
}

// unknownUID is the bucket of all whom the kernel does not know: no peer has it. SO_PEERCRED, unix(7).
const unknownUID = 1<<32 - 1

func (t *bucket) refill(now time.Duration, rate, burst float64) {
	t.tokens = min(burst, t.tokens+rate*(now-t.at).Seconds())
	t.at = now
}

// allow takes a token of the uid's and one of everybody's.
func (d *denials) allow(w *who, now time.Duration) bool {
	uid := w.peer.UID
	if !w.peer.Known() {
		uid = unknownUID // not root's, for whom 0 stands
	}
	t := d.uids[uid]
	if t == nil {
		if len(d.uids) >= maxBuckets {
			d.forgetFull(now)
		}
		t = &bucket{tokens: d.burst, at: now}
		d.uids[uid] = t
	}
	t.refill(now, d.rate, d.burst)
	d.all.refill(now, d.rateAll, d.rateAll)
	if t.tokens < 1 || d.all.tokens < 1 {
		if t.missing == 0 {
			d.pending++
		}
		t.missing++
		t.who = w
		return false
	}
	t.tokens--
	d.all.tokens--
	return true
}

// forgetFull drops the buckets that have been left alone long enough to be full again.
func (d *denials) forgetFull(now time.Duration) {
	for uid, t := range d.uids {
		t.refill(now, d.rate, d.burst)
		if t.missing == 0 && t.tokens >= d.burst {
			delete(d.uids, uid)
		}
	}
}

// deny records that a lock was refused, before the refusal is answered. The caller does not hold mu.
func (b *Broker) deny(r *request, e *wire.Error) {
	b.denyAction(r.who, r.msg.Mode.String(), e.Path, e, r.refusedBy)
}

// denyAction records that who was refused something. by is the policy's decision, if it was that: the client learns one
// sentence, the log what decided.
func (b *Broker) denyAction(w *who, action, path string, e *wire.Error, by authz.Decision) {
	b.mu.Lock()
	var seq uint64
	if b.denials.allow(w, b.boot()) {
		rec := audit.Record{Event: audit.EventDeny, Path: path, Mode: action, Code: e.Code.String(), Text: e.Text, Rule: by.Rule}
		if e.Code == wire.CodeDenied && by.Why != 0 {
			rec.Text = by.Why.String()
		}
		w.sign(&rec)
		seq = b.append(&rec)
	} else {
		b.poke()
	}
	b.mu.Unlock()
	b.commit(seq)
}

// recordSuppressed writes how much was left out, for each uid that may write again. The caller holds mu.
func (b *Broker) recordSuppressed(now time.Duration) {
	for _, d := range [...]*denials{&b.denials, &b.waits, &b.alters} {
		if d.pending == 0 {
			continue
		}
		for _, t := range d.uids {
			if t.missing == 0 {
				continue
			}
			if t.refill(now, d.rate, d.burst); t.tokens < 1 {
				continue
			}
			t.tokens--
			b.recordMissing(d, t)
		}
	}
}

// recordAllSuppressed is recordSuppressed at the end of a run. The caller holds mu.
func (b *Broker) recordAllSuppressed() {
	b.logAllAltered()
	for _, d := range [...]*denials{&b.denials, &b.waits, &b.alters} {
		for _, t := range d.uids {
			if t.missing > 0 {
				b.recordMissing(d, t)
			}
		}
	}
}

func (b *Broker) recordMissing(d *denials, t *bucket) {
	rec := audit.Record{Event: audit.EventSuppressed, Count: t.missing, Text: d.text}
	t.who.sign(&rec)
	b.append(&rec)
	t.missing, t.who = 0, nil
	d.pending--
}
