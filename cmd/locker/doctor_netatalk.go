package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

// netatalkReport is what there is of netatalk.
type netatalkReport struct {
	running bool
	afpd    string   // its path; "" if it is not there
	serves  []string // the programs that it is, as far as they are known
	config  string   // afp.conf; "" if none was found
	err     error    // why it could not be read
	volumes []volume
}

func (n *netatalkReport) present() bool { return n.running || n.afpd != "" }

// volume is one of afp.conf's.
type volume struct {
	name  string
	path  string
	bases *regexp.Regexp // of [Homes]
	place place
}

func (d *doctor) lookAtNetatalk(ctx context.Context) netatalkReport {
	n := netatalkReport{running: d.runs("afpd"), afpd: d.programs.find("afpd")}
	if n.afpd == "" {
		for _, path := range []string{"/usr/local/netatalk/sbin/afpd", "/usr/lib/netatalk/afpd"} {
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
				n.afpd = path
				break
			}
		}
	}
	if !n.present() {
		return n
	}
	n.serves = d.serverPrograms("afpd", n.afpd)
	d.readAFP(&n)
	return n
}

// readAFP reads the first afp.conf that is there.
func (d *doctor) readAFP(n *netatalkReport) {
	for _, path := range d.afpConfs {
		text, err := readBounded(path, maxConfigFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		n.config, n.err = path, err
		if err == nil {
			n.volumes, n.err = parseAFP(string(text))
		}
		break
	}
}

var errAFPInclude = errors.New("it includes other files, which are not read")

// parseAFP gives the volumes of an afp.conf(5), which is an INI file. $u and the like in paths are taken for one component.
func parseAFP(text string) ([]volume, error) {
	var volumes []volume
	var sec map[string]string
	name := ""
	end := func() {
		if v, ok := afpVolume(name, sec); ok {
			volumes = append(volumes, v)
		}
	}
	var incomplete error
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "", line[0] == ';', line[0] == '#':
		case line[0] == '[' && strings.HasSuffix(line, "]"):
			end()
			name, sec = strings.TrimSpace(line[1:len(line)-1]), map[string]string{}
		default:
			key, value, ok := strings.Cut(line, "=")
			if !ok {
				continue
			}
			key = plainName(strings.TrimSpace(key))
			if key == "include" {
				incomplete = errAFPInclude
			}
			if sec != nil {
				sec[key] = strings.Trim(strings.TrimSpace(value), `"`)
			}
		}
	}
	end()
	return volumes, incomplete
}

// afpVolume makes a volume of a section that is one.
func afpVolume(name string, sec map[string]string) (volume, bool) {
	v := volume{name: name, path: sec["path"]}
	switch {
	case strings.EqualFold(name, "homes"):
		v.path = sec["basedirregex"]
		if v.path == "" {
			return v, false
		}
		bases, err := regexp.Compile(`(?s)^(?:` + v.path + `)(/.*)?$`)
		if err == nil { // else it may be anywhere
			v.bases = bases
		}
		return v, true
	case name == "", strings.EqualFold(name, "global"), v.path == "":
		return v, false
	}
	v.place, _ = placeOf(strings.ReplaceAll(v.path, "$", "%"))
	return v, true
}

func (v *volume) serves(path string) bool {
	if strings.EqualFold(v.name, "homes") {
		return v.bases == nil || v.bases.MatchString(path)
	}
	return v.place.has(path) || v.place.under(path)
}

// volumes names the volumes that serve the path; one without a name when that is not known.
func (p *pathReport) volumes(n *netatalkReport) []string {
	if n.config == "" || n.err != nil && len(n.volumes) == 0 {
		return []string{""}
	}
	var names []string
	for _, v := range n.volumes {
		if v.serves(p.path) || p.real != "" && v.serves(p.real) {
			names = append(names, v.name)
		}
	}
	if len(names) == 0 && n.err != nil { // it may be in what was not read
		return []string{""}
	}
	return names
}
