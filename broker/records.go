package broker

import (
	"os"

	"locker/audit"
	"locker/wire"
)

// recordOf begins a record about one path of a request.
func (b *Broker) recordOf(r *request, e audit.Event, path string) audit.Record {
	rec := audit.Record{
		Event: e, Path: path, Mode: r.msg.Mode.String(), Life: r.msg.Life.String(),
		Tag: r.msg.Tag, Reason: r.msg.Reason, Grace: r.msg.Grace,
	}
	if r.msg.Life == wire.Attached {
		rec.Session = r.s.id
	}
	r.who.sign(&rec)
	return rec
}

// recordOfHold begins a record about a hold: whose it is, what is locked and how, so that the line can be read alone.
func (b *Broker) recordOfHold(h *hold, e audit.Event) audit.Record {
	i := h.info
	rec := audit.Record{
		Event: e, ID: h.id, Path: i.path, Target: i.target, Dev: h.key.dev, Ino: h.key.ino, Mode: wireMode(h.mode).String(),
		Rests: restNames[i.rests], Life: i.life.String(), Session: h.owner.session, Tag: i.tag, Rule: i.rule, Held: b.boot() - i.began,
	}
	i.who.sign(&rec)
	return rec
}

func effectiveUID() uint32 { return uint32(os.Geteuid()) }
