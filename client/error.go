package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"locker/wire"
)

// ErrUnreachable says that there is no lockerd, or that it went away and did not come back.
var ErrUnreachable = errors.New("lockerd cannot be reached")

// ErrUntrusted says that whoever listens at the socket is neither root nor us.
var ErrUntrusted = errors.New("lockerd is not to be trusted")

// ForeignError is the ErrUntrusted that says whose socket it is.
type ForeignError struct {
	Socket string
	UID    uint32 // of who listens there
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%v: %s belongs to uid %d, which is neither root nor you", ErrUntrusted, e.Socket, e.UID)
}

// Unwrap gives ErrUntrusted.
func (e *ForeignError) Unwrap() error { return ErrUntrusted }

// ErrClosed is what requests get after Close.
var ErrClosed = errors.New("the client is closed")

// Code says what kind of refusal an Error is; its String is a stable lower-case word.
type Code = wire.Code

// The codes, as package wire explains them.
const (
	CodeBusy        = wire.CodeBusy
	CodeDenied      = wire.CodeDenied
	CodeTimeout     = wire.CodeTimeout
	CodeDeadlock    = wire.CodeDeadlock
	CodeQuota       = wire.CodeQuota
	CodeInvalid     = wire.CodeInvalid
	CodeNotFound    = wire.CodeNotFound
	CodeUnsupported = wire.CodeUnsupported
	CodeConversion  = wire.CodeConversion
	CodeCanceled    = wire.CodeCanceled
	CodeUnavailable = wire.CodeUnavailable
	CodeInternal    = wire.CodeInternal
	CodeVersion     = wire.CodeVersion
	CodeShutdown    = wire.CodeShutdown
	CodeLimit       = wire.CodeLimit
	CodeLost        = wire.CodeLost
)

// Blocker is who is in the way of a lock; only Kind, Hidden and perhaps Path are set when we may not know.
type Blocker = wire.Blocker

// Error is a refusal by lockerd. Path and the fields of Blockers hold other people's bytes: quote them for a terminal.
type Error struct {
	Code     Code
	Path     string    // which of the paths, or ""
	Text     string    // one sentence for people
	Blockers []Blocker // who is in the way: of CodeBusy, CodeTimeout, CodeDeadlock
}

func (e *Error) Error() string {
	text := e.Text
	if text == "" {
		text = e.Code.String()
	}
	if e.Path == "" {
		return text
	}
	return fmt.Sprintf("%q: %s", e.Path, text)
}

// CodeOf gives the code of the *Error in err's chain, or 0.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// refusal makes an Error of a frame.
func refusal(m *wire.Error) *Error {
	return &Error{Code: m.Code, Path: m.Path, Text: m.Text, Blockers: m.Blockers}
}

// unexpected is for an answer of a type that does not answer the question.
func unexpected(m wire.Message) error {
	return &Error{Code: CodeInternal, Text: fmt.Sprintf("lockerd answered with an unexpected message of type %#x", uint8(m.Type()))}
}

// errHungUp is the end of a connection that nobody has announced.
var errHungUp = errors.New("it closed the connection")

// ended words what a read or write says when the other end has gone.
func ended(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
		return errHungUp
	}
	return cause(err)
}
