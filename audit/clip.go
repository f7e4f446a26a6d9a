package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

const (
	maxPathText = 4096 // bytes of Path and Target
	maxText     = 1024 // bytes of any other text
)

// clip bounds the length of a line. No peer can reach the limits; what is cut leaves its hash behind.
func clip(r *Record) {
	cut(&r.Path, maxPathText)
	cut(&r.Target, maxPathText)
	for _, s := range [...]*string{&r.User, &r.Command, &r.Mode, &r.Life, &r.Tag, &r.Reason, &r.Rule, &r.Code,
		&r.Text, &r.SHA256, &r.By, &r.BootID} {
		cut(s, maxText)
	}
	if len(r.Rests) > 16 {
		r.Rests = r.Rests[:16]
	}
	for i, s := range r.Rests {
		if len(s) > 64 {
			r.Rests = slices.Clone(r.Rests) // the caller's stays as it is
			r.Rests[i] = strings.Clone(s[:64])
		}
	}
}

func cut(s *string, limit int) {
	if len(*s) <= limit {
		return
	}
	sum := sha256.Sum256([]byte(*s))
	mark := "...sha256:" + hex.EncodeToString(sum[:])
	*s = (*s)[:limit-len(mark)] + mark
}
