package main

import (
	"context"
	"os"
	"slices"
	"time"

	"locker/client"
)

// unseenPatience bounds what a lock costs when whom it does not keep out is looked for: testparm takes about 50 ms.
const unseenPatience = time.Second

// warnUnseen says of locks, which were granted, whom they keep out of nothing, as far as that can be found out in a moment.
// What a lock keeps out more than nothing is for 'locker doctor' to say.
func (c *cli) warnUnseen(ctx context.Context, conn *client.Client, holds []client.Hold) {
	c.out.Flush() // what is held must be said, whatever becomes of us while we look; main finds the error
	ctx, stop := context.WithTimeout(ctx, unseenPatience)
	defer stop()
	all := heldOf(ctx, holds)
	var guard guarding
	if slices.ContainsFunc(all, held.isBundle) {
		guard, _ = askGuard(ctx, conn) // of a lockerd that does not answer so soon nothing is said
	}
	for _, h := range all {
		if !h.isBundle() {
			continue
		}
		guarded := h.Rests&client.RestGuard != 0
		if len(guard.programs) > 0 && !guarded {
			c.say.warning(sayUnguarded(h.Path, guard))
		}
		if !guarded && h.Rests&client.RestIdle == 0 {
			c.say.warning(sayUnseen(h.Path))
		}
	}
	d := newDoctor()
	d.patience = unseenPatience
	for _, text := range d.unseen(ctx, all, guard) {
		c.say.warning(text)
	}
}

// held is a hold, and what it is of: a file, a directory or a bundle.
type held struct {
	client.Hold
	kind kind
}

// heldOf looks what the holds are of; nil if that takes too long, as where a server does not answer. What the guard guards is a bundle,
// though it may be in a place that is not for us to look into.
func heldOf(ctx context.Context, holds []client.Hold) []held {
	all := make([]held, len(holds))
	if !inTime(ctx, unseenPatience, func() {
		for i, h := range holds {
			all[i] = held{h, kindFile}
			if h.Rests&client.RestGuard != 0 || isBundle(h.Path) {
				all[i].kind = kindBundle
			} else if h.Rests&client.RestOFD == 0 { // no directory has such a lock
				if info, err := os.Lstat(h.Path); err == nil && info.IsDir() {
					all[i].kind = kindDirectory
				}
			}
		}
	}) {
		return nil
	}
	return all
}

func (h held) isBundle() bool { return h.kind == kindBundle }

// unseen gives the warnings about the shares and volumes that serve what is held. Who holds no bundle pays for testparm only
// where a share may serve it: see mayServe.
func (d *doctor) unseen(ctx context.Context, all []held, guard guarding) (warnings []string) {
	smb, afp := true, true
	if !slices.ContainsFunc(all, held.isBundle) && !inTime(ctx, d.patience, func() { smb, afp = d.mayServe(ctx, all) }) {
		return nil
	}
	var samba sambaReport
	var netatalk netatalkReport
	if smb && d.runs("smbd") {
		samba = d.lookAtSamba(ctx)
	}
	if afp && d.runs("afpd") {
		netatalk = d.lookAtNetatalk(ctx)
	}
	var told []verdictOn // of the first path that each is of,
	var more []int       // and of how many more
	for _, h := range all {
		none := keptOutOfNothing(h, &samba, &netatalk, guard)
		if h.kind == kindDirectory && len(none) > 0 { // it is the files in it that are served, and locked by nobody: one word is enough
			warnings = append(warnings, sayNoHelpDirectory(none[0]))
			continue
		}
		for _, v := range none { // one line for each share, however many files a set has
			same := func(o verdictOn) bool { return o.server == v.server && o.name == v.name && o.why == v.why }
			if i := slices.IndexFunc(told, same); i >= 0 {
				more[i]++
			} else {
				told, more = append(told, v), append(more, 0)
			}
		}
	}
	for i, v := range told {
		warnings = append(warnings, sayNoHelp(v, more[i]))
	}
	return warnings
}

// keptOutOfNothing gives the shares and volumes that serve what is held and that the hold does not keep out at all. What may be in
// an afp.conf that could not be read is named for bundles alone.
func keptOutOfNothing(h held, samba *sambaReport, netatalk *netatalkReport, guard guarding) (none []verdictOn) {
	against := func(program string, serves []string) worth {
		w := worth{ofd: keptNo, why: whyFlockAlone}
		if h.Rests&client.RestOFD != 0 {
			w = usual()
		}
		switch {
		case !h.isBundle():
			w.guard = guardsNever
		case h.Rests&client.RestGuard != 0 && guard.denies(program, serves):
			w.guard = guardsBundle
		}
		return w
	}
	p := pathReport{path: h.Path}
	var all []verdictOn
	for _, s := range p.shares(samba.shares) {
		all = append(all, judgeShare(h.Path, s, against("smbd", samba.smbd)))
	}
	if netatalk.present() {
		for _, name := range p.volumes(netatalk) {
			if name != "" || h.isBundle() {
				all = append(all, judgeNetatalk(h.Path, name, against("afpd", netatalk.serves)))
			}
		}
	}
	return slices.DeleteFunc(all, func(v verdictOn) bool { return v.kept != keptNo })
}
