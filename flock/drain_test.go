package flock

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whoever ends a hold reads the queue first. It is not to read on for as long as others fill it: here a pipe that is never empty.
func TestAStormOfEventsKeepsNobodyFromEndingHisHold(t *testing.T) {
	var queue [2]int
	must(t, unix.Pipe2(queue[:], unix.O_CLOEXEC))
	must(t, unix.SetNonblock(queue[0], true))
	var event bytes.Buffer
	for _, word := range []uint32{7, unix.IN_ATTRIB, 0, 0} {
		must(t, binary.Write(&event, binary.NativeEndian, word))
	}
	filled := make(chan struct{})
	go func() {
		defer close(filled)
		for many := bytes.Repeat(event.Bytes(), 1<<12); ; {
			if _, err := unix.Write(queue[1], many); err != nil { // EPIPE: the other end is closed
				return
			}
		}
	}()
	eventually(t, "the queue is full", func() bool { n, err := unix.IoctlGetInt(queue[0], unix.TIOCINQ); return err == nil && n >= 1<<15 })
	// To read an event takes longer than to make one.
	parts := slices.Repeat([]part{{of: &watched{fd: -1}, place: placeFile}}, 10000)
	c := &Changes{fd: queue[0], buf: make([]byte, event.Len()), inodes: map[int32]*inode{7: {wd: 7, parts: parts, looks: true}}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.drain()
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("still reading")
	}
	unix.Close(queue[0])
	<-filled
	<-ended
	unix.Close(queue[1])
}
