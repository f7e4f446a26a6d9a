package wire

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func lockOf(paths ...string) *Lock {
	return &Lock{Mode: Exclusive, Wait: Block, Life: Attached, Paths: paths}
}

// with gives a copy of a valid Lock after change.
func with(change func(*Lock)) *Lock {
	m := lockOf("/srv/a")
	change(m)
	return m
}

func TestAppendRefusesWhatParseWouldRefuse(t *testing.T) {
	grant := Grant{ID: 1, Rests: RestOFD}
	row := Row{Kind: RowHolder, ID: 1, Mode: Exclusive, Life: Attached}
	long := func(n int) string { return strings.Repeat("x", n) }
	for name, c := range map[string]struct {
		request uint32
		m       Message
		want    error
	}{
		"request 0":          {0, lockOf("/srv/a"), ErrRequest},
		"answer 0":           {0, &Done{}, ErrRequest},
		"event 1":            {1, &Lost{ID: 1, Cause: Broken}, ErrRequest},
		"stranger":           {1, stranger{}, ErrType},
		"nil":                {1, nil, ErrType},
		"zero lock":          {1, &Lock{}, ErrValue},
		"mode":               {1, with(func(m *Lock) { m.Mode = endMode }), ErrValue},
		"wait":               {1, with(func(m *Lock) { m.Wait = 0 }), ErrValue},
		"life":               {1, with(func(m *Lock) { m.Life = 3 }), ErrValue},
		"timeout blocked":    {1, with(func(m *Lock) { m.Timeout = 1 }), ErrCombination},
		"timeout negative":   {1, with(func(m *Lock) { m.Wait, m.Timeout = Timed, -1 }), ErrValue},
		"ttl attached":       {1, with(func(m *Lock) { m.TTL = time.Hour }), ErrCombination},
		"grace detached":     {1, with(func(m *Lock) { m.Life, m.Grace = Detached, 1 }), ErrCombination},
		"grace long":         {1, with(func(m *Lock) { m.Grace = MaxGrace + 1 }), ErrValue},
		"tag attached":       {1, with(func(m *Lock) { m.Tag = "t" }), ErrCombination},
		"tag long":           {1, with(func(m *Lock) { m.Life, m.Tag = Detached, long(MaxTag+1) }), ErrLimit},
		"reason long":        {1, with(func(m *Lock) { m.Reason = long(MaxReason + 1) }), ErrLimit},
		"no path":            {1, lockOf(), ErrCombination},
		"empty path":         {1, lockOf("/srv/a", ""), ErrValue},
		"path long":          {1, lockOf("/" + long(MaxPath)), ErrLimit},
		"paths many":         {1, lockOf(make([]string, MaxPaths+1)...), ErrLimit},
		"frame long":         {1, lockOf(repeat("/"+long(MaxPath-1), MaxPaths)...), ErrFrameSize},
		"hello crossed":      {1, &Hello{Min: 2, Max: 1}, ErrCombination},
		"unlock by":          {1, &Unlock{}, ErrValue},
		"unlock id path":     {1, &Unlock{By: ByID, ID: 1, Paths: []string{"/srv/a"}}, ErrCombination},
		"break all":          {1, &Break{By: ByAll, Reason: "r"}, ErrValue},
		"break no reason":    {1, &Break{By: ByID, ID: 1}, ErrValue},
		"cancel 0":           {1, &Cancel{}, ErrValue},
		"where 0":            {1, &Where{}, ErrValue},
		"explain action":     {1, &Explain{User: "a", Path: "/srv/a"}, ErrValue},
		"explain groups":     {1, &Explain{User: "a", Path: "/srv/a", Action: "list", Groups: []string{"g"}}, ErrCombination},
		"resume 0":           {1, &Resume{}, ErrValue},
		"resumed order":      {1, &Resumed{IDs: []uint64{2, 1}}, ErrCombination},
		"resumed twice":      {1, &Resumed{IDs: []uint64{1, 1}}, ErrCombination},
		"resumed 0":          {1, &Resumed{IDs: []uint64{0, 1}}, ErrValue},
		"resumed many":       {1, &Resumed{IDs: make([]uint64, MaxIDs+1)}, ErrLimit},
		"welcome version":    {1, &Welcome{}, ErrValue},
		"granted none":       {1, &Granted{}, ErrCombination},
		"granted many":       {1, &Granted{Grants: repeat(grant, MaxPaths+1)}, ErrLimit},
		"grant id":           {1, &Granted{Grants: []Grant{{Rests: RestOFD}}}, ErrValue},
		"grant rests":        {1, &Granted{Grants: []Grant{{ID: 1}}}, ErrValue},
		"grant rests bit":    {1, &Granted{Grants: []Grant{{ID: 1, Rests: endRest}}}, ErrValue},
		"grant expires 1500": {1, &Granted{Grants: []Grant{{ID: 1, Rests: RestOFD, Expires: time.Date(1500, 1, 1, 0, 0, 0, 0, time.UTC)}}}, ErrValue},
		"grant expires 3000": {1, &Granted{Grants: []Grant{{ID: 1, Rests: RestOFD, Expires: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)}}}, ErrValue},
		"grant expires 1970": {1, &Granted{Grants: []Grant{{ID: 1, Rests: RestOFD, Expires: time.Unix(0, 0)}}}, ErrValue},
		"blocker kind":       {1, &Queued{Blockers: []Blocker{{}}}, ErrValue},
		"blockers many":      {1, &Queued{Blockers: repeat(Blocker{Kind: Holder}, MaxBlockers+1)}, ErrLimit},
		"hidden uid":         {1, &Queued{Blockers: []Blocker{{Kind: Holder, Hidden: true, UID: 1}}}, ErrCombination},
		"code 0":             {1, &Error{}, ErrValue},
		"code high":          {1, &Error{Code: endCode}, ErrValue},
		"text long":          {1, &Error{Code: CodeBusy, Text: long(MaxText + 1)}, ErrLimit},
		"ids many":           {1, &Released{IDs: make([]uint64, MaxIDs+1)}, ErrLimit},
		"row zero":           {1, &Rows{Rows: []Row{{}}}, ErrValue},
		"row idle":           {1, &Rows{Rows: []Row{{Kind: RowHolder, Mode: Idle, Life: Attached}}}, ErrValue},
		"rows many":          {1, &Rows{Rows: repeat(row, MaxListed+1)}, ErrLimit},
		"lost id":            {0, &Lost{Cause: Broken}, ErrValue},
		"lost cause":         {0, &Lost{ID: 1}, ErrValue},
		"limits many":        {1, &StatusReply{Limits: make([]Limit, MaxLimits+1)}, ErrLimit},
		"rules many":         {1, &RulesReply{Rules: make([]Allowance, MaxListed+1)}, ErrLimit},
		"max_hold negative":  {1, &RulesReply{Rules: []Allowance{{MaxHold: -1}}}, ErrValue},
		"guard zero":         {1, &GuardReply{}, ErrValue},
		"guard state":        {1, &GuardReply{State: endGuardState, Programs: []string{"/a"}}, ErrValue},
		"guard nobody":       {1, &GuardReply{State: GuardOn}, ErrCombination},
		"guard off somebody": {1, &GuardReply{State: GuardOff, Programs: []string{"/a"}}, ErrCombination},
		"guard many":         {1, &GuardReply{State: GuardOn, Programs: repeat("/a", MaxPrograms+1)}, ErrLimit},
		"lines many":         {1, &Reloaded{Lines: make([]string, MaxListed+1)}, ErrLimit},
	} {
		got, err := Append([]byte("kept"), c.request, c.m)
		if !errors.Is(err, c.want) || string(got) != "kept" {
			t.Errorf("%s: got %q, error %v, want error %v", name, got, err, c.want)
		}
	}
}

