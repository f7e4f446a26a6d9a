package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestOldCommandLinesAreToldFromNewOnesByTheirFirstArgument(t *testing.T) {
	tests := []struct {
		line string
		old  bool
	}{
		{"-client -lock -path x", true},
		{"--client --lock --path=x", true},
		{"-server -allow x", true},
		{"-lock", true},
		{"--unlock -path x", true},
		{"-lock=true", true},
		{"--path x --lock", true},
		{"-allow a b", true},
		{"-socket s -lock -path x", true},
		{"-socket=s", true},
		{"--socket s -lock -path x", true},
		{"--socket=s --server", true},
		{"--socket s --socket t -client", true},
		{"--socket s lock x", false},
		{"--socket=s list", false},
		{"--socket", false},
		{"--socket s", false},
		{"lock -path x", false},
		{"list --all", false},
		{"-h", false},
		{"--help", false},
		{"--version", false},
		{"-locker", false},
		{"---lock", false},
		{"--", false},
		{"-", false},
		{"-=x", false},
		{"", false},
	}
	for _, tt := range tests {
		if got := isOld(strings.Fields(tt.line)); got != tt.old {
			t.Errorf("locker %s: old = %v, want %v", tt.line, got, tt.old)
		}
	}
}

func TestOldCommandLinesMeanWhatTheyMeant(t *testing.T) {
	tests := []struct {
		line string
		want oldLine
		err  string
	}{
		{"-client -lock -path x", oldLine{client: true, lock: true, path: "x"}, ""},
		{"--client --unlock --path=x=y --socket=s", oldLine{client: true, unlock: true, path: "x=y", socket: "s"}, ""},
		{"-lock -path x", oldLine{lock: true, path: "x"}, ""},
		{"-path -x -lock", oldLine{lock: true, path: "-x"}, ""},
		{"-lock=1 -client=false -unlock=f -path x", oldLine{lock: true, path: "x"}, ""},
		{"-path x -lock -path y", oldLine{lock: true, path: "y"}, ""},
		{"-client -allow a -lock -path x", oldLine{client: true, lock: true, path: "x", allow: []string{"a"}}, ""},
		{"--server --allow a b --allow=c -allow d e -socket s", oldLine{server: true, socket: "s", allow: []string{"a", "b", "c", "d", "e"}}, ""},
		{"--server", oldLine{server: true}, ""},
		{"--server --allow -a", oldLine{server: true, allow: []string{"-a"}}, ""},
		{"-lock -h", oldLine{lock: true, help: true}, ""},
		{"-client -server", oldLine{client: true, server: true}, oldBoth},
		{"-client", oldLine{client: true}, oldNeither},
		{"-lock -unlock -path x", oldLine{lock: true, unlock: true, path: "x"}, oldTwice},
		{"-lock", oldLine{lock: true}, oldNoPath},
		{"-lock -path", oldLine{lock: true}, oldNoValue("path")},
		{"-server -allow", oldLine{server: true}, oldNoValue("allow")},
		{"-lock=maybe", oldLine{}, oldBadBool("lock", "maybe")},
		{"-lock -path x y", oldLine{lock: true, path: "x"}, oldUnknown("y")},
		{"-lock -bogus", oldLine{lock: true}, oldUnknown("-bogus")},
		{"-lock -- -path x", oldLine{lock: true}, oldUnknown("--")},
	}
	for _, tt := range tests {
		got, err := parseOld(strings.Fields(tt.line))
		text := ""
		if err != nil {
			text = err.Error()
		}
		if !reflect.DeepEqual(got, tt.want) || text != tt.err {
			t.Errorf("locker %s: %+v, %q, want %+v, %q", tt.line, got, text, tt.want, tt.err)
		}
	}
}
