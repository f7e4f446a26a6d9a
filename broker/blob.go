package broker

import (
	"encoding/binary"
	"errors"
	"time"

	"locker/wire"
)

// A blob is what the broker writes beside each copy that it hands to the keeper, and what the next broker reads: enough to know
// whose the copy is without the log. The keeper does not look into it.
//
// Fixed fields first, big-endian, then two strings with their lengths. There is one encoding of each value; what does not decode
// was not written by us.

// blobVersion is the first byte. A broker that finds another does not understand what is kept: it holds a lock on as the log says, or
// as nobody's if the log was lost (recoverNobodys). A place in a queue is given up: its client asks again, and stands behind.
const blobVersion = 1

// maxBlob is the keeper's limit, in bytes; a path that does not fit is left out, since the log has it, or the kernel.
const maxBlob = 512

// keptKind says what an entry of the keeper stands for. The zero value: nothing.
type keptKind uint8

const (
	keptHold keptKind = iota + 1
	keptWait          // a place in the queue of one file: no descriptor but the waiting process
)

const (
	flagResumes   = 1 << iota // its session's client can resume (protocol version 2)
	flagEnding                // broken or expired, in its grace, which is over at due
	flagBundle                // target is path + "/token"
	flagPathLeft              // the path did not fit
	flagIdle                  // nobody else had the file open when it was granted
	knownBlobFlag = flagResumes | flagEnding | flagBundle | flagPathLeft | flagIdle
)

// waitBit is set in the keeper's ids of places in a queue: ids of holds are sequence numbers of the log, far below.
const waitBit = 1 << 63

type blob struct {
	kind     keptKind
	mode     mode
	life     wire.Life
	flags    uint8
	boot     [16]byte // the kernel's boot id
	session  uint64   // of the connection that asked
	request  uint32   // its request id
	pid      int32
	start    uint64 // of the process, clock ticks since boot; 0: not known
	uid, gid uint32
	dev, ino uint64
	due      time.Duration // boot clock: end of the lease, or of the grace; 0: none
	grace    time.Duration
	began    time.Duration // boot clock; negative: before the machine was started
	round    uint64        // of a place: its rank among the waiting, and
	arrival  uint64        // within the round
	tag      string
	path     string // as the client named it
}

const blobHead = 4 + 16 + 8 + 4 + 4 + 8 + 4 + 4 + 8 + 8 + 8 + 8 + 8 + 8 + 8 + 1 + 2

func (k *blob) append(dst []byte) []byte {
	be := binary.BigEndian
	path := k.path
	flags := k.flags
	if blobHead+len(k.tag)+len(path) > maxBlob {
		path, flags = "", flags|flagPathLeft
	}
	dst = append(dst, blobVersion, byte(k.kind)<<4|byte(k.mode), byte(k.life), flags)
	dst = append(dst, k.boot[:]...)
	dst = be.AppendUint64(dst, k.session)
	dst = be.AppendUint32(dst, k.request)
	dst = be.AppendUint32(dst, uint32(k.pid))
	dst = be.AppendUint64(dst, k.start)
	dst = be.AppendUint32(dst, k.uid)
	dst = be.AppendUint32(dst, k.gid)
	dst = be.AppendUint64(dst, k.dev)
	dst = be.AppendUint64(dst, k.ino)
	dst = be.AppendUint64(dst, uint64(k.due))
	dst = be.AppendUint64(dst, uint64(k.grace))
	dst = be.AppendUint64(dst, uint64(k.began))
	dst = be.AppendUint64(dst, k.round)
	dst = be.AppendUint64(dst, k.arrival)
	dst = append(dst, byte(len(k.tag)))
	dst = append(dst, k.tag...)
	dst = be.AppendUint16(dst, uint16(len(path)))
	return append(dst, path...)
}

var errBlob = errors.New("not a blob of this version")

// parseBlob reads what append wrote.
func parseBlob(b []byte) (*blob, error) {
	if len(b) < blobHead || len(b) > maxBlob || b[0] != blobVersion {
		return nil, errBlob
	}
	k := &blob{kind: keptKind(b[1] >> 4), mode: mode(b[1] & 15), life: wire.Life(b[2]), flags: b[3]}
	if k.kind != keptHold && k.kind != keptWait || k.mode != exclusive && k.mode != shared ||
		k.life != wire.Attached && k.life != wire.Detached || k.flags&^uint8(knownBlobFlag) != 0 {
		return nil, errBlob
	}
	b = b[4:]
	copy(k.boot[:], b)
	b = b[16:]
	u64 := func() uint64 { v := binary.BigEndian.Uint64(b); b = b[8:]; return v }
	u32 := func() uint32 { v := binary.BigEndian.Uint32(b); b = b[4:]; return v }
	k.session, k.request, k.pid, k.start = u64(), u32(), int32(u32()), u64()
	k.uid, k.gid, k.dev, k.ino = u32(), u32(), u64(), u64()
	k.due, k.grace, k.began = time.Duration(u64()), time.Duration(u64()), time.Duration(u64())
	k.round, k.arrival = u64(), u64()
	tag := int(b[0])
	if b = b[1:]; tag > wire.MaxTag || len(b) < tag+2 {
		return nil, errBlob
	}
	k.tag, b = string(b[:tag]), b[tag:]
	path := int(binary.BigEndian.Uint16(b))
	if b = b[2:]; len(b) != path || path > 0 && k.flags&flagPathLeft != 0 || k.due < 0 || k.grace < 0 {
		return nil, errBlob
	}
	k.path = string(b)
	// A detached hold that was claimed again from the log, which does not tell whose session it was, has none.
	if k.session == 0 && (k.kind == keptWait || k.life == wire.Attached) || k.life == wire.Attached && k.tag != "" {
		return nil, errBlob
	}
	return k, nil
}
