package main

import (
	"strconv"
	"time"

	"locker/audit"
	"locker/client"
)

// The words of what has become of held files: the rest of words.go. Names in it are made by whoever deletes.

const (
	noteUnwatched = "not watched for deleted and renamed files"
	noteLapsed    = "not guarded all the time"
)

// altered is what 'list', 'run' and 'audit' say of, in their own ways.
type altered struct {
	count  uint64
	last   string // within the bundle; "": the file or the bundle itself
	missed bool
}

// words says what has happened: "3 deleted, renamed or replaced, the last bands/1f".
func (a altered) words() string {
	if a.count == 0 {
		return "some perhaps deleted, renamed or replaced: too much has happened at once"
	}
	const what = " deleted, renamed or replaced"
	text := strconv.FormatUint(a.count, 10)
	if a.missed {
		text += " or more"
	}
	switch {
	case a.last != "":
		return text + what + ", the last " + shown(a.last)
	case text == "1":
		return "itself" + what
	}
	return text + what + ", the last itself"
}

// alteredNote is the note of a list: with the time, since one wants to know whether it is over.
func alteredNote(r client.Row, now time.Time) string {
	a := r.Altered
	if a.Count == 0 && !a.Missed {
		return ""
	}
	at := a.At.Local().Format("15:04:05")
	if now.Sub(a.At) >= 12*time.Hour {
		at = clock(a.At, now)
	}
	return "changed: " + altered{uint64(a.Count), a.Last, a.Missed}.words() + " " + at
}

// lapsedWarning tells the holder that the guard was not there all the time.
func lapsedWarning(a client.Alteration) string {
	return shown(a.Path) + ": not guarded all the time since you got it: a file server may have opened files in it, and may have them open; if that matters, repeat what you did"
}

// alteredWarning tells the holder.
func alteredWarning(a client.Alteration) string {
	const while = " while you hold it"
	switch {
	case a.Count == 1 && !a.Missed && a.Last != "":
		return shown(a.Path) + ": " + shown(a.Last) + " was deleted, renamed or replaced" + while
	case a.Count == 1 && !a.Missed:
		return shown(a.Path) + " was deleted, renamed or replaced" + while
	}
	return shown(a.Path) + ": " + altered{uint64(a.Count), a.Last, a.Missed}.words() + "," + while
}

// recordAltered words what an altered record says.
func recordAltered(r *audit.Record) string {
	return altered{r.Count, r.Text, r.Missed}.words() + ", while it was held"
}
