package authz

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Standalone makes the policy of a lockerd without a policy file: root and the
// user uid, who runs it, may do everything below allow; nobody else may even use
// the socket. allow is absolute and clean. Server, Audit and Limits have their
// defaults, the socket's mode being 0600. Whoever knows socket and state directory
// calls CheckPlaces.
func Standalone(allow []string, uid uint32, names map[uint32]string) (*Policy, error) {
	if overflow(uid) {
		return nil, fmt.Errorf("uid %d stands for nobody in particular: run lockerd as a user of its own", uid)
	}
	if len(allow) == 0 {
		return nil, errors.New("allow is empty: name the files and directories that may be locked")
	}
	p := &Policy{
		Server:     Server{Socket: defaultSocket, SocketMode: 0o600, StateDir: defaultStateDir},
		Audit:      AuditSettings{SegmentSize: defaultSegmentSize},
		Limits:     DefaultLimits(),
		names:      maps.Clone(names),
		standalone: true,
		owner:      uid,
	}
	for _, entry := range allow {
		err := checkRoot(entry) // before CheckPath, which knows "/" as a path only
		if err == nil {
			if err = CheckPath(entry); err != nil {
				err = fmt.Errorf("%q: %w", entry, err)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("allow: %w", err)
		}
		if !slices.Contains(p.Allow, entry) {
			p.Allow = append(p.Allow, entry)
		}
	}
	return p, nil
}
