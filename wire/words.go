package wire

// Zero is no value of any of these: a forgotten field is refused, by Append and by Parse.

// Mode is how a file is locked.
type Mode uint8

const (
	Exclusive Mode = iota + 1
	Shared
	Idle // of a Lock alone: exclusive, and only while nobody else has the file open. Of version 3
	endMode

	endHeldMode = Idle // what is held or waited for is exclusive or shared
)

// String gives "exclusive", "shared" or "idle".
func (m Mode) String() string { return word(uint8(m), "exclusive", "shared", "idle") }

// Version gives the version of the protocol that introduced the mode. A Lock with it is sent only where that version or a
// higher one was agreed on.
func (m Mode) Version() uint8 {
	if m == Idle {
		return 3
	}
	return FirstVersion
}

// Wait is what to do while a file is locked by somebody else.
type Wait uint8

const (
	Block    Wait = iota + 1 // wait for ever
	NonBlock                 // answer CodeBusy at once
	Timed                    // wait for Lock.Timeout, then answer CodeTimeout
	endWait
)

// String gives "block", "nonblock" or "timed".
func (w Wait) String() string { return word(uint8(w), "block", "nonblock", "timed") }

// Life is how long a hold lasts.
type Life uint8

const (
	Attached Life = iota + 1 // as long as its connection
	Detached                 // until it is released or its lease ends
	endLife
)

// String gives "attached" or "detached".
func (l Life) String() string { return word(uint8(l), "attached", "detached") }

// By is how Unlock and Break name what they mean.
type By uint8

const (
	ByPath By = iota + 1
	ByID
	ByAll // Unlock only
	endBy
)

// String gives "path", "id" or "all".
func (b By) String() string { return word(uint8(b), "path", "id", "all") }

// BlockerKind is in which way somebody is in the way.
type BlockerKind uint8

const (
	Holder  BlockerKind = iota + 1 // holds the lock
	Waiter                         // is ahead in the queue
	Outside                        // holds a lock of the kernel's, taken without the broker, or has the file open
	endBlockerKind
)

// String gives "holder", "waiter" or "outside".
func (k BlockerKind) String() string { return word(uint8(k), "holder", "waiter", "outside") }

// RowKind is what a Row is about.
type RowKind uint8

const (
	RowHolder RowKind = iota + 1
	RowWaiter
	RowLost    // held before lockerd was restarted, and could not be had again
	RowOutside // holds a lock of the kernel's, taken without the broker, or has the file open; somebody here waits for it
	// RowOrphan: held, and its client has not come back yet to a lockerd that was restarted, or the log does not know the hold. Only
	// for peers of version 2 or a higher one.
	RowOrphan
	endRowKind
)

// String gives "holder", "waiter", "lost", "outside" or "orphan".
func (k RowKind) String() string {
	return word(uint8(k), "holder", "waiter", "lost", "outside", "orphan")
}

// LossCause is why a hold ended without its owner's doing.
type LossCause uint8

const (
	Broken  LossCause = iota + 1 // somebody with the permission broke it
	Expired                      // its TTL, or the longest hold that the policy allows
	Stopped                      // the server is going away
	endLossCause
)

// String gives "broken", "expired" or "stopped".
func (c LossCause) String() string { return word(uint8(c), "broken", "expired", "stopped") }

// GuardState is how it is about the process that refuses opens to file servers.
type GuardState uint8

const (
	GuardOff  GuardState = iota + 1 // the policy denies nobody
	GuardOn                         // it is there, and can
	GuardDown                       // it is not there, or cannot: nobody is refused whom the policy denies
	endGuardState
)

// String gives "off", "on" or "down".
func (g GuardState) String() string { return word(uint8(g), "off", "on", "down") }

// Rest is the set of things that a hold rests on.
type Rest uint8

const (
	RestOFD   Rest = 1 << iota // fcntl F_OFD_SETLK over the whole file
	RestFlock                  // flock(2)
	RestIdle                   // nobody else had the file open when it was granted
	RestGuard                  // opens by file servers are refused
	endRest
)

// Names gives the words of r in the order of their bits: "ofd", "flock", "idle", "guard".
func (r Rest) Names() []string {
	var names []string
	for i, name := range [...]string{"ofd", "flock", "idle", "guard"} {
		if r&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// word gives the name of an enum's value: names[0] is that of 1.
func word(v uint8, names ...string) string {
	if v == 0 || int(v) > len(names) {
		return "unknown"
	}
	return names[v-1]
}
