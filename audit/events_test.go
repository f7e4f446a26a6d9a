package audit

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// Every event has its place in ParseLine.
func TestEveryEventIsKnown(t *testing.T) {
	for _, e := range allEvents {
		if eventOf([]byte(e)) != e {
			t.Errorf("%s is not known", e)
		}
	}
	for _, e := range []string{"", "Grant", "grant ", "granted"} {
		line := AppendLine(nil, &Record{Event: Event(e)})
		if _, err := ParseLine(line); err == nil {
			t.Errorf("%s parses", line)
		}
	}
}

// A new event is tried by all these tests, and has its place in the package comment.
func TestNoEventIsForgotten(t *testing.T) {
	text, err := os.ReadFile("record.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\tEvent\w+ +Event = "([a-z-]+)"`).FindAllSubmatch(text, -1)
	if len(found) != len(allEvents) {
		t.Errorf("record.go has %d events, and %d are tried", len(found), len(allEvents))
	}
	for _, m := range found {
		if e := Event(m[1]); !slices.Contains(allEvents, e) {
			t.Errorf("%s is not tried", e)
		}
		if !regexp.MustCompile(`(?m)^//\t([a-z-]+, )*` + string(m[1]) + `(, [a-z-]+)* `).Match(doc) {
			t.Errorf("doc.go does not say what %s is", m[1])
		}
	}
}

var allEvents = []Event{EventStart, EventStop, EventPolicy, EventPolicyRefused, EventConnectRefused, EventGrant, EventDeny, EventWait,
	EventTimeout, EventCancel, EventRelease, EventExpire, EventBreak, EventDeath, EventResume, EventLost, EventCleared, EventGap,
	EventRecovered, EventSuppressed, EventAltered, EventKeeper, EventGuard, EventRotate, EventCheckpoint, EventHeld}
