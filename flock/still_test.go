package flock

import (
	"slices"
	"testing"
)

func TestALockThatIsGoneBeforeItsHolderIsFoundIsNobodys(t *testing.T) {
	ofd, shared := lockLine{kind: "OFDLCK", mode: Exclusive, pid: -1, ino: 7}, lockLine{kind: "OFDLCK", mode: Shared, pid: -1, ino: 7}
	for _, tt := range []struct {
		name                    string
		left, before, now, want []lockLine
	}{
		{"it is gone", []lockLine{ofd}, []lockLine{ofd}, nil, nil},
		{"it is there", []lockLine{ofd}, []lockLine{ofd}, []lockLine{ofd}, []lockLine{ofd}},
		{"another has come", []lockLine{ofd}, []lockLine{ofd}, []lockLine{shared}, nil},
		{"only his is left who was found", []lockLine{shared}, []lockLine{shared, shared}, []lockLine{shared}, nil},
		{"his and one more", []lockLine{shared}, []lockLine{shared, shared}, []lockLine{shared, shared}, []lockLine{shared}},
		{"one of two is gone", []lockLine{shared, shared}, []lockLine{shared, shared}, []lockLine{shared}, []lockLine{shared}},
	} {
		if got := stillThere(tt.left, tt.before, tt.now); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
