package locker_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// container is a systemd as PID 1 of namespaces of its own, on a throw-away copy of this machine's file system: what it changes is
// in a tmpfs that nobody else sees, and gone with it. Never without a root of its own: a systemd that shares ours would clear our
// /tmp.
type container struct {
	nspawn *exec.Cmd
	leader int    // its PID 1, as we see it
	root   string // its file system, as we see it
}

// boot DIR: systemd-nspawn on an overlay of / whose changes are kept in a tmpfs on DIR, in a mount namespace of its own, so that
// nothing is left of it whatever kills whom. mount_namespaces(7), overlayfs.
func boot(args []string) error {
	dir := args[0]
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, name := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	root := filepath.Join(dir, "root")
	if err := unix.Mount("overlay", root, "overlay", 0, "lowerdir=/,upperdir="+dir+"/upper,workdir="+dir+"/work"); err != nil {
		return fmt.Errorf("mount an overlay of /: %w", err)
	}
	os.Setenv("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
	// fanotify: for the guard. It takes CAP_SYS_ADMIN all the same.
	return become([]string{"systemd-nspawn", "-q", "-D", root, "--register=no", "--keep-unit", "--private-network", "--console=pipe",
		"--link-journal=no", "--system-call-filter=fanotify_init fanotify_mark", "--boot", "systemd.unit=basic.target"})
}

// bootContainer starts one; it is ended with the test. Where that cannot be, the test is skipped with the reason, and under
// LOCKER_TEST_ALL fails.
func bootContainer(t *testing.T, h *house) *container {
	t.Helper()
	cannot := func(format string, args ...any) {
		t.Helper()
		if os.Getenv("LOCKER_TEST_ALL") != "" {
			t.Fatalf("LOCKER_TEST_ALL is set, and this test "+format, args...)
		}
		t.Skipf(format, args...)
	}
	if os.Geteuid() != 0 {
		cannot("is for root")
	}
	for _, program := range []string{"systemd-nspawn", "nsenter", "systemctl"} {
		if _, err := exec.LookPath(program); err != nil {
			cannot("needs %s (Debian: systemd, systemd-container, util-linux)", program)
		}
	}
	if exec.Command(filepath.Join(h.bin, "private"), "/mnt", "--", "true").Run() != nil {
		cannot("is for root with mounts of its own")
	}
	console, err := os.Create(filepath.Join(t.TempDir(), "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	c := &container{nspawn: exec.Command(filepath.Join(h.bin, "boot"), t.TempDir())}
	c.nspawn.Stdout, c.nspawn.Stderr = console, console
	c.nspawn.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.nspawn.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- c.nspawn.Wait() }()
	t.Cleanup(func() {
		if c.leader != 0 {
			syscall.Kill(c.leader, syscall.SIGKILL) // and with it all that is in there: pid_namespaces(7)
		} else {
			c.nspawn.Process.Kill()
		}
		<-exited
	})
	up := func() bool {
		if len(exited) > 0 {
			return true
		}
		if children := childrenOf(c.nspawn.Process.Pid); len(children) > 0 {
			c.leader = children[0]
			c.root = fmt.Sprintf("/proc/%d/root", c.leader)
			out, _ := c.command("systemctl", "is-system-running").Output()
			state := strings.TrimSpace(string(out))
			return state == "running" || state == "degraded"
		}
		return false
	}
	if !eventually(up) || len(exited) > 0 {
		text, _ := os.ReadFile(console.Name())
		cannot("needs a systemd that boots in a container: %.2000s", text)
	}
	return c
}

// command makes a command of the container. Its end is known here, and what it starts is not of the container's cgroups.
func (c *container) command(argv ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--all", "--target", strconv.Itoa(c.leader), "--"}, argv...)...)
}

// do runs a command that must succeed, and gives what it says.
func (c *container) do(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := c.command(argv...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s\n%s", argv, err, out, c.journal())
	}
	return strings.TrimSpace(string(out))
}

func (c *container) journal() string {
	out, err := c.command("journalctl", "--no-pager", "-o", "short-monotonic", "-u", "lockerd*", "-n", "60").CombinedOutput()
	return fmt.Sprintf("%v\n%s", err, out)
}

// put copies a file of ours into the container.
func (c *container) put(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, to, string(text), mode)
}

func (c *container) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	to := filepath.Join(c.root, name)
	err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, []byte(text), mode), os.Chmod(to, mode))
	if err != nil {
		t.Fatal(err)
	}
}

func (c *container) exists(name string) bool {
	_, err := os.Lstat(filepath.Join(c.root, name))
	return err == nil
}

// mainPID is the pid, in the container, of a unit's process; 0 without one.
func (c *container) mainPID(t *testing.T, unit string) int {
	t.Helper()
	pid, err := strconv.Atoi(c.do(t, "systemctl", "show", "--property=MainPID", "--value", unit))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// running is a command that runs on while the test does.
type running struct {
	cmd    *exec.Cmd
	out    strings.Builder
	exited chan error
}

func (c *container) start(t *testing.T, argv ...string) *running {
	t.Helper()
	r := &running{cmd: c.command(argv...), exited: make(chan error, 1)}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.out
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.exited <- r.cmd.Wait() }() // it is ended with the container at the latest
	return r
}

// wait gives what it has said and its exit code.
func (r *running) wait(t *testing.T) (string, int) {
	t.Helper()
	select {
	case <-r.exited:
		return r.out.String(), r.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		r.cmd.Process.Kill()
		t.Fatalf("%v still runs", r.cmd.Args)
		return "", -1
	}
}

// goes reports that it still runs.
func (r *running) goes() bool { return len(r.exited) == 0 }
