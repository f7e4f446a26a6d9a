package locker_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// stage is what one script has.
type stage struct {
	dir     string // of sockets
	names   []string
	daemons map[string]*daemon
}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value("stage").(*stage) }

// clear ends what the script has left running.
func (s *stage) clear() {
	for _, d := range s.daemons {
		d.kill()
	}
	os.RemoveAll(s.dir)
}

// environment gives the script's environment, for what testscript does not start itself.
func (s *stage) environment(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range s.names {
		env = append(env, name+"="+ts.Getenv(name))
	}
	return env
}

// daemon is a running lockerd.
type daemon struct {
	cmd    *exec.Cmd
	notify *net.UnixConn // NOTIFY_SOCKET: sd_notify(3)
	events chan string   // what came over it; closed at the end
	exited chan struct{}
	log    string   // what it prints
	socket string   // as READY says
	passed bool     // the socket is the service manager's
	orphan bool     // it was killed, and its broker left
	fds    []string // of its broker, when it became ready
	work   sync.WaitGroup
}

// start [-name NAME] COMMAND [ARG...]: start a lockerd, and go on when it says that it is ready. What it prints goes to NAME.log
// (lockerd.log without -name); $LOCKERD is its pid.
func scriptStart(ts *testscript.TestScript, neg bool, args []string) {
	s, name := stageOf(ts), "lockerd"
	if args[0] == "-name" {
		name, args = args[1], args[2:]
	}
	if old := s.daemons[name]; old != nil && !old.gone() {
		ts.Fatalf("%s runs already", name)
	}
	d, err := s.launch(ts, name, args)
	ts.Check(err)
	s.daemons[name] = d
	if !d.awaitEvent("READY=1") {
		ts.Fatalf("%v did not become ready: %s", args, ts.ReadFile(name+".log"))
	}
	if neg {
		ts.Fatalf("%v started", args)
	}
	d.fds = d.descriptors()
	ts.Setenv("LOCKERD", strconv.Itoa(d.cmd.Process.Pid))
}

func (s *stage) launch(ts *testscript.TestScript, name string, argv []string) (*daemon, error) {
	d := &daemon{events: make(chan string, 64), exited: make(chan struct{}), log: ts.MkAbs(name + ".log"), passed: argv[0] == "activate"}
	address := filepath.Join(s.dir, "n-"+name)
	os.Remove(address)
	var err error
	if d.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"}); err != nil {
		return nil, err
	}
	os.Chmod(address, 0o777) // lockerd may run as somebody else
	log, err := os.OpenFile(d.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	path := argv[0]
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, argv[0])); err == nil {
			path = filepath.Join(dir, argv[0])
			break
		}
	}
	d.cmd = &exec.Cmd{
		Path: path, Args: argv, Dir: ts.MkAbs("."), Env: append(s.environment(ts), "NOTIFY_SOCKET="+address), Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if err := d.cmd.Start(); err != nil {
		d.notify.Close()
		return nil, err
	}
	d.work.Go(func() { // ends when kill closes notify
		defer close(d.events)
		buf := make([]byte, 4096)
		for {
			n, err := d.notify.Read(buf)
			if err != nil {
				return
			}
			select {
			case d.events <- string(buf[:n]):
			default: // a script that does not look at 64 of them does not want to know
			}
		}
	})
	d.work.Go(func() {
		d.cmd.Wait()
		close(d.exited)
	})
	return d, nil
}

// awaitEvent waits for a message that begins with this; false when the process has ended.
func (d *daemon) awaitEvent(prefix string) bool { return d.awaitEventFor(prefix, patience) }

func (d *daemon) awaitEventFor(prefix string, limit time.Duration) bool {
	late := time.After(limit)
	for {
		select {
		case event := <-d.events:
			if strings.HasPrefix(event, prefix) {
				if _, status, ok := strings.Cut(event, "STATUS=serving "); ok {
					d.socket = status
				}
				return true
			}
		case <-d.exited:
			return false
		case <-late:
			return false
		}
	}
}

func (d *daemon) gone() bool {
	select {
	case <-d.exited:
		return true
	default:
		return false
	}
}

