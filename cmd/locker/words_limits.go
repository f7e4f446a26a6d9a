package main

import (
	"strconv"
	"strings"

	"locker/wire"
)

// The words about what is too much for one request: the rest of words.go.

func sayLongPath(path string) string {
	return shownStart(path) + ": the path is " + thousands(len(path)) + " bytes long, " + thousands(wire.MaxPath) + " is the most"
}
func sayNULPath(path string) string { return shownStart(path) + ": a path cannot hold a NUL byte" }
func sayManyPaths(n int) string {
	return thousands(n) + " files are given, " + thousands(wire.MaxPaths) + " at once is the most"
}
func sayLongPaths(n int) string {
	return "all paths together are " + thousands(n) + " bytes long, " + thousands(maxTogether) + " at once is the most"
}
func sayLongText(flag string, n, most int) string {
	return "--" + flag + " is " + thousands(n) + " bytes long, " + thousands(most) + " is the most"
}
func sayNULText(flag string) string { return "--" + flag + " cannot hold a NUL byte" }
func sayManyWords(flag string, n, most int) string {
	return "--" + flag + " has " + thousands(n) + " names, " + thousands(most) + " is the most"
}

// shownStart shows enough of a path that is too long to know which it is.
func shownStart(path string) string {
	const most = 60 // bytes
	return shown(strings.ToValidUTF8(wire.Clip(path, most), "?"))
}

// thousands writes 4095 as 4,095.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
