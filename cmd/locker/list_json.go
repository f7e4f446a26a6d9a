package main

import (
	"locker/client"
	"locker/wire"
)

// listObject is the list as JSON: one object for each file.
func listObject(files []*locked) *object {
	o := &object{b: make([]byte, 0, 640*len(files))} // about what a held file takes: growing step by step would copy it all several times
	o.open('{')
	o.key("locks")
	o.open('[')
	for _, f := range files {
		first, some := f.first()
		if !some { // only rows of a kind that we do not know
			continue
		}
		o.open('{')
		o.path("path", first.Path)
		o.text("mode", first.Mode.String())
		engines := []string{}
		for _, name := range first.Rests.Names() {
			if name == "ofd" || name == "flock" {
				engines = append(engines, name)
			}
		}
		o.list("engines", engines)
		o.list("rests", first.Rests.Names())
		o.number("dev", first.Dev)
		o.number("ino", first.Ino)
		for _, part := range []struct {
			name string
			rows []client.Row
		}{{"holders", f.holders}, {"waiters", f.waiters}, {"lost", f.lost}} {
			o.key(part.name)
			o.open('[')
			for _, r := range part.rows {
				listEntry(o, r)
			}
			o.close(']')
		}
		o.key("outside")
		o.open('[')
		for _, r := range f.outside {
			o.open('{')
			o.number("uid", uint64(r.UID))
			o.text("user", r.User)
			o.signed("pid", int64(r.PID))
			o.text("command", r.Command)
			o.text("reason", r.Reason)
			o.close('}')
		}
		o.close(']')
		o.close('}')
	}
	o.close(']')
	o.close('}')
	return o
}

func listEntry(o *object, r client.Row) {
	o.open('{')
	o.number("id", r.ID)
	o.number("uid", uint64(r.UID))
	o.text("user", r.User)
	o.signed("pid", int64(r.PID))
	o.text("command", r.Command)
	o.time("since", r.Since)
	o.text("reason", r.Reason)
	o.text("tag", r.Tag)
	if r.Kind != wire.RowWaiter {
		o.number("token", r.ID)
	} else {
		o.number("token", 0)
	}
	o.text("life", r.Life.String())
	o.time("expires", r.Expires)
	o.path("path", r.Path)
	o.text("mode", r.Mode.String())
	if r.Kind == wire.RowWaiter {
		o.number("position", uint64(r.Position))
	}
	o.fact("mine", r.Mine)
	o.fact("stale", r.Stale)
	o.fact("outlawed", r.Outlawed)
	o.fact("ending", r.Ending)
	if r.Kind == wire.RowHolder || r.Kind == wire.RowOrphan {
		o.fact("orphan", r.Kind == wire.RowOrphan)
		o.key("altered")
		o.open('{')
		o.number("count", uint64(r.Altered.Count))
		o.path("last", r.Altered.Last)
		o.time("at", r.Altered.At)
		o.fact("missed", r.Altered.Missed)
		o.fact("unwatched", r.Altered.Unwatched)
		o.fact("lapsed", r.Altered.Lapsed)
		o.close('}')
	}
	o.close('}')
}
