package main

import (
	"errors"
	"strings"
	"testing"

	"locker/wire"
)

// What passes the checks can be sent, in the largest request that they allow.
func TestLimitsAreCheckedBeforeAnythingIsSent(t *testing.T) {
	fill := func(n int, s string) []string {
		var all []string
		for range n {
			all = append(all, s)
		}
		return all
	}
	x := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct {
		err  error
		want string // "" for none
	}{
		{checkPath("/" + x(4094)), ""},
		{checkPath("/" + x(4095)), "/" + x(56) + "...: the path is 4,096 bytes long, 4,095 is the most"},
		{checkPath("/a\x00b"), `"/a\x00b": a path cannot hold a NUL byte`},
		{checkPaths(fill(64, "/a")), ""},
		{checkPaths(fill(65, "/a")), "65 files are given, 64 at once is the most"},
		{checkPaths(fill(64, "/"+x(1005))), ""},
		{checkPaths(fill(64, "/"+x(1006))), "all paths together are 64,576 bytes long, 64,512 at once is the most"},
		{checkText("reason", x(256), 256), ""},
		{checkText("reason", x(257), 256), "--reason is 257 bytes long, 256 is the most"},
		{checkText("tag", "a\x00", 64), "--tag cannot hold a NUL byte"},
	}
	for _, tt := range tests {
		var usage *usageError
		if tt.want == "" && tt.err == nil || errors.As(tt.err, &usage) && usage.text == tt.want {
			continue
		}
		t.Errorf("%v, want %q", tt.err, tt.want)
	}
	_, err := wire.Append(nil, 1, &wire.Lock{
		Mode: wire.Exclusive, Wait: wire.Block, Life: wire.Detached, Tag: x(wire.MaxTag), Reason: x(wire.MaxReason), Paths: fill(64, "/"+x(1005)),
	})
	if err != nil {
		t.Errorf("the largest request: %v", err)
	}
}
