package main

import (
	"path/filepath"
	"strings"
	"testing"

	"locker/client"
)

func bundleHeld(path string, rests client.Rest) held {
	return held{client.Hold{Path: path, Rests: rests}, kindBundle}
}

// Whom the hold keeps out in part, doctor tells; at lock time only those are named whom it does not keep out of anything.
func TestAHoldNamesTheSharesThatItDoesNotKeepOut(t *testing.T) {
	const all = client.RestOFD | client.RestFlock | client.RestIdle
	on := guarding{state: client.GuardOn, programs: []string{"/usr/sbin/smbd"}}
	for _, tt := range []struct {
		share string
		rests client.Rest
		guard guarding
		warns bool
	}{
		{"tm", all, guarding{}, true},
		{"tm", all, on, true}, // it could not guard this one
		{"tm", all | client.RestGuard, on, false},
		{"tm", all | client.RestGuard, guarding{state: client.GuardOn, programs: []string{"/usr/sbin/afpd"}}, true},
		{"no-posix", all, guarding{}, true},
		{"lax", all, guarding{}, true},
		{"tm-netatalk", all, guarding{}, false},
		{"netatalk", all, guarding{}, false},
		{"netatalk", client.RestFlock, guarding{}, true},
		{"default", all, guarding{}, false},
		{"off", all, guarding{}, false},
		{"gluster", all | client.RestGuard, on, true},
	} {
		s := testparmSays(t, "four")[tt.share]
		path := s.path + "/mac.sparsebundle"
		samba := &sambaReport{running: true, smbd: []string{"/usr/sbin/smbd"}, shares: []share{s}}
		got := keptOutOfNothing(bundleHeld(path, tt.rests), samba, &netatalkReport{}, tt.guard)
		if (len(got) == 1) != tt.warns {
			t.Errorf("%s, %v, guard %v: %+v", tt.share, tt.rests.Names(), tt.guard.words(), got)
			continue
		}
		if tt.warns {
			if text := sayNoHelp(got[0], 0); !strings.HasPrefix(text, path+": does not keep Samba share "+tt.share+" out: ") || !strings.HasSuffix(text, "; see 'locker doctor'") {
				t.Errorf("says %q", text)
			}
		}
		if got := keptOutOfNothing(bundleHeld(filepath.Join("/elsewhere", path), client.RestFlock), samba, &netatalkReport{}, guarding{}); len(got) != 0 {
			t.Errorf("%s: a bundle that it does not serve: %+v", tt.share, got)
		}
	}
}

// afpd heeds the one kind of lock alone.
func TestAHoldWithoutAnOFDLockNamesTheVolumesThatItDoesNotKeepOut(t *testing.T) {
	v, _ := afpVolume("Macs", map[string]string{"path": "/srv/mac"})
	n := &netatalkReport{running: true, serves: []string{"/usr/sbin/afpd"}, config: "/etc/afp.conf", volumes: []volume{v}}
	on := guarding{state: client.GuardOn, programs: []string{"/usr/sbin/afpd"}}
	for _, tt := range []struct {
		path  string
		rests client.Rest
		warns bool
	}{
		{"/srv/mac/a.sparsebundle", client.RestOFD | client.RestFlock, false},
		{"/srv/mac/a.sparsebundle", client.RestFlock | client.RestIdle, true},
		{"/srv/mac/a.sparsebundle", client.RestFlock | client.RestGuard, false},
		{"/srv/other/a.sparsebundle", client.RestFlock, false},
	} {
		got := keptOutOfNothing(bundleHeld(tt.path, tt.rests), &sambaReport{}, n, on)
		if (len(got) == 1) != tt.warns {
			t.Errorf("%s, %v: %+v", tt.path, tt.rests.Names(), got)
		}
		for _, v := range got {
			if text := sayNoHelp(v, 0); !strings.Contains(text, ": does not keep netatalk") || !strings.Contains(text, "flock") {
				t.Errorf("says %q", text)
			}
		}
	}
}
