package wire

import "time"

// The versions of the protocol that this package knows. The first byte of a frame's body is the version that introduced
// its message: Type.Version.
const (
	FirstVersion = 1
	Version      = 4 // the highest. Since 2 sessions can be resumed, since 3 a file can be asked for idle, since 4 the guard asked after, and alterations and the quiet of rules told
)

// The limits of single values. A server repeats the first five in its Welcome.
const (
	MaxFrame  = 64 << 10 // bytes after the length word
	MaxPaths  = 64       // in one Lock or Unlock
	MaxPath   = 4095     // bytes
	MaxReason = 256      // bytes
	MaxTag    = 64       // bytes
	MaxText   = 1024     // bytes of any string that is not a path, a reason or a tag
	MaxGrace  = 30 * time.Second
)

// The limits of lists, in elements. A list that is within them may still be more than a frame can hold.
const (
	MaxBlockers = 8
	MaxIDs      = 8000
	MaxLimits   = 64
	MaxWords    = 64   // Allowance.Can and Allowance.Engines
	MaxPrograms = 64   // GuardReply.Programs
	MaxAltered  = 60   // Alterations: so many of the longest fit a frame
	MaxListed   = 1024 // Rows, Rules, Quiets, Lines, Others, Groups, Allowance.Paths
)

// Clip cuts s to at most max bytes, for texts made of what others have written; three dots say that it did.
func Clip(s string, max int) string {
	if len(s) <= max {
		return s
	}
	if max < len("...") {
		return s[:max]
	}
	return s[:max-len("...")] + "..."
}
