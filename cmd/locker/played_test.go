package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// played is a command for 'locker run' to run, with a role:
//
//	fds            print what its descriptors are
//	waits DIR      make DIR/ready, and append each signal to DIR/log; end with 7 on SIGTERM
//	ignores DIR    likewise, but only SIGKILL ends it
//	leaves DIR     start a grandchild that ignores, and wait for it
func played() {
	role, dir := os.Args[1], ""
	if len(os.Args) > 2 {
		dir = os.Args[2]
	}
	switch role {
	case "fds":
		names, _ := filepath.Glob("/proc/self/fd/*")
		for _, name := range names {
			if target, err := os.Readlink(name); err == nil {
				fmt.Println(filepath.Base(name), target)
			}
		}
	case "waits", "ignores":
		signals := make(chan os.Signal, 16)
		signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
			syscall.SIGWINCH, syscall.SIGCONT)
		log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
		if err != nil {
			panic(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "ready"), fmt.Appendf(nil, "%d", os.Getpid()), 0o666); err != nil {
			panic(err)
		}
		for s := range signals {
			fmt.Fprintln(log, s)
			if s == syscall.SIGTERM && role == "waits" {
				os.Exit(7)
			}
		}
	case "leaves":
		pid, err := syscall.ForkExec("/proc/self/exe", []string{"played", "ignores", dir}, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
		if err != nil {
			panic(err)
		}
		syscall.Wait4(pid, nil, 0, nil)
	}
}
