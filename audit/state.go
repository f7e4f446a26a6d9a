package audit

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Hold is what a checkpoint keeps of a grant.
type Hold struct {
	// Grant is the grant record as it was written, Seq = ID, Event = EventGrant. Code, Text, Count, SHA256, By,
	// Held, First, Last, Gap, BootID, Synced and Prev are not kept. After a resume it has that record's fields,
	// but still the id, the time and the boot clock of the grant. Boot counts from the boot that BootID names:
	// it is negative when the hold is older.
	Grant  Record
	Ending bool // broken or expired, in its grace

	Alteration Alteration // zero: its files were not altered
}

// State is what the log says is held: the sum of its records. Not safe for use while Apply runs.
type State struct {
	live, lost map[uint64]*kept
	altered    map[uint64]*Alteration // of these: beside them, since few are
	kinds      []*kind
	size       int64  // bytes that a checkpoint of all this takes, about
	owed       uint64 // held records still to come after a checkpoint record
	sealed     bool   // a whole checkpoint has been seen
	bootID     string // of the last checkpoint, "": it does not say
}

// NewState returns the state of an empty log.
func NewState() *State {
	return &State{live: map[uint64]*kept{}, lost: map[uint64]*kept{}, altered: map[uint64]*Alteration{}}
}

// clone shares the holds, which never change once they are in a State.
func (s *State) clone() *State {
	return &State{live: maps.Clone(s.live), lost: maps.Clone(s.lost), altered: maps.Clone(s.altered), kinds: slices.Clone(s.kinds),
		size: s.size, sealed: s.sealed, bootID: s.bootID}
}

// Apply takes the next record of the log in. A record that cannot follow changes nothing and is an error:
// a grant whose id is not its seq or is held already, the end of a hold that is not there, a checkpoint
// that is cut short. A checkpoint record empties the state; its held records fill it again.
func (s *State) Apply(r *Record) error {
	size := 0
	if adds(r.Event) {
		size = len(AppendLine(nil, r))
	}
	return s.apply(r, size)
}

func adds(e Event) bool { return e == EventGrant || e == EventHeld || e == EventResume }

// apply is Apply for a caller that knows how many bytes the line of a grant, held or resume record has.
func (s *State) apply(r *Record, size int) error {
	if s.owed > 0 && r.Event != EventHeld && r.Event != EventCheckpoint {
		return fmt.Errorf("apply %s record %d: %d held records of the checkpoint are missing", r.Event, r.Seq, s.owed)
	}
	switch r.Event {
	case EventCheckpoint:
		clear(s.live)
		clear(s.lost)
		clear(s.altered)
		s.size, s.owed, s.sealed, s.bootID = 0, r.Count, r.Count == 0, r.BootID
		return nil
	case EventHeld:
		if s.owed == 0 {
			return fmt.Errorf("apply held record %d: no checkpoint before it", r.Seq)
		}
		if s.find(r.ID) != nil || r.ID == 0 || r.ID >= r.Seq {
			return fmt.Errorf("apply held record %d: id %d cannot be", r.Seq, r.ID)
		}
		s.owed--
		s.sealed = s.owed == 0
		s.add(s.keep(r, size))
		s.alter(r, r.Altered)
		return nil
	case EventGrant:
		if r.ID != r.Seq || s.find(r.ID) != nil {
			return fmt.Errorf("apply grant record %d: id %d cannot be", r.Seq, r.ID)
		}
		s.add(s.keep(r, size))
		return nil
	case EventResume:
		return s.resume(r, size)
	case EventRelease, EventExpire, EventBreak, EventDeath, EventLost:
		k := s.live[r.ID]
		if k == nil {
			return fmt.Errorf("apply %s record %d: no hold %d", r.Event, r.Seq, r.ID)
		}
		switch {
		case r.Event == EventLost:
			s.replace(k, k.state&^stateEnding|stateLost)
		case r.Grace > 0 && (r.Event == EventExpire || r.Event == EventBreak):
			s.replace(k, k.state|stateEnding)
		default:
			s.drop(k)
			s.unalter(k.id)
		}
	case EventAltered:
		if s.live[r.ID] == nil {
			return fmt.Errorf("apply altered record %d: no hold %d", r.Seq, r.ID)
		}
		s.alter(r, r.Time)
	case EventCleared:
		k := s.lost[r.ID]
		if k == nil {
			return fmt.Errorf("apply cleared record %d: no lost hold %d", r.Seq, r.ID)
		}
		s.drop(k)
		s.unalter(k.id)
	}
	return nil
}

