package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
)

// Which paths a share serves.

// place is a share's path, cut at its macros.
type place struct {
	pieces []piece
	fixed  string // the directories before the first macro; clean, "" if there are none
}

// piece is some bytes, or what a macro stands for.
type piece struct {
	text string
	any  bool // a macro that stands for a path, or for a part of one
	part bool // a macro that stands for one component, or for a part of one
}

// wholePath are the macros that stand for more than a component: smb.conf(5), "VARIABLE SUBSTITUTIONS".
const wholePath = "HPp$"

// placeOf cuts a path, and names the macros in it. Clean does no harm to macros: none of Samba's has a '/' in its own name.
func placeOf(path string) (place, []string) {
	path = filepath.Clean(path)
	var p place
	var macros []string
	for rest := path; rest != ""; {
		at := strings.IndexByte(rest, '%')
		if at < 0 || at == len(rest)-1 {
			p.pieces = append(p.pieces, piece{text: rest})
			break
		}
		if at > 0 {
			p.pieces = append(p.pieces, piece{text: rest[:at]})
		}
		end := at + 2
		if rest[at+1] == '$' { // %$(VARIABLE)
			if n := strings.IndexByte(rest[at:], ')'); n > 0 {
				end = at + n + 1
			}
		}
		if m := rest[at:end]; !slices.Contains(macros, m) {
			macros = append(macros, m)
		}
		whole := strings.IndexByte(wholePath, rest[at+1]) >= 0
		p.pieces = append(p.pieces, piece{any: whole, part: !whole})
		rest = rest[end:]
	}
	switch {
	case len(macros) == 0:
		p.fixed = path
	case p.pieces[0].text != "":
		p.fixed = filepath.Clean(p.pieces[0].text[:strings.LastIndexByte(p.pieces[0].text, '/')+1])
	}
	if path == "/" {
		p.pieces = nil
	}
	return p, macros
}

// has reports whether path is the place or in it, with some value for each macro.
func (p *place) has(path string) bool {
	at := make([]bool, len(path)+1) // how much of path the pieces so far can have matched
	at[0] = true
	for _, piece := range p.pieces {
		next := make([]bool, len(path)+1)
		for i := range at {
			switch {
			case !at[i]:
			case piece.any:
				for j := i; j <= len(path); j++ {
					next[j] = true
				}
			case piece.part:
				for j := i; j <= len(path) && !next[j]; j++ {
					next[j] = true
					if j < len(path) && path[j] == '/' {
						break
					}
				}
			case strings.HasPrefix(path[i:], piece.text):
				next[i+len(piece.text)] = true
			}
			if piece.any && at[i] {
				break
			}
		}
		at = next
	}
	for i, reached := range at {
		if reached && (i == len(path) || path[i] == '/') {
			return true
		}
	}
	return false
}

// under reports whether the place is in path, or can be.
func (p *place) under(path string) bool { return p.fixed != "" && below(p.fixed, path) }

// settle says where the share's files are.
func (s *share) settle(homes []string) {
	switch {
	case s.homes && s.path == "":
		for _, home := range homes {
			p, _ := placeOf(strings.ReplaceAll(home, "%", "%%"))
			s.places = append(s.places, p)
		}
	case s.path != "":
		path := unquoted(s.path)
		if !s.homes { // there it is the user
			path = strings.ReplaceAll(path, "%S", s.name)
		}
		p, macros := placeOf(path)
		s.places, s.macros = []place{p}, macros
	}
}

// unquoted is a value as Samba takes it: testparm prints it as it was written. lp_string in loadparm.c.
func unquoted(value string) string {
	if bare := strings.Trim(value, `"`); !strings.Contains(bare, `"`) {
		return bare
	}
	return value
}

// followLinks adds where shares are whose paths lead through symbolic links. The part behind a macro is not followed.
func (d *doctor) followLinks(ctx context.Context, shares []share) {
	text, err := d.mountinfo()
	if err != nil {
		return
	}
	mounts := parseMounts(string(text))
	more := make([][]place, len(shares))
	if !inTime(ctx, d.patience, func() {
		for i, s := range shares {
			for _, p := range s.places {
				real, err := resolve(mounts, p.fixed, d.euid)
				if err != nil || p.fixed == "" || real == p.fixed {
					continue
				}
				q := place{fixed: real, pieces: slices.Clone(p.pieces)}
				q.pieces[0].text = strings.TrimSuffix(real, "/") + strings.TrimPrefix(q.pieces[0].text, p.fixed)
				more[i] = append(more[i], q)
			}
		}
	}) {
		return
	}
	for i := range shares {
		shares[i].places = append(shares[i].places, more[i]...)
	}
}

func (s *share) serves(path string) bool {
	return slices.ContainsFunc(s.places, func(p place) bool { return p.has(path) || p.under(path) })
}

// shares gives those that serve the path, by its name or by the one without symbolic links, or something in it.
func (p *pathReport) shares(all []share) []share {
	var some []share
	for _, s := range all {
		if s.serves(p.path) || p.real != "" && s.serves(p.real) {
			some = append(some, s)
		}
	}
	return some
}
