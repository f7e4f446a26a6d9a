package locker_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// machine runs lockerd on one state directory after the other.
type machine struct {
	t             *testing.T
	h             *house
	dir, socket   string
	files, bootID string
}

// run starts lockerd, calls use, and cuts the power: both its processes are killed.
func (m *machine) run(state string, use func(), before ...string) {
	m.t.Helper()
	argv := slices.Concat(before, []string{filepath.Join(m.h.bin, "lockerd"), "--allow", m.files, "--state-dir", state, "--socket", m.socket})
	var log bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr, cmd.SysProcAttr = &log, &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	defer func() {
		syscall.Kill(-cmd.Process.Pid, unix.SIGKILL)
		<-exited
		gone := func() bool { return syscall.Kill(-cmd.Process.Pid, 0) == syscall.ESRCH }
		if !eventually(gone) {
			m.t.Fatal("its processes do not end")
		}
		os.Remove(m.socket)
		if m.t.Failed() {
			m.t.Logf("lockerd said:\n%s", log.String())
		}
	}()
	serves := func() bool {
		select {
		case <-exited:
			m.t.Fatalf("it ended: %s", log.String())
		default:
		}
		_, err := os.Stat(m.socket)
		return err == nil
	}
	if !eventually(serves) {
		m.t.Fatal("it does not serve")
	}
	use()
}

// locker runs the user command.
func (m *machine) locker(args ...string) string {
	m.t.Helper()
	out, err := m.command(args...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("locker %q: %v: %s", args, err, out)
	}
	return string(out)
}

func (m *machine) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(m.h.bin, "locker"), args...)
	cmd.Env = append(os.Environ(), "LOCKER_SOCKET="+m.socket, "PATH="+m.h.bin+":"+os.Getenv("PATH"))
	return cmd
}

// held gives what is held, by file name, with its token.
func (m *machine) held() map[string]uint64 {
	m.t.Helper()
	var list struct {
		Locks []struct {
			Path    string
			Holders []struct{ Token uint64 }
		}
	}
	text := m.locker("list", "--all", "--json")
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		m.t.Fatalf("%v in %s", err, text)
	}
	held := map[string]uint64{}
	for _, l := range list.Locks {
		for _, h := range l.Holders {
			held[filepath.Base(l.Path)] = h.Token
		}
	}
	return held
}

func (m *machine) free(file string) bool {
	fd, err := unix.Open(filepath.Join(m.files, file), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	defer unix.Close(fd)
	return takeBy("flock", fd) == nil
}

// newMachine needs root, for a boot id of its own.
func newMachine(t *testing.T) *machine {
	h := newHouse(t)
	if met, err := h.condition("mounts"); err != nil || !met {
		t.Skip("is for root with mounts of its own")
	}
	m := &machine{t: t, h: h, dir: openDir(t, t.TempDir())}
	short, err := os.MkdirTemp("", "lk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	m.socket, m.files, m.bootID = filepath.Join(short, "s"), filepath.Join(m.dir, "d"), filepath.Join(m.dir, "boot_id")
	if err := os.Mkdir(m.files, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"detached", "shared", "attached", "given-back", "durable", "brief", "new"} {
		if err := os.WriteFile(filepath.Join(m.files, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(m.bootID, []byte("5be1a5f8-6c5b-4b09-9a6f-d1d5f2f0a7c1\n"), 0o444); err != nil {
		t.Fatal(err)
	}
	return m
}
