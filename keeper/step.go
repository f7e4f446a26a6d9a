//go:build !torture

package keeper

// Step is a place where the torture build may kill the process; see step_torture.go.
func Step(name string) {}

// Seeded reports whether the torture build shall have a bug; see step_torture.go.
func Seeded(bug string) bool { return false }
