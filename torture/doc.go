// Package torture is the proof by trial that an answered lock is never lost: its tests kill the broker, the keeper and the
// clients of a real lockerd, thousands of times, and look whether anybody got in. It has no code but tests.
//
// A run plays the service manager: it owns the public socket, starts `lockerd keeper` and `lockerd broker`, and starts again what
// dies. Eight client processes lock and unlock a few files in every way that package client offers. What must hold
// is written down in memory that all of them share and that no lockerd knows of: one word for each file that says who owns it.
//
// # What is looked for
//
//	double      a client is answered "granted" and finds somebody else's living ownership
//	lost        a program outside gets flock(2) or an OFD lock on a file that is owned before and after its try
//	resume      a client is told that its lock is lost, or an error that it did not ask for
//	token       a token is not greater than the last one of the file, or stands for two holds, or not in the log
//	history     no order of all grants and releases of a file explains the answers and their times (porcupine)
//	left        something is locked, kept or listed after everybody has let go, or a second after a dead client's lockerd is back
//	stuck       a Lock is neither granted nor refused
//	end         a process ended although nobody killed it
//	log         audit.Verify finds something, or an answered grant is not recorded
//
// # When outsiders may get in
//
// When broker and keeper are dead at the same time: then holds are taken again from the log, and the log must say how long
// nobody may have held them. Two clients must exclude each other even then.
//
// # What a kill is
//
// SIGKILL at a random moment; SIGKILL with the victim's sockets closing one after the other in any order, as they do when a large
// process dies; SIGKILL by itself at a named step of the protocol (build tag torture); SIGTERM, which hands over. The next
// kill comes when the last victim serves again, but where both are killed on purpose.
//
// # How to run it
//
//	go test ./torture                        a minute
//	make torture                             20,000 kills of each process and 4,000 clients; prints a table
//	LOCKER_TORTURE=500 go test ./torture -run TestTorture -v -timeout 0      so many kills of each
//	LOCKER_TORTURE_SEED=7                    the same choices again; what the kernel makes of them differs
package torture
