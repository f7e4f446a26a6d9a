package wire

import "fmt"

// Type is the second byte of a frame's body: requests are below 0x80, what the server sends is above.
type Type uint8

// The requests.
const (
	TypeHello Type = iota + 0x01
	TypeLock
	TypeUnlock
	TypeCancel
	TypeWhere
	TypeList
	TypeWatch
	TypeStatus
	TypeBreak
	TypeReload
	TypeRules
	TypeExplain
	TypeResume
	TypeGuard
	afterRequests
)

// The answers, and the events Lost and Altered.
const (
	TypeWelcome Type = iota + 0x81
	TypeGranted
	TypeQueued
	TypeReleased
	TypeDone
	TypeError
	TypeRows
	TypeChanged
	TypeStatusReply
	TypeRulesReply
	TypeExplained
	TypeReloaded
	TypeLost
	TypeResumed
	TypeGuardReply
	TypeAltered
	TypeQuiets
	afterAnswers
)

// Message is one of the messages of this package, as a pointer: *Lock, *Granted and so on.
type Message interface{ Type() Type }

// Types gives every known type, in the order of their numbers.
func Types() []Type {
	var all []Type
	for t := TypeHello; t < afterRequests; t++ {
		all = append(all, t)
	}
	for t := TypeWelcome; t < afterAnswers; t++ {
		all = append(all, t)
	}
	return all
}

// IsRequest reports whether clients send it.
func (t Type) IsRequest() bool { return t >= TypeHello && t < afterRequests }

func (t Type) known() bool { return t.IsRequest() || t >= TypeWelcome && t < afterAnswers }

// Version gives the version of the protocol that introduced the message, which every frame of it begins with. A message
// is sent only where that version or a higher one was agreed on.
func (t Type) Version() uint8 {
	switch t {
	case TypeResume, TypeResumed:
		return 2
	case TypeGuard, TypeGuardReply, TypeAltered, TypeQuiets:
		return 4
	}
	return FirstVersion
}

// Needed gives the lowest version of the protocol in which m, as it is, may be sent.
func Needed(m Message) uint8 {
	if lock, ok := m.(*Lock); ok {
		return lock.Mode.Version()
	}
	return m.Type().Version()
}

// String gives the name of the message as in the package comment: "Lock".
func (t Type) String() string {
	switch t {
	case TypeHello:
		return "Hello"
	case TypeLock:
		return "Lock"
	case TypeUnlock:
		return "Unlock"
	case TypeCancel:
		return "Cancel"
	case TypeWhere:
		return "Where"
	case TypeList:
		return "List"
	case TypeWatch:
		return "Watch"
	case TypeStatus:
		return "Status"
	case TypeBreak:
		return "Break"
	case TypeReload:
		return "Reload"
	case TypeRules:
		return "Rules"
	case TypeExplain:
		return "Explain"
	case TypeResume:
		return "Resume"
	case TypeGuard:
		return "Guard"
	case TypeWelcome:
		return "Welcome"
	case TypeGranted:
		return "Granted"
	case TypeQueued:
		return "Queued"
	case TypeReleased:
		return "Released"
	case TypeDone:
		return "Done"
	case TypeError:
		return "Error"
	case TypeRows:
		return "Rows"
	case TypeChanged:
		return "Changed"
	case TypeStatusReply:
		return "StatusReply"
	case TypeRulesReply:
		return "RulesReply"
	case TypeExplained:
		return "Explained"
	case TypeReloaded:
		return "Reloaded"
	case TypeLost:
		return "Lost"
	case TypeResumed:
		return "Resumed"
	case TypeGuardReply:
		return "GuardReply"
	case TypeAltered:
		return "Altered"
	case TypeQuiets:
		return "Quiets"
	}
	return fmt.Sprintf("Type(0x%02x)", uint8(t))
}

// typeOf is m.Type() without a dynamic call, so that callers of Append can keep their message on the stack; 0 for a
// message that is not of this package.
func typeOf(m Message) Type {
	switch m.(type) {
	case *Hello:
		return TypeHello
	case *Lock:
		return TypeLock
	case *Unlock:
		return TypeUnlock
	case *Cancel:
		return TypeCancel
	case *Where:
		return TypeWhere
	case *List:
		return TypeList
	case *Watch:
		return TypeWatch
	case *Status:
		return TypeStatus
	case *Break:
		return TypeBreak
	case *Reload:
		return TypeReload
	case *Rules:
		return TypeRules
	case *Explain:
		return TypeExplain
	case *Resume:
		return TypeResume
	case *Guard:
		return TypeGuard
	case *Welcome:
		return TypeWelcome
	case *Granted:
		return TypeGranted
	case *Queued:
		return TypeQueued
	case *Released:
		return TypeReleased
	case *Done:
		return TypeDone
	case *Error:
		return TypeError
	case *Rows:
		return TypeRows
	case *Changed:
		return TypeChanged
	case *StatusReply:
		return TypeStatusReply
	case *RulesReply:
		return TypeRulesReply
	case *Explained:
		return TypeExplained
	case *Reloaded:
		return TypeReloaded
	case *Lost:
		return TypeLost
	case *Resumed:
		return TypeResumed
	case *GuardReply:
		return TypeGuardReply
	case *Altered:
		return TypeAltered
	case *Quiets:
		return TypeQuiets
	}
	return 0
}
