package main

import (
	"context"
	"time"

	"locker/client"
)

// unseenPatience bounds what a lock of a bundle costs when whom it does not keep out is looked for: testparm takes about 50 ms.
const unseenPatience = time.Second

// warnUnseen says of locks on bundles, which were granted, whom they keep out of nothing, as far as that can be found out in a moment.
// What a lock keeps out more than nothing is for 'locker doctor' to say.
func (c *cli) warnUnseen(ctx context.Context, conn *client.Client, holds []client.Hold) {
	var bundles []client.Hold
	for _, h := range holds {
		if isBundle(h.Path) {
			bundles = append(bundles, h)
		}
	}
	if len(bundles) == 0 {
		return
	}
	ctx, stop := context.WithTimeout(ctx, unseenPatience)
	defer stop()
	guard, _ := askGuard(ctx, conn) // of a lockerd that does not answer so soon nothing is said
	for _, h := range bundles {
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
	if !d.runs("smbd") {
		return
	}
	samba := d.lookAtSamba(ctx)
	for _, h := range bundles {
		for _, v := range keptOutOfNothing(h, &samba, guard) {
			c.say.warning(sayNoHelp(v))
		}
	}
}

// keptOutOfNothing gives the shares that serve a held bundle and that the hold does not keep out at all.
func keptOutOfNothing(h client.Hold, samba *sambaReport, guard guarding) (none []verdictOn) {
	w := worth{ofd: keptNo, why: whyFlockAlone}
	if h.Rests&client.RestOFD != 0 {
		w = usual()
	}
	if h.Rests&client.RestGuard != 0 && guard.denies("smbd", samba.smbd) {
		w.guard = guardsBundle
	}
	p := pathReport{path: h.Path}
	for _, s := range p.shares(samba.shares) {
		if v := judgeShare(h.Path, s, w); v.kept == keptNo {
			none = append(none, v)
		}
	}
	return none
}
