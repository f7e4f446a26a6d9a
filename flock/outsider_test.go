package flock

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// outsiderEnv makes the test binary one of the programs that locker is not: smbd, afpd, flock(1).
const outsiderEnv = "LOCKER_TEST_OUTSIDER"

// outsider is a process that opens and locks on command, and answers each with one line.
type outsider struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func newOutsider(t testing.TB) *outsider { return newOutsiderAs(t, -1) }

// newOutsiderAs starts it as another user; -1 is ours.
func newOutsiderAs(t testing.TB, uid int) *outsider {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")                                        // whatever the modes of the directories that the test binary is in
	cmd.Env = append(os.Environ(), outsiderEnv+"=1", "GORACE=atexit_sleep_ms=0") // under -race each exit takes a second
	cmd.Stderr = os.Stderr
	cmd.Dir = "/"
	if uid >= 0 {
		cmd.SysProcAttr = asUser(uid)
	}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	p := &outsider{t, cmd, in, bufio.NewReader(out)}
	t.Cleanup(p.end)
	return p
}

func (p *outsider) pid() int { return p.cmd.Process.Pid }

func (p *outsider) end() {
	p.in.Close()
	p.cmd.Wait()
}

// ask returns the answer: "ok", "busy", or an error.
func (p *outsider) ask(words ...string) string {
	p.t.Helper()
	_, err := fmt.Fprintln(p.in, strings.Join(words, " "))
	must(p.t, err)
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("outsider %q: %v", words, err)
	}
	return strings.TrimSuffix(line, "\n")
}

func (p *outsider) does(words ...string) {
	p.t.Helper()
	if got := p.ask(words...); got != "ok" {
		p.t.Fatalf("outsider %q: %s", words, got)
	}
}

// tries opens the file, tries the lock and closes.
func (p *outsider) tries(path, engine string, m Mode) string {
	p.t.Helper()
	p.does("open", "rw", path)
	answer := p.ask(engine, m.String())
	p.does("close")
	return answer
}

// outsiderMain is the other end. Paths have no spaces in these tests.
func outsiderMain() {
	fd := -1
	var mapped []byte
	var listener net.Listener
	var conns []net.Conn
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		words := strings.Fields(in.Text())
		var err error
		switch words[0] {
		case "open":
			flags := map[string]int{"rw": unix.O_RDWR, "ro": unix.O_RDONLY, "wo": unix.O_WRONLY, "path": unix.O_PATH, "dir": unix.O_DIRECTORY}[words[1]]
			fd, err = unix.Open(words[2], flags|unix.O_CLOEXEC, 0)
		case "close":
			err = unix.Close(fd)
		case "stamp-and-close": // answers with the time before: CLOCK_MONOTONIC is the machine's
			var now unix.Timespec
			if err = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err == nil {
				if err = unix.Close(fd); err == nil {
					fmt.Println(now.Nano())
					continue
				}
			}
		case "flock":
			err = tryEngine(fd, BSD, modeOf(words[1]))
		case "ofd":
			err = tryEngine(fd, OFD, modeOf(words[1]))
		case "posix":
			lock := unix.Flock_t{Type: unix.F_RDLCK}
			if modeOf(words[1]) == Exclusive {
				lock.Type = unix.F_WRLCK
			}
			err = unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &lock)
		case "ranges":
			for at := int64(0); at < 10_000 && err == nil; at += 2 {
				err = unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: at, Len: 1})
			}
		case "map": // and close: the mapping keeps the description
			if mapped, err = unix.Mmap(fd, 0, 1, unix.PROT_READ, unix.MAP_SHARED); err == nil {
				err = unix.Close(fd)
			}
		case "unmap":
			err = unix.Munmap(mapped)
		case "open-often": // waits out every lease that is in its way, as open(2) does
			for n, _ := strconv.Atoi(words[1]); n > 0 && err == nil; n-- {
				if fd, err = unix.Open(words[2], unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
					err = unix.Close(fd)
				}
			}
		case "lease":
			_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK)
		case "unlease":
			_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
		case "unflock":
			err = unix.Flock(fd, unix.LOCK_UN)
		case "unofd":
			err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
		case "name": // of all threads: /proc/PID/comm is the first one's
			var name []byte
			if name, err = hex.DecodeString(words[1]); err == nil {
				err = os.WriteFile("/proc/self/comm", name, 0)
			}
		case "flock-by-child": // as flock(1) on an inherited descriptor: the taker ends, the lock stays
			child := exec.Command("/proc/self/exe")
			child.Env = os.Environ()
			copied, _ := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
			file := os.NewFile(uintptr(copied), "")
			child.ExtraFiles = []*os.File{file}
			child.Stdin = strings.NewReader("adopt\nflock " + words[1] + "\n")
			var out []byte
			if out, err = child.Output(); err == nil && string(out) != "ok\nok\n" {
				err = fmt.Errorf("child: %q", out)
			}
			file.Close()
		case "listen": // answers with the address
			if listener, err = net.Listen("tcp", words[1]); err == nil {
				fmt.Println(listener.Addr())
				continue
			}
		case "accept":
			var conn net.Conn
			if conn, err = listener.Accept(); err == nil {
				conns = append(conns, conn)
			}
		case "dial":
			var conn net.Conn
			if conn, err = net.Dial("tcp", words[1]); err == nil {
				conns = append(conns, conn)
			}
		case "hang-up":
			for _, conn := range conns {
				err = conn.Close()
			}
			conns = nil
		case "adopt":
			fd = 3
		default:
			err = fmt.Errorf("unknown command")
		}
		switch err {
		case nil:
			fmt.Println("ok")
		case unix.EAGAIN, unix.EACCES:
			fmt.Println("busy")
		default:
			fmt.Println("error:", err)
		}
	}
}

func modeOf(s string) Mode {
	if s == Shared.String() {
		return Shared
	}
	return Exclusive
}

// stamp asks for stamp-and-close and returns the time of it.
func (p *outsider) stampAndClose() time.Duration {
	p.t.Helper()
	ns, err := strconv.ParseInt(p.ask("stamp-and-close"), 10, 64)
	must(p.t, err)
	return time.Duration(ns)
}

func monotonic(t testing.TB) time.Duration {
	var now unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	return time.Duration(now.Nano())
}

func asUser(uid int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
}
