package audit

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"
)

// maxLine is the longest line that is read. Append cuts text so that no line it writes is longer:
// two paths of 4,096 bytes and twelve other texts of 1,024, five characters a byte at worst, and the rest.
const maxLine = 128 << 10 // bytes

// ParseLine reads one line of the log, without its newline. It is strict: whatever it accepts,
// AppendLine turns into the same bytes again. The strings of the result are copies.
func ParseLine(line []byte) (Record, error) {
	var r Record
	if err := parseLine(line, &r, nil); err != nil {
		return Record{}, err
	}
	if again := AppendLine(make([]byte, 0, len(line)), &r); !bytes.Equal(again, line) {
		return Record{}, errors.New("parse record: not in the one form that is written")
	}
	return r, nil
}

// parseLine fills r. It checks the crc, but not that the line is in its one form. names, when not nil,
// keeps one copy of strings that come again and again.
func parseLine(line []byte, r *Record, names map[string]string) error {
	if len(line) > maxLine {
		return errors.New("parse record: line too long")
	}
	c := cursor{rest: line, names: names}
	if !c.key(`{"seq":`) {
		return errors.New("parse record: no seq")
	}
	r.Seq = c.uint(math.MaxUint64)
	r.Time = c.time(`,"time":"`)
	r.Boot = time.Duration(c.int(`,"boot":`, math.MaxInt64))
	if !c.key(`,"event":"`) {
		return errors.New("parse record: no event")
	}
	r.Event = eventOf(c.raw())
	if r.Event == "" {
		return errors.New("parse record: unknown event")
	}
	r.ID = c.optUint(`,"id":`)
	if r.Peer = c.key(`,"uid":`); r.Peer {
		r.UID = uint32(c.uint(math.MaxUint32))
		c.must(`,"gid":`)
		r.GID = uint32(c.uint(math.MaxUint32))
	}
	r.User = c.name(`,"user":"`)
	if r.HasLogin = c.key(`,"loginuid":`); r.HasLogin {
		r.LoginUID = uint32(c.uint(math.MaxUint32))
	}
	r.PID = int32(c.int(`,"pid":`, math.MaxInt32))
	r.Start = c.optUint(`,"start":`)
	r.Command = c.name(`,"command":"`)
	r.Path = c.string(`,"path":"`)
	r.Target = c.string(`,"target":"`)
	r.Dev = c.optUint(`,"dev":`)
	r.Ino = c.optUint(`,"ino":`)
	r.Mode = c.name(`,"mode":"`)
	r.Rests = c.list(`,"rests":[`)
	r.Life = c.name(`,"life":"`)
	r.Session = c.optUint(`,"session":`)
	r.Tag = c.name(`,"tag":"`)
	r.Reason = c.name(`,"reason":"`)
	r.Rule = c.name(`,"rule":"`)
	r.Grace = time.Duration(c.int(`,"grace_ns":`, math.MaxInt64))
	r.Waited = time.Duration(c.int(`,"waited_ns":`, math.MaxInt64))
	r.Held = time.Duration(c.int(`,"held_ns":`, math.MaxInt64))
	r.Expires = c.time(`,"expires":"`)
	r.Code = c.string(`,"code":"`)
	r.Text = c.string(`,"text":"`)
	r.Count = c.optUint(`,"count":`)
	r.SHA256 = c.string(`,"sha256":"`)
	r.By = c.string(`,"by":"`)
	r.First = c.optUint(`,"first":`)
	r.Last = c.optUint(`,"last":`)
	r.Gap = time.Duration(c.int(`,"gap_ns":`, math.MaxInt64))
	if c.key(`,"request":`) {
		r.Request = uint32(c.uint(math.MaxUint32))
	}
	r.BootID = c.string(`,"boot_id":"`)
	r.Synced = c.optUint(`,"synced":`)
	r.Altered = c.time(`,"altered":"`)
	r.Missed = c.key(`,"missed":true`)
	covered := line[:len(line)-len(c.rest)]
	c.must(`,"crc":"`)
	sum, ok := parseHex(c.raw(), 8)
	r.Prev = c.string(`,"prev":"`)
	c.must(`}`)
	switch {
	case c.err != nil:
		return c.err
	case len(c.rest) > 0:
		return fmt.Errorf("parse record: %d bytes after its end", len(c.rest))
	case !ok || sum != crc32.Checksum(covered, castagnoli):
		return errors.New("parse record: its crc does not match")
	}
	return nil
}

// eventOf returns the known event that is spelled so, or "". Listing them costs no allocation, and a new
// event that is forgotten here fails the first test that writes it.
func eventOf(b []byte) Event {
	switch e := Event(b); e {
	case EventStart, EventStop, EventPolicy, EventPolicyRefused, EventConnectRefused, EventGrant, EventDeny,
		EventWait, EventTimeout, EventCancel, EventRelease, EventExpire, EventBreak, EventDeath, EventResume,
		EventLost, EventCleared, EventGap, EventRecovered, EventSuppressed, EventAltered, EventKeeper, EventGuard, EventRotate, EventCheckpoint,
		EventHeld:
		return e
	}
	return ""
}
