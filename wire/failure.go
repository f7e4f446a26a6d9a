package wire

import "strconv"

// Code says why a request was not granted. The words of String are an API: JSON output and documents use them.
type Code uint8

const (
	CodeBusy        Code = iota + 1 // somebody else holds it, and the request did not want to wait
	CodeDenied                      // the policy does not allow it; nothing is said about whether the path exists
	CodeTimeout                     // it was not free in time
	CodeDeadlock                    // waiting would close a cycle of owners that wait for each other
	CodeQuota                       // the user holds or waits for as much as he may
	CodeInvalid                     // malformed path or request
	CodeNotFound                    // no such file, hold or waiting request
	CodeUnsupported                 // a file, or a request, that cannot be served this way
	CodeConversion                  // the owner holds it in the other mode
	CodeCanceled                    // as Cancel asked
	CodeUnavailable                 // the server cannot grant anything now: its log takes no records, or too many opens
	CodeInternal                    // a bug of the server's
	CodeVersion                     // no common version
	CodeShutdown                    // the server is going away
	CodeLimit                       // of connections, of frames: size or slowness
	CodeLost                        // the hold is lost
	endCode
)

// String gives the stable lower-case word: "busy", "not-found".
func (c Code) String() string {
	return word(uint8(c), "busy", "denied", "timeout", "deadlock", "quota", "invalid", "not-found", "unsupported",
		"conversion", "canceled", "unavailable", "internal", "version", "shutdown", "limit", "lost")
}

// Error answers any request that failed. With request id 0 it is about the connection, which the server then closes.
type Error struct {
	Code     Code
	Path     string // which of the paths; may be empty
	Text     string // one sentence for people, at most MaxText bytes
	Blockers []Blocker
}

// Type gives TypeError.
func (m *Error) Type() Type { return TypeError }

// Error gives code, quoted path and text in one line.
func (m *Error) Error() string {
	s := m.Code.String()
	if m.Path != "" {
		s += ": " + strconv.QuoteToASCII(m.Path)
	}
	if m.Text != "" {
		s += ": " + m.Text
	}
	return s
}

func (m *Error) append(e *encoder) {
	e.enum("code", uint8(m.Code), uint8(endCode))
	e.str("path", m.Path, MaxPath)
	e.str("text", m.Text, MaxText)
	appendBlockers(e, m.Blockers)
}

func parseError(d *decoder) *Error {
	return &Error{
		Code: Code(d.enum("code", uint8(endCode))),
		Path: d.str("path", MaxPath), Text: d.str("text", MaxText), Blockers: parseBlockers(d),
	}
}
