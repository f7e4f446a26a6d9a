package authz

import "strings"

// Action is what a peer asks to do with a path. The zero Action is never allowed.
type Action uint8

const (
	ActLock       Action = iota + 1 // take an exclusive lock
	ActLockShared                   // take a shared lock
	ActList                         // see who else holds or waits
	ActBreak                        // end somebody else's hold
)

// actionWords holds the words of the policy file, in the order of the constants.
var actionWords = [...]string{"lock", "lock-shared", "list", "break"}

// String returns the word of the policy file, "none" for anything else.
func (a Action) String() string {
	if a.valid() {
		return actionWords[a-1]
	}
	return "none"
}

func (a Action) valid() bool { return a >= ActLock && a <= ActBreak }

// ParseAction is the inverse of String; ok is false for any other word.
func ParseAction(word string) (a Action, ok bool) {
	for i, w := range actionWords {
		if w == word {
			return Action(i + 1), true
		}
	}
	return 0, false
}

// actions is a set of Action. The empty set allows nothing.
type actions uint8

const allActions = actions(1<<ActLock | 1<<ActLockShared | 1<<ActList | 1<<ActBreak)

func (s actions) has(a Action) bool { return a.valid() && s&(1<<a) != 0 }

func (s actions) words() []string {
	var words []string
	for i, w := range actionWords {
		if s.has(Action(i + 1)) {
			words = append(words, w)
		}
	}
	return words
}

// Engines is a set of kernel lock kinds that may be claimed.
type Engines uint8

const (
	OFD   Engines = 1 << iota // fcntl(2) F_OFD_SETLK over the whole file
	Flock                     // flock(2)
)

const bothEngines = OFD | Flock

var engineWords = [...]string{"ofd", "flock"}

// Names returns the words of the policy file for the engines in the set.
func (e Engines) Names() []string {
	var words []string
	for i, w := range engineWords {
		if e&(1<<i) != 0 {
			words = append(words, w)
		}
	}
	return words
}

// String returns the words separated by a space, "none" for the empty set.
func (e Engines) String() string {
	if e&bothEngines == 0 {
		return "none"
	}
	return strings.Join(e.Names(), " ")
}

// Why says what kind of thing decided. Zero: refused without a reason.
type Why uint8

const (
	WhyRule        Why = iota + 1 // a rule allows it
	WhyRoot                       // uid 0 needs no rule
	WhyDeny                       // a deny matches
	WhyNoRule                     // nothing allows it
	WhyOutside                    // outside the whitelist
	WhyBadPath                    // see CheckPath
	WhyUnknownPeer                // nobody, or an overflow id
)

var whyWords = [...]string{"rule", "root", "deny", "no-rule", "outside", "bad-path", "unknown-peer"}

// String returns a stable lower-case word for logs, "refused" for the zero value.
func (w Why) String() string {
	if w >= WhyRule && w <= WhyUnknownPeer {
		return whyWords[w-1]
	}
	return "refused"
}
