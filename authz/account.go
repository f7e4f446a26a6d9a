package authz

import (
	"fmt"
	"strconv"
	"strings"
)

// AccountPeer makes a peer of a user of the system for "policy explain": user and
// groups are names or decimal ids. With hasGroups the supplementary groups are
// those given; without, those of the database. What a process of that user really
// has comes from the kernel and may differ.
func AccountPeer(user string, hasGroups bool, groups []string) (Peer, error) {
	return userFiles{"/etc/passwd", "/etc/group"}.peer(user, hasGroups, groups)
}

func (f userFiles) peer(user string, hasGroups bool, groups []string) (Peer, error) {
	uid, gid, name, err := f.login(user)
	if err != nil {
		return Peer{}, err
	}
	var gids []uint32
	if hasGroups {
		for _, g := range groups {
			id, err := f.GID(g)
			if err != nil {
				n, numErr := strconv.ParseUint(g, 10, 32)
				if numErr != nil {
					return Peer{}, err
				}
				id = uint32(n)
			}
			gids = append(gids, id)
		}
	} else if name != "" {
		if gids, err = f.groupsOf(name); err != nil {
			return Peer{}, err
		}
	}
	peer := PeerFor(uid, gid, gids)
	if !peer.Known() {
		return Peer{}, fmt.Errorf("user %q: uid %d, gid %d stand for nobody in particular", user, uid, gid)
	}
	return peer, nil
}

// login finds a user by name or number. A number that the database lacks has its
// own number as gid and no name.
func (f userFiles) login(user string) (uid, gid uint32, name string, err error) {
	all, err := accounts(f.passwd)
	if err != nil {
		return 0, 0, "", err
	}
	n, numErr := strconv.ParseUint(user, 10, 32)
	for _, byNumber := range []bool{false, true} {
		for _, a := range all {
			if !byNumber && a.name == user || byNumber && numErr == nil && a.id == uint32(n) {
				primary, _, _ := strings.Cut(a.rest, ":")
				g, err := strconv.ParseUint(primary, 10, 32)
				if err != nil {
					return 0, 0, "", fmt.Errorf("user %q: gid %q in %s is not a number", user, primary, f.passwd)
				}
				return a.id, uint32(g), a.name, nil
			}
		}
	}
	if numErr == nil {
		return uint32(n), uint32(n), "", nil
	}
	var names []string
	for _, a := range all {
		names = append(names, a.name)
	}
	return 0, 0, "", fmt.Errorf("unknown user %q%s", user, suggest(user, names, ""))
}

// groupsOf lists the groups that have name as a member.
func (f userFiles) groupsOf(name string) ([]uint32, error) {
	all, err := accounts(f.group)
	if err != nil {
		return nil, err
	}
	var gids []uint32
	for _, g := range all {
		for member := range strings.SplitSeq(strings.TrimSuffix(g.rest, "\r"), ",") {
			if member == name {
				gids = append(gids, g.id)
				break
			}
		}
	}
	return gids, nil
}
