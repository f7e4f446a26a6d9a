package main

import (
	"context"
	"slices"
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
	var samba sambaReport
	var netatalk netatalkReport
	if d.runs("smbd") {
		samba = d.lookAtSamba(ctx)
	}
	if d.runs("afpd") {
		netatalk = d.lookAtNetatalk(ctx)
	}
	for _, h := range bundles {
		for _, v := range keptOutOfNothing(h, &samba, &netatalk, guard) {
			c.say.warning(sayNoHelp(v))
		}
	}
}

// keptOutOfNothing gives the shares and volumes that serve a held bundle and that the hold does not keep out at all.
func keptOutOfNothing(h client.Hold, samba *sambaReport, netatalk *netatalkReport, guard guarding) (none []verdictOn) {
	against := func(program string, serves []string) worth {
		w := worth{ofd: keptNo, why: whyFlockAlone}
		if h.Rests&client.RestOFD != 0 {
			w = usual()
		}
		if h.Rests&client.RestGuard != 0 && guard.denies(program, serves) {
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
			all = append(all, judgeNetatalk(h.Path, name, against("afpd", netatalk.serves)))
		}
	}
	return slices.DeleteFunc(all, func(v verdictOn) bool { return v.kept != keptNo })
}