// resume says that a hold is held again, perhaps by another session, or resting on other locks. With a path
// it describes the hold anew; without one nothing about it has changed.
func (s *State) resume(r *Record, size int) error {
	old := s.find(r.ID)
	switch {
	case r.ID == 0 || r.ID > r.Seq:
		return fmt.Errorf("apply resume record %d: id %d cannot be", r.Seq, r.ID)
	case old == nil && r.Path == "":
		return fmt.Errorf("apply resume record %d: no hold %d", r.Seq, r.ID)
	case r.Path == "":
		s.replace(old, old.state&^stateLost)
		return nil
	}
	k := s.keep(r, size)
	if old != nil {
		k.time, k.boot, k.state = old.time, old.boot, k.state|old.state&stateEnding
		s.drop(old)
	}
	s.add(k)
	return nil
}

func (s *State) find(id uint64) *kept {
	if k := s.live[id]; k != nil {
		return k
	}
	return s.lost[id]
}

func (s *State) add(k *kept) {
	if k.state&stateLost != 0 {
		s.lost[k.id] = k
	} else {
		s.live[k.id] = k
	}
	s.size += int64(k.size) * sizeUnit
}

func (s *State) drop(k *kept) {
	delete(s.live, k.id)
	delete(s.lost, k.id)
	s.size -= int64(k.size) * sizeUnit
}

// replace puts a changed copy in k's place: a State made by clone may share k.
func (s *State) replace(k *kept, state uint8) {
	next := *k
	next.state = state
	s.drop(k)
	s.add(&next)
}

// Holds returns the live holds, sorted by id.
func (s *State) Holds() []Hold { return s.sorted(s.live) }

// IDs returns the ids of the live holds, sorted. With Get that takes less memory than Holds.
func (s *State) IDs() []uint64 { return slices.Sorted(maps.Keys(s.live)) }

// Lost returns the holds that could not be had again, sorted by id.
func (s *State) Lost() []Hold { return s.sorted(s.lost) }

// Get returns the live hold with that id.
func (s *State) Get(id uint64) (Hold, bool) {
	k := s.live[id]
	if k == nil {
		return Hold{}, false
	}
	return s.hold(k), true
}

// BootID returns the kernel's boot id in the last checkpoint, "" if that does not say: it is of a version before.
func (s *State) BootID() string { return s.bootID }

// Len returns how many holds are live.
func (s *State) Len() int { return len(s.live) }

func (s *State) sorted(m map[uint64]*kept) []Hold {
	holds := make([]Hold, 0, len(m))
	for _, id := range slices.Sorted(maps.Keys(m)) {
		holds = append(holds, s.hold(m[id]))
	}
	return holds
}

// checkpoint calls fn for each hold, live or lost, by id.
func (s *State) checkpoint(fn func(k *kept)) {
	ids := make([]uint64, 0, len(s.live)+len(s.lost))
	for id := range s.live {
		ids = append(ids, id)
	}
	for id := range s.lost {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		fn(s.find(id))
	}
}

// inBoot takes the state to another boot, where the clocks are at wall and boot: all holds that are older are as much
// older by the one as by the other.
func (s *State) inBoot(id string, wall time.Time, boot time.Duration) {
	if id == s.bootID {
		return
	}
	s.bootID = id
	if id == "" {
		return
	}
	for _, holds := range []map[uint64]*kept{s.live, s.lost} {
		for _, k := range holds {
			if k.time == noTime {
				continue
			}
			next := *k // a State made by clone may share k
			next.boot = int64(boot - wall.Sub(timeOf(k.time)))
			holds[k.id] = &next
		}
	}
}

// differs returns the lowest id of a hold that is not the same in both states, 0 if they are equal. In another boot the same
// hold has another boot clock.
func (s *State) differs(o *State) uint64 {
	anotherBoot := s.bootID != o.bootID
	var least uint64
	note := func(id uint64) {
		if least == 0 || id < least {
			least = id
		}
	}
	s.checkpoint(func(k *kept) {
		if other := o.find(k.id); other == nil || !k.equal(other, anotherBoot) || !s.altered[k.id].equal(o.altered[k.id]) {
			note(k.id)
		}
	})
	o.checkpoint(func(k *kept) {
		if s.find(k.id) == nil {
			note(k.id)
		}
	})
	return least
}