// kill ends lockerd and its broker, which is of its process group.
func (d *daemon) kill() {
	if !d.gone() || d.orphan {
		syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		<-d.exited
	}
	d.notify.Close()
	d.work.Wait()
}

// find gives the daemon that args name.
func (s *stage) find(ts *testscript.TestScript, args []string) *daemon {
	name := "lockerd"
	if len(args) > 0 {
		name = args[0]
	}
	d := s.daemons[name]
	if d == nil {
		ts.Fatalf("%s was never started", name)
	}
	return d
}

// end [-all] [-SIGNAL] [NAME]: end a lockerd (with TERM), which exits with 0 (with ! not) and leaves neither processes nor a
// socket. With -all the signal goes to its broker too, as a terminal's does; KILL always does.
func scriptEnd(ts *testscript.TestScript, neg bool, args []string) {
	sig, all := unix.SIGTERM, false
	if len(args) > 0 && args[0] == "-all" {
		all, args = true, args[1:]
	}
	if len(args) > 0 && strings.HasPrefix(args[0], "-") {
		sig, args = unix.SignalNum("SIG"+args[0][1:]), args[1:]
	}
	d := stageOf(ts).find(ts, args)
	guard := d.guard()
	if all || sig == unix.SIGKILL {
		syscall.Kill(-d.cmd.Process.Pid, sig)
	} else {
		d.cmd.Process.Signal(sig)
	}
	select {
	case <-d.exited:
	case <-time.After(patience):
		ts.Fatalf("it still runs %v after %v", patience, sig)
	}
	if code := d.cmd.ProcessState.ExitCode(); (code != 0) != neg {
		ts.Fatalf("exit code %d after %v: %v", code, sig, d.cmd.ProcessState)
	}
	if d.left(sig == unix.SIGKILL || guard != 0) { // those of a killed one end at the same time, not before it
		ts.Fatalf("processes of it are left")
	}
	for _, name := range []string{d.socket, d.socket + ".new"} {
		if _, err := os.Lstat(name); err == nil && !d.passed && sig != unix.SIGKILL {
			ts.Fatalf("%s is left", name)
		}
	}
	d.kill()
}

// reload [NAME]: send SIGHUP and wait until it has been heeded, whatever came of it.
func scriptReload(ts *testscript.TestScript, neg bool, args []string) {
	d := stageOf(ts).find(ts, args)
	ts.Check(d.cmd.Process.Signal(unix.SIGHUP))
	if !d.awaitEvent("RELOADING=1") || !d.awaitEvent("READY=1") {
		ts.Fatalf("SIGHUP was not heeded")
	}
}

// settled [NAME]: wait until its broker has no other kinds of descriptors than when it became ready, and no connection more.
func scriptSettled(ts *testscript.TestScript, neg bool, args []string) {
	d := stageOf(ts).find(ts, args)
	var now []string
	settled := func() bool {
		now = d.descriptors()
		more := func(kind string) bool { return !slices.Contains(d.fds, kind) }
		return !slices.ContainsFunc(now, more) && count(now, "socket") <= count(d.fds, "socket")
	}
	if !eventually(settled) {
		ts.Fatalf("descriptors:\n now %v\nthen %v", now, d.fds)
	}
}

// descriptors says what kinds of descriptors the broker has. Those of the log are left out, since it rotates.
func (d *daemon) descriptors() []string {
	dir := fmt.Sprintf("/proc/%d/fd", d.broker())
	entries, _ := os.ReadDir(dir)
	var kinds []string
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil || strings.Contains(target, "/audit/") {
			continue
		}
		if kind, _, ok := strings.Cut(target, ":["); ok && !strings.HasPrefix(target, "anon_inode") {
			target = kind
		}
		kinds = append(kinds, strings.Replace(target, fmt.Sprintf("/proc/%d/", d.broker()), "/proc/self/", 1))
	}
	slices.Sort(kinds)
	return kinds
}

func count(kinds []string, kind string) (n int) {
	for _, k := range kinds {
		if k == kind {
			n++
		}
	}
	return n
}

// eventually polls until is gives true, and reports whether it ever did.
func eventually(is func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			return false
		}
	}
	return true
}
