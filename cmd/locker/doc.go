// Command locker locks files through lockerd, for people and scripts.
//
// It is built on package client alone, with one exception: 'locker audit' reads the log's own files, because they must be
// readable when no lockerd runs. 'locker doctor' also looks at the machine itself, with the caller's rights, and runs testparm(1); so do
// 'locker lock' and 'locker run', to warn of whom a lock keeps out of nothing, if the text of smb.conf says that there may be somebody.
//
// Standard output carries data; everything said to people goes to standard error, in lines that begin with
// "locker: ", "locker: warning: " or "locker: hint: ". All words are in words.go, all exit codes in exit.go, the
// command lines of 2016 in old.go.
//
// # Bytes of others
//
// Paths, reasons, commands and user names come from other users and may hold anything. They reach a terminal only
// through shown and ascii, JSON only through appendText: these write nothing that a terminal would obey.
//
// # The child of 'locker run'
//
// Without a controlling terminal the command gets a process group of its own, and signals are forwarded: SIGINT,
// SIGQUIT, SIGHUP, SIGTERM, SIGTSTP, SIGCONT and SIGWINCH to the group, as a terminal would send them, SIGUSR1 and
// SIGUSR2 to the command alone.
//
// With one it stays in ours, as under env(1), so that the shell's job control, pipelines and prompts on the terminal
// work as ever: the terminal's own signals (Ctrl-C, Ctrl-\, Ctrl-Z, a new size) reach the command from the kernel,
// once, and are not forwarded; SIGTERM, SIGHUP, SIGCONT, SIGUSR1 and SIGUSR2 are, to the command.
//
// When the lock is lost, the process group gets SIGTERM and, 10 seconds later, SIGKILL; with a terminal, where the group
// is not ours to kill, all descendants in the terminal's session. A daemon that the command has put into a session of
// its own is left alone. lockerd lets nobody else in before they are gone, for at most 15 seconds. A stopped job cannot
// be told (Ctrl-Z stops locker too); then the next holder is let in after these 15 seconds, and the command ends when it
// is continued.
//
// A lockerd that dies and is back within 30 seconds is no loss, and nothing is said of it: package client takes the session
// up again, while the command runs on. Only the process that asked for the lock can do that, so that of the command it
// does not matter what it inherits.
//
// If locker itself is killed with SIGKILL, lockerd releases the lock at once, and the kernel sends the command SIGTERM in
// the same moment (PR_SET_PDEATHSIG): what the command does until it heeds that, it does without the lock. The kernel
// does not pass this on to the command's own children, nor to set-user-ID programs such as sudo. With --on-loss warn it
// is not asked to.
package main
