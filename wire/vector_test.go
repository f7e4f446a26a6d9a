package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
)

const vectorFile = "testdata/vectors.txt"

// vector is one block of the vector file; its head says what the keys mean.
type vector struct {
	name, meaning, json, err string
	frame                    []byte
}

var vectorErrors = map[string]error{
	"frame-size": ErrFrameSize, "truncated": ErrTruncated, "trailing": ErrTrailing, "version": ErrVersion, "type": ErrType,
	"request-id": ErrRequest, "limit": ErrLimit, "value": ErrValue, "combination": ErrCombination,
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	seen := map[string]bool{}
	for block := range strings.SplitSeq(string(text), "\n\n") {
		var v vector
		for line := range strings.SplitSeq(block, "\n") {
			if line == "" || line[0] == '#' {
				continue
			}
			key, value, _ := strings.Cut(line, ": ")
			switch key {
			case "name":
				v.name = value
			case "meaning":
				v.meaning = value
			case "json":
				v.json = value
			case "error":
				v.err = value
			case "hex":
				if v.frame, err = hex.DecodeString(strings.ReplaceAll(value, " ", "")); err != nil {
					t.Fatalf("vector %s: %v", v.name, err)
				}
			default:
				t.Fatalf("vector %s: unknown line %q", v.name, line)
			}
		}
		if v.name == "" && v.frame == nil {
			continue
		}
		if v.name == "" || seen[v.name] || v.meaning == "" || v.frame == nil || (v.json == "") == (v.err == "") || v.err != "" && vectorErrors[v.err] == nil {
			t.Fatalf("vector %q is incomplete or there twice: %+v", v.name, v)
		}
		seen[v.name] = true
		all = append(all, v)
	}
	if len(all) < 2*len(Types()) {
		t.Fatalf("%s holds %d vectors only", vectorFile, len(all))
	}
	return all
}

// parseFrame is what a receiver does with a whole frame.
func parseFrame(frame []byte) (uint32, Message, error) {
	n, err := BodyLen([4]byte(frame))
	if err != nil {
		return 0, nil, err
	}
	if n != len(frame)-4 {
		return 0, nil, fmt.Errorf("length word %d, frame has %d", n, len(frame)-4)
	}
	return Parse(frame[4:])
}

func TestVectorsDecodeToWhatTheySay(t *testing.T) {
	for _, v := range readVectors(t) {
		request, m, err := parseFrame(v.frame)
		if v.err != "" {
			if !errors.Is(err, vectorErrors[v.err]) {
				t.Errorf("%s (%s): got %v, error %v, want error %s", v.name, v.meaning, m, err, v.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s (%s): %v", v.name, v.meaning, err)
			continue
		}
		got := toJSON(reflect.ValueOf(m).Elem()).(map[string]any)
		got["type"], got["request"] = m.Type().String(), json.Number(fmt.Sprint(request))
		if want := decodeJSON(t, v); !reflect.DeepEqual(got, want) {
			t.Errorf("%s (%s):\n got %v\nwant %v", v.name, v.meaning, got, want)
		}
	}
}

func TestVectorsAreEncodedFromWhatTheySay(t *testing.T) {
	for _, v := range readVectors(t) {
		if v.err != "" {
			continue
		}
		want := decodeJSON(t, v)
		m := messageNamed(t, want["type"].(string))
		fromJSON(t, reflect.ValueOf(m).Elem(), want)
		var request uint32
		if _, err := fmt.Sscan(want["request"].(json.Number).String(), &request); err != nil {
			t.Fatal(err)
		}
		got, err := Append([]byte("kept"), request, m)
		if err != nil || !bytes.Equal(got, append([]byte("kept"), v.frame...)) {
			t.Errorf("%s (%s): error %v\n got %x\nwant %x", v.name, v.meaning, err, got[4:], v.frame)
		}
	}
}

func TestEveryTypeHasAVector(t *testing.T) {
	good := map[string]bool{}
	bad := map[string]bool{}
	for _, v := range readVectors(t) {
		if v.err != "" {
			bad[v.err] = true
		} else {
			good[decodeJSON(t, v)["type"].(string)] = true
		}
	}
	for _, typ := range Types() {
		if !good[typ.String()] {
			t.Errorf("no vector of %s", typ)
		}
	}
	for word := range vectorErrors {
		if !bad[word] {
			t.Errorf("no malformed vector with error %s", word)
		}
	}
}

func decodeJSON(t testing.TB, v vector) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(v.json))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatalf("vector %s: %v", v.name, err)
	}
	return m
}

// messageNamed gives an empty message of the type with that name.
func messageNamed(t testing.TB, name string) Message {
	t.Helper()
	for _, m := range allMessages() {
		if m.Type().String() == name {
			return m
		}
	}
	t.Fatalf("no message %q", name)
	return nil
}

func allMessages() []Message {
	return []Message{
		&Hello{}, &Lock{}, &Unlock{}, &Cancel{}, &Where{}, &List{}, &Watch{}, &Status{}, &Break{}, &Reload{}, &Rules{}, &Explain{}, &Resume{}, &Guard{},
		&Welcome{}, &Granted{}, &Queued{}, &Released{}, &Done{}, &Error{}, &Rows{}, &Changed{}, &StatusReply{}, &RulesReply{},
		&Explained{}, &Reloaded{}, &Lost{}, &Resumed{}, &GuardReply{}, &Altered{}, &Quiets{},
	}
}

// toJSON gives a value as the vectors write it.
func toJSON(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case time.Time:
		if x.IsZero() {
			return json.Number("0")
		}
		return json.Number(fmt.Sprint(x.UnixNano()))
	case string:
		runes := make([]rune, len(x))
		for i := range len(x) {
			runes[i] = rune(x[i])
		}
		return string(runes)
	case bool:
		return x
	}
	switch v.Kind() {
	case reflect.Struct:
		m := map[string]any{}
		for i := range v.NumField() {
			m[wireName(v.Type().Field(i).Name)] = toJSON(v.Field(i))
		}
		return m
	case reflect.Slice:
		list := []any{}
		for i := range v.Len() {
			list = append(list, toJSON(v.Index(i)))
		}
		return list
	}
	return json.Number(fmt.Sprintf("%d", v.Interface()))
}

// fromJSON is the inverse of toJSON.
func fromJSON(t testing.TB, v reflect.Value, from any) {
	t.Helper()
	switch x := from.(type) {
	case map[string]any:
		for i := range v.NumField() {
			fromJSON(t, v.Field(i), x[wireName(v.Type().Field(i).Name)])
		}
	case []any:
		for range x {
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		}
		for i := range x {
			fromJSON(t, v.Index(i), x[i])
		}
	case string:
		var b []byte
		for _, r := range x {
			b = append(b, byte(r))
		}
		v.SetString(string(b))
	case bool:
		v.SetBool(x)
	case json.Number:
		if v.Type() == reflect.TypeFor[time.Time]() {
			n, err := x.Int64()
			if err != nil {
				t.Fatal(err)
			}
			if n != 0 {
				v.Set(reflect.ValueOf(time.Unix(0, n)))
			}
		} else if _, err := fmt.Sscan(x.String(), v.Addr().Interface()); err != nil {
			t.Fatalf("%s: %v", x, err)
		}
	default:
		t.Fatalf("field of type %s has no value", v.Type())
	}
}

// wireName turns MaxPath into max_path, PolicySHA256 into policy_sha256, IDs into ids.
func wireName(name string) string {
	var b strings.Builder
	runes := []rune(strings.ReplaceAll(name, "IDs", "Ids"))
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && unicode.IsLower(runes[i-1]) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
