package guard

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// setDeny takes the list of who is refused.
func (b *session) setDeny(paths []string) (code, string) {
	if b.judge != nil {
		return codeOrder, "the programs to refuse were named before"
	}
	if err := Available(); err != nil {
		return codeUnavailable, reasonOf(err)
	}
	b.judge = newJudge(paths)
	return codeOK, ""
}

// guard guards directories, whose descriptors are ours from here on. All or none.
func (b *session) guard(id uint64, fds []int) (code, string) {
	places, c, why := b.check(id, fds)
	if c == codeOK && b.group == nil {
		if err := b.open(); err != nil {
			c, why = codeUnavailable, err.Error()
		}
	}
	if c != codeOK {
		closeAll(fds)
		return c, why
	}
	for i, fd := range fds {
		if b.held.dirs[places[i]] == nil {
			if err := b.group.mark(fd); err != nil {
				closeAll(fds[i:])
				b.lift(id)
				return codeOfMark(err), err.Error()
			}
		}
		b.held.add(id, places[i], fd)
	}
	return codeOK, ""
}

// check looks whether they can be guarded, and which directories they are.
func (b *session) check(id uint64, fds []int) ([]place, code, string) {
	switch {
	case b.judge == nil:
		return nil, codeOrder, "the programs to refuse have not been named"
	case b.held.ids[id] != nil:
		return nil, codeHeld, "this id is guarded already"
	case len(b.held.dirs)+len(fds) > room():
		return nil, codeRoom, fmt.Sprintf("%d directories are guarded, and RLIMIT_NOFILE allows %d", len(b.held.dirs), room())
	}
	var places []place
	for _, fd := range fds {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return nil, codeUnfit, err.Error()
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil, codeUnfit, "not a directory"
		}
		if why := mayHang(fd); why != "" {
			return nil, codeUnfit, why
		}
		places = append(places, placeOf(&st))
	}
	return places, codeOK, ""
}

// reserve is what there must be descriptors for, beside the directories: sockets and the runtime's own, those of two messages
// that are not taken yet, and above all the file of an event, without which the kernel refuses whoever opens it.
const reserve = 64

// room is how many directories there may be.
func room() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Cur, 1<<30)) - reserve
}

// mayHang names the file systems where the kernel asks somebody before it opens a file. It opens the file of each event for us,
// so that who does not answer would stop us, and beyond SIGKILL.
func mayHang(fd int) string {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return err.Error()
	}
	switch uint32(fs.Type) {
	case unix.FUSE_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC,
		unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC, unix.CODA_SUPER_MAGIC, unix.V9FS_MAGIC:
		return fmt.Sprintf("a network or FUSE file system (type %#x), which may hang", uint32(fs.Type))
	}
	return ""
}

// codeOfMark tells a descriptor that is wrong from a kernel that will not.
func codeOfMark(err error) code {
	if errors.Is(err, unix.EBADF) || errors.Is(err, unix.ENOTDIR) { // EBADF: of O_PATH. open(2)
		return codeUnfit
	}
	return codeUnavailable
}

// lift lets go of an id; of one that is not there, too.
func (b *session) lift(id uint64) {
	free := b.held.remove(id)
	if b.group != nil && len(b.held.ids) == 0 {
		b.close() // and so, while nothing is held, nothing of ours is in anybody's way
	}
	var failed error
	for _, d := range free {
		if b.group != nil && failed == nil {
			failed = b.group.unmark(d.fd)
		}
		unix.Close(d.fd)
	}
	if failed != nil {
		b.failOpen(failed) // the new group has no such mark
	}
}

// letGo lets go of everything.
func (b *session) letGo() {
	b.close()
	for id := range b.held.ids {
		for _, d := range b.held.remove(id) {
			unix.Close(d.fd)
		}
	}
}

// open opens a group, watched from before it could be in anybody's way.
func (b *session) open() error {
	err := b.dead.beat()
	if err == nil {
		b.group, err = openGroup(b.answer)
	}
	if err != nil {
		b.group = nil
		b.mayDie(b.dead.rest())
	}
	return err
}

// close closes the group, if there is one: whoever waits may pass, and no mark is left.
func (b *session) close() {
	g := b.group
	if g == nil {
		return
	}
	b.group = nil
	closed, joined := g.close(b.s.patience / closeIn)
	switch {
	case !closed:
		b.mayDie(errors.New("the kernel does not let go of the events"))
	case !joined:
		b.s.warn("the reader of events hangs, and is left behind; nobody waits for it")
	}
	b.mayDie(b.dead.rest())
}

// mayDie is for errors with which openers might wait for ever: then we die, and the kernel lets them pass.
func (b *session) mayDie(err error) {
	if err == nil {
		return
	}
	b.send(&message{kind: kindFailedOpen, text: cut(err.Error())})
	b.over = true
	if !b.s.spared {
		unix.Kill(unix.Getpid(), unix.SIGKILL) // does not return
	}
}

// failOpen lets everybody pass at once, and then guards again what was guarded.
func (b *session) failOpen(why error) {
	b.close()
	b.s.warn("everybody was let in", "reason", why)
	m := message{kind: kindFailedOpen, set: isGuarded, text: cut(why.Error())}
	if err := b.reopen(); err != nil {
		m.set, m.text = 0, cut(why.Error()+"; not guarded again: "+err.Error())
	}
	b.send(&m)
	b.over = b.over || m.set != isGuarded
}

// reopen guards everything again.
func (b *session) reopen() error {
	now := time.Now()
	b.failures = append(b.failures, now)
	if n := len(b.failures); n > maxFailures {
		if now.Sub(b.failures[n-1-maxFailures]) < failureWindow {
			return errors.New("it has failed too often")
		}
		b.failures = b.failures[n-maxFailures:]
	}
	if len(b.held.ids) == 0 {
		return nil
	}
	if err := b.open(); err != nil {
		return err
	}
	for _, d := range b.held.dirs {
		if err := b.group.mark(d.fd); err != nil {
			return err // the session ends, and closes the group
		}
	}
	return nil
}
