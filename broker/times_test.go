package broker

import "locker/audit"

// readsLate has a broker wait for a client that reads nothing as long as a test does.
func readsLate(r *rig) {
	r.alter = func(_ *audit.Config, c *Config) { c.times.write = patience }
}

// asLockerd has a broker wait for its guard, and for a slot to open files in, no longer than lockerd does.
func asLockerd(r *rig) {
	r.alter = func(_ *audit.Config, c *Config) { c.times = theTimes }
}
