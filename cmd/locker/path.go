package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"locker/client"
)

// absolute makes a path absolute and clean, without looking at symbolic links: which file it leads to is lockerd's to
// find out. The directory is the kernel's word, not $PWD, which may lead through a link. getcwd(2).
func absolute(path string) (string, error) {
	if path == "" {
		return "", &usageError{text: wordsEmptyPath}
	}
	full := path
	if !filepath.IsAbs(path) {
		buf := make([]byte, 4096)
		n, err := syscall.Getcwd(buf)
		if err != nil {
			return "", &os.PathError{Op: "getcwd", Path: ".", Err: err}
		}
		dir := string(buf[:n-1]) // without its NUL
		if !filepath.IsAbs(dir) {
			return "", &usageError{text: wordsNoDirectory} // "(unreachable)/…": it was unmounted, or lies outside our root
		}
		full = dir + "/" + path
	}
	clean := filepath.Clean(full)
	// "link/.." is not where the link lies but above what it leads to: do not lock one file and mean another.
	if slices.Contains(strings.Split(path, "/"), "..") {
		meant, errMeant := os.Stat(full)
		is, errIs := os.Stat(clean)
		if errMeant == nil && (errIs != nil || !os.SameFile(meant, is)) {
			return "", &usageError{text: sayDotDot(path)}
		}
	}
	return clean, checkPath(clean)
}

// absolutes is absolute for the several of one request.
func absolutes(paths []string) ([]string, error) {
	all := make([]string, len(paths))
	for i, p := range paths {
		var err error
		if all[i], err = absolute(p); err != nil {
			return nil, err
		}
	}
	return all, checkPaths(all)
}

// linkHints says which of paths lead through symbolic links, when that may be why lockerd refused them: it follows
// none. We look with our own rights only, at what the user can see himself.
func linkHints(err error, paths []string) []string {
	switch client.CodeOf(err) {
	case client.CodeDenied, client.CodeUnsupported, client.CodeNotFound:
	default:
		return nil
	}
	var hints []string
	for _, p := range paths {
		if real, err := filepath.EvalSymlinks(p); err == nil && real != p {
			hints = append(hints, hintLink(p, real))
		}
	}
	return hints
}

// hinted is an error with hints of its own.
type hinted struct {
	error
	hints []string
}

func (h *hinted) Unwrap() error { return h.error }
