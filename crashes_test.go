package locker_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// broker is the pid of the broker that lockerd has as its child; lockerd's own if it has none. 0: there is none now.
func (d *daemon) broker() int {
	if len(d.cmd.Args) > 1 && d.cmd.Args[1] == "broker" {
		return d.cmd.Process.Pid
	}
	return d.child("broker")
}

// child is the pid of a child of its that plays this part; 0 without one. There are others: a program that is tried for an upgrade.
func (d *daemon) child(part string) int {
	children := childrenOf(d.cmd.Process.Pid)
	i := slices.IndexFunc(children, func(pid int) bool { return plays(pid, part) })
	if i < 0 {
		return 0
	}
	return children[i]
}

// childrenOf gives the children of a process that are alive. proc(5), /proc/PID/stat.
func childrenOf(pid int) []int {
	var children []int
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		// After the last ")": a program's name may hold one.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) && fields[0] != "Z" {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

// slay broker|lockerd|guard|starting [NAME]: kill one of the processes. Of a broker, wait until there is another that is ready, of a
// guard too; of lockerd, until it is gone, and its guard: its broker is left. With starting both are killed, lockerd when the next broker has begun to start.
func scriptSlay(ts *testscript.TestScript, neg bool, args []string) {
	d := stageOf(ts).find(ts, args[1:])
	switch args[0] {
	case "broker":
		old := d.broker()
		if old == 0 {
			ts.Fatalf("there is no broker")
		}
		d.forget()
		ts.Check(syscall.Kill(old, unix.SIGKILL))
		if !d.awaitEvent(brokerReady) {
			ts.Fatalf("no other broker became ready")
		}
		if now := d.broker(); now == 0 || now == old {
			ts.Fatalf("the broker was %d, and is %d", old, now)
		}
	case "starting":
		old := d.broker()
		conn, err := occupyKeeper(old)
		ts.Check(err)
		defer conn.Close()
		ts.Check(syscall.Kill(old, unix.SIGKILL))
		if !eventually(func() bool { now := d.broker(); return now != 0 && now != old }) {
			ts.Fatalf("no other broker is started")
		}
		d.orphan = true
		ts.Check(d.cmd.Process.Kill())
		<-d.exited
	case "lockerd":
		d.slayWithGuard(ts)
	case "guard":
		d.slayGuard(ts)
	default:
		ts.Fatalf("slay broker, lockerd, guard or starting, not %q", args[0])
	}
}

// occupyKeeper is the next broker of a keeper whose broker is given by its pid: as long as it stays, the one after it has to wait.
func occupyKeeper(broker int) (net.Conn, error) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", broker))
	if err != nil {
		return nil, err
	}
	words := strings.Split(string(line), "\x00")
	at := slices.Index(words, "--keeper")
	if at < 0 {
		return nil, fmt.Errorf("no --keeper in %q", words)
	}
	path := words[at+1]
	dir, err := os.Open(filepath.Dir(path)) // an address has room for 107 bytes: unix(7)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return net.Dial("unixpacket", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}

// upgrade [NAME]: send SIGUSR2 and wait until the program that is installed now has taken over, and has a broker of its own, and nothing of
// an upgrade is left to do: what is installed next could be taken by one that has tried what is there now.
func scriptUpgrade(ts *testscript.TestScript, neg bool, args []string) {
	d := stageOf(ts).find(ts, args)
	old := d.broker()
	d.forget()
	// One that comes in the first moments of an upgrade before it is ignored.
	heeded := eventually(func() bool {
		return d.cmd.Process.Signal(unix.SIGUSR2) == nil && d.awaitEventFor("RELOADING=1", 10*time.Second)
	})
	if !heeded || !d.awaitEvent(brokerReady) {
		ts.Fatalf("SIGUSR2 was not heeded")
	}
	if !eventually(d.upgraded) {
		ts.Fatalf("the upgrades do not end")
	}
	if now := d.broker(); now == 0 || now == old {
		ts.Fatalf("the broker was %d, and is %d", old, now)
	}
	d.fds = d.descriptors()
}

// brokerReady is what a broker says when it lets clients in, and not at the end of a reload.
const brokerReady = "READY=1\nSTATUS=serving "

// forget drops the messages that have come until now.
func (d *daemon) forget() {
	for {
		select {
		case <-d.events:
		default:
			return
		}
	}
}

// install NAME PROGRAM: put a program at NAME as a package manager does, in the place of what is there.
func scriptInstall(ts *testscript.TestScript, neg bool, args []string) {
	from, to := args[1], ts.MkAbs(args[0])
	if !strings.Contains(from, "/") {
		for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
			if _, err := os.Stat(filepath.Join(dir, from)); err == nil {
				from = filepath.Join(dir, from)
				break
			}
		}
	}
	text, err := os.ReadFile(ts.MkAbs(from))
	ts.Check(err)
	next := fmt.Sprintf("%s.%d", to, os.Getpid())
	// While it is open for writing no other script starts a process, which would have it open as well until it is executed, and it could
	// not be run: ETXTBSY, execve(2).
	syscall.ForkLock.RLock()
	err = os.WriteFile(next, text, 0o755)
	syscall.ForkLock.RUnlock()
	ts.Check(err)
	ts.Check(os.Chmod(next, 0o755))
	ts.Check(os.Rename(next, to))
}
