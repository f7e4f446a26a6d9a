package authz

import (
	"fmt"
	"path"
	"strings"
)

// CheckPlaces returns an error when one of the whitelist's entries may not be one
// because of where it lies: in a file system of the kernel's, inside or above the
// state directory, or where it covers the socket. Parse does so with the [server] of
// its file; whoever lets flags override that calls it again.
func CheckPlaces(allow []string, socket, stateDir string) error {
	for _, entry := range allow {
		if err := checkPlace(entry, socket, stateDir); err != nil {
			return fmt.Errorf("allow: %w", err)
		}
	}
	return nil
}

func checkPlace(entry, socket, stateDir string) error {
	if err := checkRoot(entry); err != nil {
		return err
	}
	plain := unalias(entry)
	socket = unalias(socket)
	if dir := path.Dir(socket); within(dir, plain) {
		return fmt.Errorf("%q holds the socket's directory %q", entry, dir)
	}
	if within(plain, socket) || strings.HasPrefix(plain, socket+".") { // beside it: the file that says who owns its name
		return fmt.Errorf("%q is the socket %q or a file of lockerd's beside it", entry, socket)
	}
	if dir := unalias(stateDir); overlap(plain, dir) {
		return fmt.Errorf("%q holds or lies in the state directory %q", entry, dir)
	}
	return nil
}

// checkRoot refuses what is never a place for users' files. Locks on device nodes
// and files of the kernel have side effects or exclude everybody from something.
func checkRoot(entry string) error {
	plain := unalias(entry)
	if plain == "/" || plain == "/run" {
		return errPlaceRoot(entry)
	}
	for _, root := range []string{"/proc", "/sys", "/dev"} {
		if within(plain, root) {
			return errPlaceRoot(entry)
		}
	}
	return nil
}

func errPlaceRoot(entry string) error {
	return fmt.Errorf("%q may not be in the whitelist", entry)
}

func overlap(a, b string) bool { return within(a, b) || within(b, a) }

// unalias gives the name that a path below /var/run has today: everywhere /var/run
// is a symlink to /run. Other symlinks are the opener's to refuse.
func unalias(p string) string {
	if within(p, "/var/run") {
		return "/run" + strings.TrimPrefix(p, "/var/run")
	}
	return p
}
