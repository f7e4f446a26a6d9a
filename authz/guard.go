package authz

import (
	"fmt"
	"slices"
)

// What the guard takes of a broker in one message: see "Limits" of package guard, which may not be imported here. A test of
// cmd/lockerd holds that the two agree.
const (
	maxPrograms     = 64
	maxProgramBytes = 16<<10 - 14 // of all paths, two bytes more for each
)

// readGuard reads the programs that the guard keeps from held bundles. An empty table denies nobody.
func (r *reader) readGuard(t table) {
	for _, e := range t.entries {
		if e.key != "deny" {
			r.unknown(t, e, "deny")
			continue
		}
		programs, at := r.strings(e, `["/usr/sbin/smbd"]`)
		for i, program := range programs {
			if err := CheckPath(program); err != nil {
				r.failf(at[i], "deny: %q: %v", program, err)
			}
		}
		if err := checkPrograms(programs); err != nil {
			r.failf(e.line, "deny: %v", err)
		}
		r.policy.Guard = programs
	}
}

// checkPrograms refuses more than the guard takes.
func checkPrograms(programs []string) error {
	size := 0
	for _, program := range programs {
		size += 2 + len(program)
	}
	switch {
	case len(programs) > maxPrograms:
		return fmt.Errorf("%d programs, and %d is the most", len(programs), maxPrograms)
	case size > maxProgramBytes:
		return fmt.Errorf("the paths have %d bytes in all, two more counted for each, and %d is the most", size, maxProgramBytes)
	}
	return nil
}

// Doubts says which programs of [guard] are not there as they are named, a sentence each. nil for a policy that was not loaded from a file.
func (p *Policy) Doubts() []string { return slices.Clone(p.doubts) }