type stranger struct{}

func (stranger) Type() Type { return TypeDone }

func repeat[T any](v T, n int) []T {
	list := make([]T, n)
	for i := range list {
		list[i] = v
	}
	return list
}

func TestTheLargestValuesFit(t *testing.T) {
	x := func(n int) string { return strings.Repeat("\xff", n) }
	blocker := Blocker{
		Kind: Outside, Path: x(MaxPath), UID: math.MaxUint32, User: x(MaxText), PID: math.MinInt32, Command: x(MaxText),
		Since: time.Unix(0, math.MinInt64).UTC(), Reason: x(MaxReason),
	}
	for _, m := range []Message{
		&Lock{Mode: Shared, Wait: Timed, Timeout: forever, Life: Detached, TTL: forever, Tag: x(MaxTag), Reason: x(MaxReason), Paths: []string{x(MaxPath)}},
		lockOf(repeat("/a", MaxPaths)...),
		&Released{IDs: make([]uint64, MaxIDs)},
		&Granted{Grants: repeat(Grant{ID: math.MaxUint64, Rests: endRest - 1, Expires: time.Unix(0, math.MaxInt64).UTC()}, MaxPaths)},
		&Error{Code: endCode - 1, Path: x(MaxPath), Text: x(MaxText), Blockers: repeat(blocker, MaxBlockers)},
		&Queued{Position: math.MaxUint32, Blockers: repeat(blocker, MaxBlockers)},
		&Reloaded{Lines: make([]string, MaxListed)},
	} {
		frame, err := Append(nil, math.MaxUint32, m)
		if err != nil {
			t.Errorf("%s: %v", m.Type(), err)
			continue
		}
		request, got, err := parseFrame(frame)
		if err != nil || request != math.MaxUint32 || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: request %d, error %v, or another message", m.Type(), request, err)
		}
	}
}

