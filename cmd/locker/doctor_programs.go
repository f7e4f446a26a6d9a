package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// programs finds and runs the programs of others that doctor asks.
type programs struct {
	dirs []string // where to look, in this order; absolute
	root bool     // we are root: only what root alone can have put there is run, in an environment of ours
}

// rootDirs is where root looks: his PATH may be one that sudo(8) or su(1) kept from somebody else.
func rootDirs() []string {
	return []string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"}
}

func callersPrograms() programs {
	if os.Geteuid() == 0 {
		return programs{dirs: rootDirs(), root: true}
	}
	return programs{dirs: userDirs(os.Getenv("PATH"))}
}

// userDirs is where others look: in their PATH, and where daemons are, which is rarely in it.
func userDirs(path string) []string {
	var dirs []string
	for _, dir := range filepath.SplitList(path) {
		if filepath.IsAbs(dir) { // no "." and no "": exec.ErrDot
			dirs = append(dirs, dir)
		}
	}
	return append(dirs, "/usr/sbin", "/sbin", "/usr/local/sbin")
}

// find gives the path of a program, "" if it is not there.
func (p programs) find(name string) string {
	for _, dir := range p.dirs {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 || p.root && !rootsAlone(info) {
			continue
		}
		return path
	}
	return ""
}

// rootsAlone reports whether nobody but root can have written the program: /usr/local/bin is open to a group on some systems.
func rootsAlone(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == 0 && info.Mode()&0o022 == 0
}

var (
	errNoAnswer = errors.New("no answer within")
	errTooMuch  = fmt.Errorf("it says more than %s bytes", thousands(maxProgramSays))
)

// run gives a program's standard output. When it takes too long, it is killed with all its children. An error that is the
// program's own has the last line of its standard error.
func (p programs) run(ctx context.Context, patience time.Duration, path string, args ...string) ([]byte, error) {
	bounded, stop := context.WithTimeout(ctx, patience)
	defer stop()
	cmd := exec.CommandContext(bounded, path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if p.root {
		cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/usr/sbin:/bin:/sbin"}
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 500 * time.Millisecond // a grandchild of another process group keeps our pipes open
	out, said := &firstBytes{most: maxProgramSays, strict: true}, &firstBytes{most: 4096}
	cmd.Stdout, cmd.Stderr = out, said
	err := cmd.Run()
	switch {
	case err == nil:
		return out.b.Bytes(), nil
	case bounded.Err() != nil && ctx.Err() == nil:
		return nil, fmt.Errorf("%w %v", errNoAnswer, patience)
	case out.over:
		return nil, errTooMuch
	}
	if line := lastLine(said.b.Bytes()); line != "" {
		return nil, fmt.Errorf("%w: %s", err, line)
	}
	return nil, err
}

// firstBytes keeps the beginning of what is written. If strict, more is an error, which ends the writer.
type firstBytes struct {
	b      bytes.Buffer
	most   int
	strict bool
	over   bool
}

func (f *firstBytes) Write(p []byte) (int, error) {
	room := f.most - f.b.Len()
	if len(p) <= room {
		return f.b.Write(p)
	}
	f.b.Write(p[:room])
	f.over = true
	if f.strict {
		return room, errTooMuch
	}
	return len(p), nil
}

func lastLine(text []byte) string {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.TrimSpace(lines[len(lines)-1]))
}

// inTime runs do, which may wait in the kernel for good (a dead server's file system), and reports whether it ended in
// time. What do writes is to be read only then. Otherwise its goroutine is left behind: nothing can end it, and we end soon.
func inTime(ctx context.Context, patience time.Duration, do func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-done:
		return true
	case <-late.C:
	case <-ctx.Done():
	}
	return false
}

// readBounded reads a file of at most most bytes.
func readBounded(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a FIFO waits
		return nil, &os.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		return nil, &os.PathError{Op: "read", Path: path, Err: syscall.EFBIG}
	}
	return text, err
}
