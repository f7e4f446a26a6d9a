package main

import "strconv"

// object is the examination as JSON.
func (e *examination) object() *object {
	o := &object{}
	o.open('{')
	o.key("paths")
	o.open('[')
	for i := range e.paths {
		e.paths[i].write(o)
	}
	o.close(']')
	e.samba.write(o)
	e.netatalk.write(o)
	e.lockerd.write(o)
	o.key("guard")
	o.open('{')
	o.text("permission_events", e.guard.kernel.String())
	o.path("source", e.guard.source)
	e.lockerd.guard.fields(o)
	o.close('}')
	o.key("kernel")
	o.open('{')
	o.text("release", e.kernel.release)
	for _, f := range e.kernel.features() {
		o.text(f.name, f.kept.String())
	}
	o.close('}')
	o.key("verdicts")
	o.open('[')
	for _, v := range e.verdicts {
		o.open('{')
		o.path("path", v.path)
		o.text("server", v.server)
		o.path("name", v.name)
		o.text("kept_out", v.kept.String())
		o.text("why", v.why)
		o.list("gets_through", append([]string{}, v.past...))
		o.close('}')
	}
	o.close(']')
	o.list("problems", append([]string{}, e.problems...))
	o.fact("fine", e.fine())
	o.close('}')
	return o
}

func (p *pathReport) write(o *object) {
	o.open('{')
	o.path("path", p.path)
	o.path("real", p.real)
	o.text("kind", p.kind.String())
	o.path("target", p.target)
	o.list("engines", append([]string{}, p.engines...))
	o.text("engines_why", p.only)
	o.fact("answers", !p.silent)
	o.key("file_system")
	o.open('{')
	m := p.mount
	if m == nil {
		m = &mount{}
	}
	o.text("type", m.fstype)
	o.number("f_type", uint64(uint32(p.magic)))
	o.text("f_type_name", typeName(p.magic))
	o.path("device", m.source)
	o.path("mount_point", m.point)
	o.list("options", append([]string{}, m.options...))
	o.text("fuse", m.fuse())
	o.fact("network", m.network())
	o.fact("read_only", m.readOnly())
	o.close('}')
	o.key("self_test")
	o.open('{')
	o.fact("done", p.test.done)
	o.text("why", p.test.why)
	o.path("directory", p.test.dir)
	o.text("ofd", p.test.ofd.outcome.String())
	o.text("flock", p.test.flock.outcome.String())
	o.text("netatalk", p.test.netatalk.outcome.String())
	o.fact("separate", p.test.separate)
	o.fact("lease", p.test.lease.outcome == outcomeExcludes)
	o.close('}')
	o.close('}')
}

func (s *sambaReport) write(o *object) {
	o.key("samba")
	o.open('{')
	o.fact("running", s.running)
	o.path("testparm", s.testparm)
	o.text("error", errorText(s.err))
	o.key("shares")
	o.open('[')
	for _, sh := range s.shares {
		o.open('{')
		o.path("name", sh.name)
		o.path("path", sh.path)
		o.list("macros", append([]string{}, sh.macros...))
		o.fact("available", sh.available)
		o.list("vfs_objects", append([]string{}, sh.objects...))
		o.fact("fruit", sh.fruit)
		o.text("fruit_locking", sh.fruitLocks)
		o.fact("fruit_time_machine", sh.timeMachine)
		o.fact("locking", sh.locking)
		o.fact("posix_locking", sh.posix && !sh.forced()) // in force
		o.text("strict_locking", sh.strict)
		o.fact("kernel_oplocks", sh.kernel && !sh.forced())
		o.close('}')
	}
	o.close(']')
	o.close('}')
}

func (n *netatalkReport) write(o *object) {
	o.key("netatalk")
	o.open('{')
	o.fact("running", n.running)
	o.path("afpd", n.afpd)
	o.path("config", n.config)
	o.text("error", errorText(n.err))
	o.key("volumes")
	o.open('[')
	for _, v := range n.volumes {
		o.open('{')
		o.path("name", v.name)
		o.path("path", v.path)
		o.close('}')
	}
	o.close(']')
	o.close('}')
}

func (r *lockerdReport) write(o *object) {
	o.key("lockerd")
	o.open('{')
	o.fact("reachable", r.status != nil)
	o.text("error", errorText(r.err))
	if s := r.status; s != nil {
		o.key("status")
		o.raw(string(statusObject(s, r.guard).b))
	}
	o.path("state_dir", r.stateDir)
	o.key("state_free")
	if r.stateDir != "" && r.spaceErr == nil {
		o.raw(strconv.FormatUint(r.free, 10))
	} else {
		o.raw("null")
	}
	o.fact("policy_checked", r.checked)
	o.text("policy_check_error", errorText(r.checkErr))
	o.close('}')
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
