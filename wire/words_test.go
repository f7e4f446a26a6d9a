package wire

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestEveryValueHasItsWord(t *testing.T) {
	for want, v := range map[string]fmt.Stringer{
		"exclusive": Exclusive, "shared": Shared, "idle": Idle, "block": Block, "nonblock": NonBlock, "timed": Timed, "attached": Attached,
		"detached": Detached, "path": ByPath, "id": ByID, "all": ByAll, "busy": CodeBusy, "denied": CodeDenied,
		"timeout": CodeTimeout, "deadlock": CodeDeadlock, "quota": CodeQuota, "invalid": CodeInvalid, "not-found": CodeNotFound,
		"unsupported": CodeUnsupported, "conversion": CodeConversion, "canceled": CodeCanceled, "unavailable": CodeUnavailable,
		"internal": CodeInternal, "version": CodeVersion, "shutdown": CodeShutdown, "limit": CodeLimit, "lost": CodeLost,
		"broken": Broken, "expired": Expired, "stopped": Stopped, "holder": Holder, "waiter": RowWaiter, "outside": Outside,
		"orphan": RowOrphan, "off": GuardOff, "on": GuardOn, "down": GuardDown, "unknown": Mode(0), "Type(0x0f)": afterRequests,
	} {
		if got := v.String(); got != want {
			t.Errorf("%#v: got %q, want %q", v, got, want)
		}
	}
	if got, want := Rest(15).Names(), []string{"ofd", "flock", "idle", "guard"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Rest(0).Names(); got != nil {
		t.Errorf("nothing rests on %q", got)
	}
}

func TestTypesAreAllMessages(t *testing.T) {
	var got []Type
	for _, m := range allMessages() {
		got = append(got, m.Type())
		if typeOf(m) != m.Type() || reflect.TypeOf(m).Elem().Name() != m.Type().String() {
			t.Errorf("%T has type %s", m, m.Type())
		}
	}
	if !slices.Equal(got, Types()) {
		t.Errorf("got %v, want %v", got, Types())
	}
	for _, typ := range got {
		if typ.IsRequest() != (typ < 0x80) {
			t.Errorf("%s, 0x%02x: IsRequest is %v", typ, uint8(typ), typ.IsRequest())
		}
	}
}

func TestACodeAnswersEveryMalformedFrame(t *testing.T) {
	for _, v := range readVectors(t) {
		if v.err == "" {
			continue
		}
		_, _, err := parseFrame(v.frame)
		want := map[string]Code{"frame-size": CodeLimit, "version": CodeVersion, "type": CodeUnsupported}[v.err]
		if want == 0 {
			want = CodeInvalid
		}
		if got := CodeOf(err); got != want {
			t.Errorf("%s: got %s, want %s", v.name, got, want)
		}
	}
}

func TestErrorsQuotePaths(t *testing.T) {
	var target *Error
	err := fmt.Errorf("lock: %w", &Error{Code: CodeBusy, Path: "/srv/\x1b\xff", Text: "in use"})
	if got, want := err.Error(), `lock: busy: "/srv/\x1b\xff": in use`; got != want || !errors.As(err, &target) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestClipStaysWithinMax(t *testing.T) {
	for _, c := range []struct {
		s    string
		max  int
		want string
	}{{"", 0, ""}, {"abc", 3, "abc"}, {"abcd", 3, "..."}, {"abcde", 4, "a..."}, {"abc", 2, "ab"}} {
		if got := Clip(c.s, c.max); got != c.want {
			t.Errorf("Clip(%q, %d): got %q, want %q", c.s, c.max, got, c.want)
		}
	}
}

func TestRowsAreSplitOverFramesAndArriveInOrder(t *testing.T) {
	row := Row{Kind: RowHolder, Mode: Exclusive, Life: Attached}
	for _, c := range []struct{ rows, path, frames int }{
		{0, 1, 1}, {1, MaxPath, 1}, {15, MaxPath, 1}, {16, MaxPath, 2}, {100, MaxPath, 7}, {3 * MaxListed, 0, 4},
	} {
		rows := repeat(row, c.rows)
		for i := range rows {
			rows[i].ID = uint64(i + 1)
			rows[i].Path = strings.Repeat("p", c.path)
		}
		stream, err := AppendRows([]byte("kept"), 9, rows)
		if err != nil || string(stream[:4]) != "kept" {
			t.Errorf("%+v: error %v", c, err)
			continue
		}
		var got []Row
		frames := 0
		for r := strings.NewReader(string(stream[4:])); ; {
			body, err := ReadFrame(r, nil)
			if err != nil {
				t.Fatalf("%+v: frame %d: %v", c, frames, err)
			}
			request, m, err := Parse(body)
			if err != nil || request != 9 {
				t.Fatalf("%+v: request %d, error %v", c, request, err)
			}
			frames++
			got = append(got, m.(*Rows).Rows...)
			if more := m.(*Rows).More; more != (r.Len() > 0) {
				t.Errorf("%+v: frame %d says more %v", c, frames, more)
				break
			} else if !more {
				break
			}
		}
		if len(got) != len(rows) || len(rows) > 0 && !reflect.DeepEqual(got, rows) || frames != c.frames {
			t.Errorf("%+v: got %d rows in %d frames", c, len(got), frames)
		}
	}
	if got, err := AppendRows([]byte("kept"), 9, append(repeat(Row{Kind: RowHolder, Mode: Exclusive, Life: Attached, Path: strings.Repeat("p", MaxPath)}, 40), Row{})); !errors.Is(err, ErrValue) || string(got) != "kept" {
		t.Errorf("a bad row: got %d bytes, error %v", len(got), err)
	}
}
