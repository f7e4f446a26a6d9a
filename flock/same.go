package flock

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Same looks again: does f.Target still lead to the file that f has open? To be asked after TryLock: before it the answer
// can be out of date. false without an error means that the path leads elsewhere, nowhere, or where nothing is opened;
// an error means that it could not be found out.
//
// The kernel says under which name a descriptor's file is known now, in one call; only when that is not f.Target as it was
// opened the path is walked again.
//
// Privileged: as Open; nothing is opened for real.
func (o *Opener) Same(f *File) (bool, error) {
	if r, _ := o.rootOf(f.Target); r != nil && !f.Network && !f.mount.elsewhere && f.namedAs(f.Target) {
		return true, nil
	}
	return o.LeadsTo(f.Target, f.ID)
}

// namedAs reports whether target is, for certain, the present name of the open file. A renamed file, or one below a renamed
// directory, has another name by now, and that of a deleted one ends in deletedName; a target that ends so proves nothing.
// What it cannot see is a mount that root has put over the path since. proc_pid_fd(5)
//
// Privileged: an attacker chooses names; equal bytes mean that this directory entry is the one that target leads to.
func (f *File) namedAs(target string) bool {
	if strings.HasSuffix(target, deletedName) {
		return false
	}
	dir, err := procSelfFD()
	if err != nil {
		return false
	}
	var name [1024]byte // a longer one takes the long way
	n, err := unix.Readlinkat(dir, strconv.Itoa(f.fd), name[:])
	return err == nil && n < len(name) && string(name[:n]) == target
}

// LeadsTo is Lookout.LeadsTo of one path.
//
// Privileged: as there.
func (o *Opener) LeadsTo(target string, id ID) (bool, error) {
	l := o.Lookout()
	defer l.Close()
	return l.LeadsTo(target, id)
}
