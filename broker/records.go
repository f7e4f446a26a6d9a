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

func effectiveUID() uint32 { return uint32(os.Geteuid()) }
