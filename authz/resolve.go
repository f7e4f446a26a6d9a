package authz

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// resolver turns the names of a policy into ids and asks for each name once.
type resolver struct {
	users     Users
	names     map[uint32]string // for suggestions
	userNames []string          // sorted; made when first needed
	uids      map[string]answer
	gids      map[string]answer
}

type answer struct {
	id  uint32
	err error
}

func newResolver(u Users, names map[uint32]string) *resolver {
	return &resolver{users: u, names: names, uids: map[string]answer{}, gids: map[string]answer{}}
}

// uid returns the id of a user given as a name or a number of the policy.
func (r *resolver) uid(v any) (uint32, error) {
	return r.id(v, "user", r.uids, r.users.UID, func() []string {
		if r.userNames == nil {
			r.userNames = slices.Sorted(maps.Values(r.names))
		}
		return r.userNames
	})
}

// gid does the same for a group.
func (r *resolver) gid(v any) (uint32, error) {
	return r.id(v, "group", r.gids, r.users.GID, func() []string {
		if g, ok := r.users.(groupNames); ok {
			if names, err := g.GroupNames(); err == nil {
				slices.Sort(names)
				return names
			}
		}
		return nil
	})
}

func (r *resolver) id(v any, what string, known map[string]answer,
	ask func(string) (uint32, error), valid func() []string) (uint32, error) {
	switch v := v.(type) {
	case int64:
		if v < 0 || v > 1<<32-1 {
			return 0, fmt.Errorf("%d is no %s id", v, what)
		}
		return notOverflow(uint32(v), what, strconv.FormatInt(v, 10))
	case string:
		if v == "*" {
			return 0, fmt.Errorf(`"*" stands for all users: write users = ["*"]`)
		}
		if v == "" || strings.ContainsAny(v, ":\n\x00") {
			return 0, fmt.Errorf("%q is no %s name", v, what)
		}
		a, asked := known[v]
		if !asked {
			a.id, a.err = ask(v)
			known[v] = a
		}
		if a.err == nil {
			return notOverflow(a.id, what, strconv.Quote(v))
		}
		if _, err := strconv.ParseUint(v, 10, 32); err == nil {
			return 0, fmt.Errorf("unknown %s %q: for the id write %s without quotes", what, v, v)
		}
		if !errors.Is(a.err, ErrUnknownName) {
			return 0, fmt.Errorf("unknown %s %q: %w", what, v, a.err)
		}
		return 0, fmt.Errorf("unknown %s %q%s", what, v, suggest(v, valid(), ""))
	}
	return 0, fmt.Errorf("%s is neither the name nor the number of a %s", describe(v), what)
}

// notOverflow refuses ids that stand for nobody in particular.
func notOverflow(id uint32, what, shown string) (uint32, error) {
	if overflow(id) {
		return 0, fmt.Errorf("%s %s (id %d) stands for nobody in particular and matches nothing", what, shown, id)
	}
	return id, nil
}