func TestParseKeepsNothingOfItsInput(t *testing.T) {
	for _, v := range readVectors(t) {
		if v.err != "" {
			continue
		}
		_, want, err := parseFrame(bytes.Clone(v.frame))
		if err != nil {
			t.Fatal(err)
		}
		_, got, err := parseFrame(v.frame)
		if err != nil {
			t.Fatal(err)
		}
		for i := range v.frame {
			v.frame[i] = 0xee
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: changed with its input", v.name)
		}
	}
}

// Every prefix of a valid body is refused, and so is every body with a byte more.
func TestEveryCutFrameIsRefused(t *testing.T) {
	for _, v := range readVectors(t) {
		if v.err != "" {
			continue
		}
		body := v.frame[4:]
		for n := range body {
			if _, m, err := Parse(body[:n]); err == nil || m != nil {
				t.Errorf("%s, cut after %d of %d bytes: got %v, error %v", v.name, n, len(body), m, err)
			}
		}
		if _, m, err := Parse(append(body[:len(body):len(body)], 0)); err == nil || m != nil {
			t.Errorf("%s, one byte longer: got %v", v.name, m)
		}
	}
}

func TestARefusedFrameStillHasItsRequestID(t *testing.T) {
	for _, v := range readVectors(t) {
		if v.err == "" || v.err == "frame-size" {
			continue
		}
		want := uint32(v.frame[6])<<24 | uint32(v.frame[7])<<16 | uint32(v.frame[8])<<8 | uint32(v.frame[9])
		if got, m, err := Parse(v.frame[4:]); got != want || m != nil || err == nil {
			t.Errorf("%s: got request %d, %v, error %v, want request %d and an error", v.name, got, m, err, want)
		}
	}
}

func TestReadFrameReadsOneFrameAndNoMore(t *testing.T) {
	var stream []byte
	var want [][]byte
	for _, v := range readVectors(t) {
		if v.err == "" {
			stream = append(stream, v.frame...)
			want = append(want, v.frame[4:])
		}
	}
	r := iotest.OneByteReader(bytes.NewReader(stream))
	var buf []byte
	for i := range want {
		body, err := ReadFrame(r, buf)
		if err != nil || !bytes.Equal(body, want[i]) {
			t.Fatalf("frame %d: got %x, error %v, want %x", i, body, err, want[i])
		}
		buf = body
	}
	if _, err := ReadFrame(r, buf); err != io.EOF {
		t.Errorf("at the end: got error %v, want EOF", err)
	}
}

func TestReadFrameTellsAnEndFromACut(t *testing.T) {
	frame := []byte{0, 0, 0, 6, 1, 8, 0, 0, 0, 1}
	for n := range len(frame) + 1 {
		want := io.ErrUnexpectedEOF
		switch n {
		case 0:
			want = io.EOF
		case len(frame):
			want = nil
		}
		if body, err := ReadFrame(bytes.NewReader(frame[:n]), nil); err != want || (body != nil) != (err == nil) {
			t.Errorf("%d of %d bytes: got %x, error %v, want %v", n, len(frame), body, err, want)
		}
	}
}

func TestReadFrameReusesItsBuffer(t *testing.T) {
	frame := []byte{0, 0, 0, 6, 1, 8, 0, 0, 0, 1}
	r, buf := bytes.NewReader(nil), make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		r.Reset(frame)
		if _, err := ReadFrame(r, buf); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestBodyLenKnowsBothLimits(t *testing.T) {
	for n, ok := range map[uint32]bool{0: false, 5: false, 6: true, MaxFrame: true, MaxFrame + 1: false, 1 << 31: false, math.MaxUint32: false} {
		got, err := BodyLen([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
		if ok && (err != nil || got != int(n)) || !ok && !errors.Is(err, ErrFrameSize) {
			t.Errorf("%d: got %d, error %v, want ok %v", n, got, err, ok)
		}
	}
}

func TestAppendingToRoomAllocatesNothing(t *testing.T) {
	dst := make([]byte, 0, 4096)
	for _, v := range readVectors(t) {
		if v.err != "" {
			continue
		}
		request, m, err := parseFrame(v.frame)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(20, func() { _, err = Append(dst, request, m) }); n != 0 || err != nil {
			t.Errorf("%s: %v allocations, error %v", v.name, n, err)
		}
	}
}
