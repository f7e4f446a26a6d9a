package authz

import (
	"strconv"
	"strings"
)

// suggest returns the end of an error about an unknown word: the nearest valid
// word if one is near, else the list after intro ("" leaves the list out).
func suggest(word string, valid []string, intro string) string {
	if near := nearest(word, valid); near != "" {
		return "; did you mean " + strconv.Quote(near) + "?"
	}
	if intro == "" || len(valid) == 0 {
		return ""
	}
	return "; " + intro + " " + strings.Join(valid, ", ")
}

// nearest returns the word with the fewest typing errors between it and word, ""
// when even that has more than a third of its bytes (but at least two) wrong.
func nearest(word string, valid []string) string {
	const longest = 64 // bytes; the distance of longer words is not worth its cost
	if word == "" || len(word) > longest {
		return ""
	}
	best, least := "", max(2, len(word)/3)+1
	for _, w := range valid {
		if len(w) > longest {
			continue
		}
		// Words with less than half in common are not near: "a" and "can".
		if d := distance(strings.ToLower(word), strings.ToLower(w)); d < least && 2*d <= max(len(word), len(w)) {
			best, least = w, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbouring bytes that make a into b (optimal string alignment).
func distance(a, b string) int {
	before, last, this := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		this[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			this[j] = min(last[j]+1, this[j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				this[j] = min(this[j], before[j-2]+1)
			}
		}
		before, last, this = last, this, before
	}
	return last[len(b)]
}
