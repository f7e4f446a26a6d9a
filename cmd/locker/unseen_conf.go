package main

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"locker/client"
)

// Whether it is worth asking whom a hold keeps out, as the text of the configuration has it: in less than a millisecond, where
// testparm(1) takes 50. It is no verdict. What testparm would say that matters is never missed, and what is in doubt is asked.

// mayServe reports whether Samba, and whether netatalk, may serve one of the holds that are not of bundles and be kept out of nothing by it.
func (d *doctor) mayServe(ctx context.Context, all []held) (smb, afp bool) {
	var heeded, unheeded []string // by whoever looks for locks; flock's locks are by no server
	for _, h := range all {
		switch {
		case h.isBundle():
		case h.Rests&client.RestOFD != 0:
			heeded = append(heeded, h.Path)
		default:
			unheeded = append(unheeded, h.Path)
		}
	}
	found := 0
	for _, conf := range d.smbConfs {
		text, err := readBounded(conf, maxConfigFile)
		t := readSmbConf(string(text))
		switch {
		case errors.Is(err, syscall.EFBIG):
			t.more, t.deaf = true, true
		case err != nil: // it is not there, or testparm cannot read it either
			if !errors.Is(err, fs.ErrNotExist) {
				found++
			}
			continue
		}
		found++
		if t.homes {
			s := share{homes: true}
			homes, _ := homeDirs(d.passwd)
			s.settle(homes)
			t.shares = append(t.shares, s)
		}
		paths := unheeded
		if t.deaf {
			paths = slices.Concat(heeded, unheeded)
		}
		smb = smb || len(paths) > 0 && (t.more || d.anyServes(ctx, t.shares, paths))
	}
	smb = smb || found == 0 && d.programs.find("testparm") != "" // which knows where its own is
	if len(unheeded) > 0 {                                       // the others keep afpd out
		var n netatalkReport
		d.readAFP(&n)
		afp = slices.ContainsFunc(unheeded, func(path string) bool {
			p := pathReport{path: path}
			return slices.ContainsFunc(p.volumes(&n), func(name string) bool { return name != "" })
		})
	}
	return smb, afp
}

// anyServes follows links only where nobody serves a path by its name. Whether an smbd runs would take longer to find out.
func (d *doctor) anyServes(ctx context.Context, shares []share, paths []string) bool {
	serves := func() bool {
		return slices.ContainsFunc(shares, func(s share) bool { return slices.ContainsFunc(paths, s.serves) })
	}
	if serves() {
		return true
	}
	d.followLinks(ctx, shares)
	return serves()
}

// smbText is what the text of an smb.conf tells.
type smbText struct {
	shares []share // their places alone
	homes  bool    // [homes] is one
	more   bool    // there may be others that are not in this text
	deaf   bool    // it may have one of the settings that make a share deaf to ofd locks: see judgeLocks
}

// readSmbConf reads an smb.conf(5) as far as that goes without being testparm. Who inherits what from whom is not looked at: a path or
// a setting anywhere counts. A line that goes on in the next is one in doubt, if it matters.
func readSmbConf(text string) (t smbText) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		goesOn := strings.HasSuffix(line, `\`)
		if line[0] == '[' {
			name, _, closed := strings.Cut(line[1:], "]")
			t.homes = t.homes || plainName(name) == "homes"
			if !closed {
				t.more, t.deaf = true, true
			}
			continue
		}
		name, value, given := strings.Cut(line, "=")
		name, value = plainName(name), strings.TrimSpace(value)
		matters := !given
		switch name {
		case "path", "directory":
			matters = true
			if value = unquoted(value); value != "" {
				p, _ := placeOf(value) // %S in it stands for any name: the section may be copied
				t.shares = append(t.shares, share{places: []place{p}})
			}
		case "include", "configfile", "configbackend", "registryshares":
			matters = true
			if !slices.Contains([]string{"", "no", "false", "off", "0", "file"}, strings.ToLower(value)) {
				t.more, t.deaf = true, true
			}
		case "locking", "posixlocking", "strictlocking", "fruit:timemachine":
			matters, t.deaf = true, true
		case "vfsobjects", "vfsobject":
			matters = true
			t.deaf = t.deaf || slices.ContainsFunc(pastKernel(), func(module string) bool { return strings.Contains(value, module) })
		}
		if goesOn && matters {
			t.more, t.deaf = true, true
		}
	}
	return t
}
