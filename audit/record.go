package audit

import "time"

// Event says what a record reports. Unknown events are refused when a line is parsed.
type Event string

// The events, in the order of doc.go.
const (
	EventStart          Event = "start"           // lockerd runs
	EventStop           Event = "stop"            // the last record of a clean stop
	EventPolicy         Event = "policy"          // policy loaded: SHA256, Path
	EventPolicyRefused  Event = "policy-refused"  // policy file refused, the old one stays: Text
	EventConnectRefused Event = "connect-refused" // a peer that may not connect
	EventGrant          Event = "grant"           // a claim became a hold; Seq is its id and fencing token
	EventDeny           Event = "deny"            // a request refused: Code, Text
	EventWait           Event = "wait"            // a claim entered the queue
	EventTimeout        Event = "timeout"         // a waiting claim's time was up
	EventCancel         Event = "cancel"          // a waiting claim was taken back, or its client went away
	EventRelease        Event = "release"         // a hold ended because its owner said so
	EventExpire         Event = "expire"          // its lease ended; with Grace it ends later
	EventBreak          Event = "break"           // somebody broke it (By); with Grace it ends later
	EventDeath          Event = "death"           // its client died
	EventResume         Event = "resume"          // a hold of an earlier run is held again
	EventLost           Event = "lost"            // a hold of an earlier run could not be had again
	EventCleared        Event = "cleared"         // the owner of a lost hold has taken note
	EventGap            Event = "gap"             // records First to Last are not on file: Text says why
	EventRecovered      Event = "recovered"       // the last run did not stop cleanly; First to Last were never used, or were lost
	EventSuppressed     Event = "suppressed"      // Count records were left out
	EventAltered        Event = "altered"         // files of a hold were deleted or renamed: Count in all, Text the last
	EventKeeper         Event = "keeper"          // the keeper went, came back, or takes no more: Code; Count of its entries
	EventGuard          Event = "guard"           // the guard came, went, refused somebody or could not: Code
	EventRotate         Event = "rotate"          // a new segment was begun: Text says why, Target names the one before
	EventCheckpoint     Event = "checkpoint"      // Count held records follow; numbers up to Last are reserved
	EventHeld           Event = "held"            // one hold of a checkpoint
)

// Record is one line of the log. Zero fields are left out of the line.
// Text fields hold any bytes; AppendLine escapes them.
type Record struct {
	Seq   uint64        // filled by Append
	Time  time.Time     // wall clock, UTC; filled by Append. In a held record: when the hold was granted
	Boot  time.Duration // CLOCK_BOOTTIME; filled by Append. In a held record: when the hold was granted
	Event Event
	ID    uint64 // of the hold that the record is about (grant: = Seq, filled by Append)

	Peer     bool // UID and GID mean something (uid 0 must not look like "absent")
	UID, GID uint32
	User     string // name of UID as of policy load
	HasLogin bool   // LoginUID means something
	LoginUID uint32
	PID      int32
	Start    uint64 // start time of PID in clock ticks, proc_pid_stat(5) field 22
	Command  string // comm of PID

	Path     string   // as the client named it
	Target   string   // the file really opened, when not Path; rotate, gap, recovered: a file of the log
	Dev, Ino uint64   // of the locked file
	Mode     string   // "exclusive", "shared"
	Rests    []string // what the hold rests on: "ofd", "flock", …
	Life     string   // "attached", "detached"
	Session  uint64   // of an attached owner
	Tag      string   // of a detached owner
	Reason   string   // the client's own words
	Rule     string   // rule or deny that decided
	Grace    time.Duration
	Waited   time.Duration // in the queue
	Held     time.Duration
	Expires  time.Time
	Code     string // stable word of a refusal or cause; held: "", "ending" or "lost"
	Text     string
	Count    uint64
	SHA256   string // of a policy file, hex
	By       string // who broke it

	First, Last uint64 // gap, recovered: the numbers that are missing. checkpoint: Last is the last number reserved

	Gap     time.Duration // resume: so long nobody held it for its owner, and anybody may have
	Request uint32        // request id of the Lock that a grant answered; grant, held, resume
	BootID  string        // checkpoint: boot that its run was in, proc_sys_kernel(5) random/boot_id
	Synced  uint64        // filled by Append: records up to it were on disk then
	Altered time.Time     // held: time of the last altered record of the hold, whose Count, Text and Missed it has, too
	Missed  bool          // altered, held: there may be more than Count

	Prev string // hex SHA-256 of the line before; ParseLine fills it, AppendLine writes it, Append uses its own
}
