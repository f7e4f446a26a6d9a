package wire

import (
	"cmp"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

const pythonClient = "../docs/examples/locker.py"

// layout is one table of the package comment: a message or a structure.
type layout struct {
	name, number string // number "" for a structure
	version      string // "" for 1
	fields       [][2]string
}

var (
	layoutHead  = regexp.MustCompile(`^//\t([A-Z]\w*)(?: (0x[0-9a-f]{2})(?: version ([2-9]))?)?$`)
	layoutField = regexp.MustCompile(`^//\t  (\w+)\s+(.+?)(?:\s{2,}.*)?$`)
)

// specTables reads the tables of the package comment.
func specTables(t *testing.T) []layout {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var all []layout
	_, tables, _ := strings.Cut(string(text), "// # Requests\n")
	tables, _, _ = strings.Cut(tables, "// # Conversation\n")
	for line := range strings.SplitSeq(tables, "\n") {
		if m := layoutHead.FindStringSubmatch(line); m != nil {
			all = append(all, layout{name: m[1], number: m[2], version: m[3]})
		} else if m := layoutField.FindStringSubmatch(line); m != nil && len(all) > 0 {
			last := &all[len(all)-1]
			last.fields = append(last.fields, [2]string{m[1], m[2]})
		}
	}
	if want := len(Types()) + 6; len(all) != want {
		t.Fatalf("the package comment has %d tables, want %d", len(all), want)
	}
	return all
}

func TestTheCommentDescribesEveryField(t *testing.T) {
	structs := map[string]reflect.Type{}
	for _, m := range allMessages() {
		structs[m.Type().String()] = reflect.TypeOf(m).Elem()
	}
	for _, v := range []any{Grant{}, Blocker{}, Row{}, Limit{}, Allowance{}, Alteration{}} {
		structs[reflect.TypeOf(v).Name()] = reflect.TypeOf(v)
	}
	for _, l := range specTables(t) {
		s := structs[l.name]
		if s == nil {
			t.Errorf("%s is not a message", l.name)
			continue
		}
		if l.number != "" {
			if typ := messageNamed(t, l.name).Type(); l.number != fmt.Sprintf("0x%02x", uint8(typ)) {
				t.Errorf("%s is said to be %s and is 0x%02x", l.name, l.number, uint8(typ))
			} else if want := cmp.Or(l.version, "1"); want != fmt.Sprint(typ.Version()) {
				t.Errorf("%s is said to be of version %s and is of %d", l.name, want, typ.Version())
			}
		}
		if len(l.fields) != s.NumField() {
			t.Errorf("%s is said to have %d fields and has %d", l.name, len(l.fields), s.NumField())
			continue
		}
		for i, f := range l.fields {
			name, kind := wireName(s.Field(i).Name), specKind(s.Field(i).Type)
			if f[0] != name || !strings.HasPrefix(f[1], kind) && !(kind == "u8" && strings.HasPrefix(f[1], "enum ")) && !(kind == "string" && strings.HasPrefix(f[1], "name ")) {
				t.Errorf("%s, field %d: said to be %q, is %s %s", l.name, i, f, name, kind)
			}
		}
	}
}

// specKind gives the word for a field of that type.
func specKind(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Time]():
		return "time"
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[Rest]():
		return "set 4"
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String:
		return t.Kind().String()
	case reflect.Slice:
		return "list "
	}
	return strings.NewReplacer("uint", "u", "int", "i").Replace(t.Kind().String())
}

func TestThePythonClientHasTheSameTables(t *testing.T) {
	text, err := os.ReadFile(pythonClient)
	if err != nil {
		t.Fatal(err)
	}
	_, spec, _ := strings.Cut(string(text), "SPEC = \"\"\"\n")
	spec, _, _ = strings.Cut(spec, "\"\"\"")
	var want strings.Builder
	for _, l := range specTables(t) {
		fields := make([]string, len(l.fields))
		for i, f := range l.fields {
			fields[i] = f[0] + " " + f[1]
		}
		if l.version != "" {
			l.version = "version " + l.version
		}
		line := strings.TrimSpace(l.name+" "+l.number+" "+l.version) + ": " + strings.Join(fields, ", ")
		want.WriteString(strings.TrimSpace(line) + "\n")
	}
	if spec != want.String() {
		t.Errorf("SPEC of %s:\n%s\nthe package comment says:\n%s", pythonClient, spec, want.String())
	}
}

func TestTheCommentListsEveryCode(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for c := CodeBusy; c < endCode; c++ {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^//\t *%d +%s +12\d`, c, c)).Match(text) {
			t.Errorf("code %d %s is not in the package comment", c, c)
		}
	}
	if s := endCode.String(); s != "unknown" {
		t.Errorf("the code after the last has the word %q", s)
	}
}
