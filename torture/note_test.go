package torture

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// The kinds of events: what clients and the prober find. Whether it is a fault is decided by the run, which knows who was dead when.
const (
	eventDouble  = "double"  // a fault, unless the log says that Other's hold was lost while both processes were dead, and nobody could be told
	eventToken   = "token"   // always a fault
	eventStuck   = "stuck"   // always a fault
	eventError   = "error"   // an answer that nobody asked for: always a fault
	eventAlready = "already" // somebody who asks for the first time has it already: always a fault
	eventLost    = "lost"    // an outsider got in: a fault unless both processes were dead between Since and At
	eventLoss    = "loss"    // a client was told so: the same
	eventMissing = "missing" // a hold was not there when it was released: the same
	eventUnsaid  = "unsaid"  // an unlock by path or tag did not name the hold: a fault unless the broker died between Since and At
	eventRefused = "refused" // no fault; said once for each text
)

// event is a line of the events file.
type event struct {
	Kind  string
	At    int64
	Since int64 // beginning of what it is about
	File  int
	Mine  word
	Other word
	Token uint64
	Their uint64 // Other's token
	Text  string
}

// notebook appends events to a file that several processes share.
type notebook struct {
	m *memory
	f *os.File
}

func openAppend(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

func openNotebook(m *memory, name string) (*notebook, error) {
	f, err := openAppend(name)
	return &notebook{m, f}, err
}

func (n *notebook) write(e event) {
	line, err := json.Marshal(e)
	if err == nil {
		_, err = n.f.Write(append(line, '\n')) // one write(2) with O_APPEND: lines of several processes do not mix
	}
	if err != nil {
		panic(err)
	}
	n.m.events.Add(1)
}

// readEvents gives the whole lines of a file from offset on, and the offset behind them.
func readEvents(name string, offset int64) ([]event, int64, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, offset, nil
	}
	if err != nil {
		return nil, offset, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, offset, 1<<30))
	if err != nil {
		return nil, offset, err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	var events []event
	for line := range bytes.Lines(text) {
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, offset, fmt.Errorf("events: %w", err)
		}
		events = append(events, e)
	}
	return events, offset + int64(len(text)), nil
}

// stage of a hold, as it is noted.
type moment uint8

const (
	granted  moment = iota + 1 // From: asked; At: answered
	givenUp                    // At: before the unlock is sent
	released                   // At: after its answer
)

// note is a line of a history: of one hold of one or more files.
type note struct {
	Moment   moment
	Shared   bool
	Who      word
	From, At int64
	PID      int32
	N        int // files
	Files    [setMost]uint8
	Tokens   [setMost]uint64
}

const noteSize = 4 + 8 + 8 + 8 + 4 + setMost + 8*setMost

func (n *note) append(b []byte) []byte {
	shared := byte(0)
	if n.Shared {
		shared = 1
	}
	b = append(b, byte(n.Moment), shared, byte(n.N), 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(n.Who))
	b = binary.LittleEndian.AppendUint64(b, uint64(n.From))
	b = binary.LittleEndian.AppendUint64(b, uint64(n.At))
	b = binary.LittleEndian.AppendUint32(b, uint32(n.PID))
	b = append(b, n.Files[:]...)
	for _, t := range n.Tokens {
		b = binary.LittleEndian.AppendUint64(b, t)
	}
	return b
}

func parseNote(b []byte) (n note) {
	n.Moment, n.Shared, n.N = moment(b[0]), b[1] != 0, int(b[2])
	n.Who = word(binary.LittleEndian.Uint64(b[4:]))
	n.From, n.At = int64(binary.LittleEndian.Uint64(b[12:])), int64(binary.LittleEndian.Uint64(b[20:]))
	n.PID = int32(binary.LittleEndian.Uint32(b[28:]))
	copy(n.Files[:], b[32:])
	for i := range n.Tokens {
		n.Tokens[i] = binary.LittleEndian.Uint64(b[32+setMost+8*i:])
	}
	return n
}

// readNotes gives all notes of a history file. A client that was killed while it wrote one may have left a part of it.
func readNotes(name string) ([]note, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	notes := make([]note, 0, len(text)/noteSize)
	for ; len(text) >= noteSize; text = text[noteSize:] {
		notes = append(notes, parseNote(text))
	}
	return notes, nil
}
