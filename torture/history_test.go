package torture

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
)

// span is one hold of one file: when it was asked for, answered, given up and said to be released. A hold whose end nobody was told
// of, since its client was killed, ended at some time after the kill.
type span struct {
	who      word
	pid      int32
	file     int
	shared   bool
	token    uint64
	asked    int64
	answered int64
	letting  int64 // from here on it may be released
	let      int64 // here it was; math.MaxInt64: nobody knows
}

// checkHistory reads what the clients of a round have noted, and looks whether it can be explained.
func (r *run) checkHistory() {
	spans, err := readSpans(r.crowd.history, r.crowd.ends)
	if err != nil {
		r.report(finding{kind: "end", text: err.Error()})
		return
	}
	if _, err := r.log.read(); err != nil {
		r.report(finding{kind: "log", text: err.Error()})
		return
	}
	for i := range spans {
		if s := &spans[i]; r.log.losses[s.token] {
			s.letting = s.answered // an outsider took it while both were dead: the log gave it up at some time, unasked
		}
	}
	for _, s := range spans {
		if r.tokens[s.token] {
			r.report(finding{kind: "token", text: fmt.Sprintf("token %d stands for two holds; one is of %s by %v", s.token, fileName(s.file), s.who)})
			return
		}
		r.tokens[s.token] = true
	}
	for f := range files {
		of := slices.DeleteFunc(slices.Clone(spans), func(s span) bool { return s.file != f })
		if err := explain(of); err != nil {
			r.tally(r.round).found("history")
			r.report(finding{kind: "history", text: fmt.Sprintf("%s: %v", fileName(f), err)})
			return
		}
	}
	if err := r.log.check(spans, r.files(), r.tally(r.round).entered); err != nil {
		r.report(finding{kind: "log", text: err.Error()})
		return
	}
	for _, name := range r.crowd.history {
		os.Remove(name)
	}
}

// readSpans puts the notes together. ends says when a life was ended.
func readSpans(histories []string, ends map[word]int64) ([]span, error) {
	type key struct {
		word
		file uint8
	}
	begun := map[key]*span{}
	var later []note
	for _, name := range histories {
		notes, err := readNotes(name)
		if os.IsNotExist(err) {
			continue // killed before it began
		}
		if err != nil {
			return nil, err
		}
		for _, n := range notes {
			if n.Moment != granted {
				later = append(later, n) // it may be in the history of a later life
				continue
			}
			for i, f := range n.Files[:n.N] {
				s := &span{who: n.Who, pid: n.PID, file: int(f), shared: n.Shared, token: n.Tokens[i], asked: n.From, answered: n.At, letting: math.MaxInt64, let: math.MaxInt64}
				if end, killed := ends[lifeOf(n.Who)]; killed && !n.Who.detached() {
					s.letting = end
				}
				begun[key{n.Who, f}] = s
			}
		}
	}
	for _, n := range later {
		for _, f := range n.Files[:n.N] {
			s := begun[key{n.Who, f}]
			switch {
			case s == nil: // killed after the answer and before it was noted
			case n.Moment == givenUp:
				s.letting = min(s.letting, n.At)
			case n.Moment == released:
				s.let = n.At
			}
		}
	}
	spans := make([]span, 0, len(begun))
	for _, s := range begun {
		spans = append(spans, *s)
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.token, b.token) })
	return spans, nil
}
