package main

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestStatIsReadWhateverTheCommandIsCalled(t *testing.T) {
	tests := []struct {
		text string
		want process
		ok   bool
	}{
		{"12 (sh) S 1 12 11 34816 12 4194304", process{pid: 12, parent: 1, group: 12, session: 11}, true},
		{"12 (a) R 9 9 9 (x) Z 1 2 3 0 -1", process{pid: 12, parent: 1, group: 2, session: 3, dead: true}, true},
		{"12 (new\nline) X 1 2 3 0", process{pid: 12, parent: 1, group: 2, session: 3, dead: true}, true},
		{"12 sh S 1 12 11", process{}, false},
		{"12 (sh) S 1", process{}, false},
		{"(sh) S 1 2 3", process{}, false},
		{"", process{}, false},
	}
	for _, tt := range tests {
		got, err := parseStat([]byte(tt.text))
		if (err == nil) != tt.ok || tt.ok && got != tt.want {
			t.Errorf("parseStat(%q) = %+v, %v, want %+v", tt.text, got, err, tt.want)
		}
	}
}

func TestProcessesKnowOurselves(t *testing.T) {
	all, err := processes()
	if err != nil {
		t.Fatal(err)
	}
	session, _ := unix.Getsid(0)
	want := process{pid: os.Getpid(), parent: os.Getppid(), group: unix.Getpgrp(), session: session}
	if got := all[os.Getpid()]; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDescentIsFollowedAndNeverInCircles(t *testing.T) {
	all := map[int]process{
		1: {pid: 1}, 5: {pid: 5, parent: 1}, 6: {pid: 6, parent: 5}, 7: {pid: 7, parent: 6}, 8: {pid: 8, parent: 1},
		20: {pid: 20, parent: 21}, 21: {pid: 21, parent: 20}, 30: {pid: 30, parent: 99},
	}
	for pid, want := range map[int]bool{5: false, 6: true, 7: true, 8: false, 1: false, 20: false, 30: false, 404: false} {
		if got := descends(all, pid, 5); got != want {
			t.Errorf("descends(%d, 5) = %v, want %v", pid, got, want)
		}
	}
}
