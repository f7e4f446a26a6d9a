package main

import (
	"strings"

	"locker/wire"
)

// What a request can hold is checked here first: the words of package wire are for programmers, and to dial, wait and be
// refused takes longer. Lengths in bytes.

// maxTogether bounds all paths of one request, so that they and whatever goes with them fit into one frame.
const maxTogether = wire.MaxFrame - 1024 // bytes

// checkPath refuses an absolute path that cannot be sent.
func checkPath(path string) error {
	switch {
	case strings.Contains(path, "\x00"):
		return &usageError{text: sayNULPath(path)}
	case len(path) > wire.MaxPath:
		return &usageError{text: sayLongPath(path)}
	}
	return nil
}

// checkPaths refuses more paths than one request takes.
func checkPaths(paths []string) error {
	if len(paths) > wire.MaxPaths {
		return &usageError{text: sayManyPaths(len(paths))}
	}
	total := 0
	for _, p := range paths {
		total += len(p) + 2 // the length in front: encoder.str
	}
	if total > maxTogether {
		return &usageError{text: sayLongPaths(total)}
	}
	return nil
}

// checkText refuses the value of a flag that cannot be sent.
func checkText(flag, value string, most int) error {
	switch {
	case strings.Contains(value, "\x00"):
		return &usageError{text: sayNULText(flag)}
	case len(value) > most:
		return &usageError{text: sayLongText(flag, len(value), most)}
	}
	return nil
}
