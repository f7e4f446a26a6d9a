package locker_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// Commands of the scripts about faults: what happens while no broker runs, and what a process may use.

// faultCommands are beside those of commands_test.go.
func faultCommands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"freeze": scriptFreeze, "thaw": scriptThaw, "limit": scriptLimit, "calm": scriptCalm, "damage": scriptDamage,
	}
}

// freeze [NAME]: stop lockerd so that it starts no other broker, and kill its broker.
func scriptFreeze(ts *testscript.TestScript, neg bool, args []string) {
	d := stageOf(ts).find(ts, args)
	broker := d.broker()
	if broker == 0 || broker == d.cmd.Process.Pid {
		ts.Fatalf("there is no broker beside the keeper")
	}
	d.forget()
	ts.Check(d.cmd.Process.Signal(unix.SIGSTOP))
	if !eventually(func() bool { return processState(d.cmd.Process.Pid) == "T" }) {
		ts.Fatalf("lockerd does not stop")
	}
	ts.Check(syscall.Kill(broker, unix.SIGKILL))
	if !eventually(func() bool { return d.broker() == 0 }) {
		ts.Fatalf("the broker does not end")
	}
}

// thaw [NAME]: let lockerd go on, until another broker is ready.
func scriptThaw(ts *testscript.TestScript, neg bool, args []string) {
	d := stageOf(ts).find(ts, args)
	ts.Check(d.cmd.Process.Signal(unix.SIGCONT))
	if !d.awaitEvent("READY=1") {
		ts.Fatalf("no other broker became ready")
	}
}

// processState is the letter of proc_pid_stat(5), "" if there is no such process.
func processState(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))[0]
}

// calm COMMAND...: run a command that takes a second or longer, during which neither process of lockerd is busy.
func scriptCalm(ts *testscript.TestScript, neg bool, args []string) {
	d := stageOf(ts).find(ts, nil)
	pids := append(childrenOf(d.cmd.Process.Pid), d.cmd.Process.Pid)
	used := func() (ticks int) {
		for _, pid := range pids {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			ts.Check(err)
			fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // state is the first
			for _, f := range fields[11:13] {
				n, err := strconv.Atoi(f)
				ts.Check(err)
				ticks += n
			}
		}
		return ticks
	}
	before, began := used(), time.Now()
	err := ts.Exec(args[0], args[1:]...)
	if (err != nil) != neg {
		ts.Fatalf("%v: %v", args, err)
	}
	// A hundredth of a second each (USER_HZ, time(7)). Whoever spins takes all there are. Where the command takes longer, so does what
	// it asks of lockerd.
	took := int(time.Since(began).Milliseconds() / 10)
	if n := used() - before; n > max(30, took/4) {
		ts.Fatalf("lockerd took %d hundredths of a second, of %d", n, took)
	}
}

// damage DIR TEXT: change a byte of TEXT where it stands last in the newest segment in DIR.
func scriptDamage(ts *testscript.TestScript, neg bool, args []string) {
	names, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "seg-*.jsonl"))
	ts.Check(err)
	if len(names) == 0 {
		ts.Fatalf("no segments in %s", args[0])
	}
	file := names[len(names)-1] // Glob sorts
	text, err := os.ReadFile(file)
	ts.Check(err)
	at := bytes.LastIndex(text, []byte(args[1]))
	if at < 0 {
		ts.Fatalf("%s has no %q", file, args[1])
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	ts.Check(err)
	_, err = f.WriteAt([]byte{text[at] ^ 1}, int64(at))
	ts.Check(err)
	ts.Check(f.Close())
}

// readOnly DIR COMMAND...: where DIR cannot be written, whoever one is. mount(8), bind.
func readOnly(args []string) error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount(args[0], args[0], "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount on %s: %w", args[0], err)
	}
	if err := unix.Mount("", args[0], "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", args[0], err)
	}
	return become(args[1:])
}
