package flock

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// client gives whom the process that has the file is said to work for.
func client(t testing.TB, id ID) netip.Addr {
	t.Helper()
	holders := outside(t, id)
	if len(holders) != 1 {
		t.Fatalf("%+v, want one", holders)
	}
	return holders[0].Client
}

func TestTheOneClientOfAServersProcessIsNamed(t *testing.T) {
	path := newFile(t, publicDir(t)+"/file")
	f := open(t, newOpener(t, path), path)
	ours, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ours.Close()
	for _, c := range []struct {
		listen, from string
		want         string
	}{
		{"127.0.0.1:0", "", ""},
		{"127.0.0.1:0", "127.0.0.1", "127.0.0.1"},
		{"127.0.0.1:0", "127.0.0.1 127.0.0.1", "127.0.0.1"},
		{"0.0.0.0:0", "127.0.0.3", "127.0.0.3"},
		{"0.0.0.0:0", "127.0.0.3 127.0.0.4", ""}, // whose it is that has the file open is not known
		{"[::1]:0", "::1", "::1"},
		{"[::]:0", "127.0.0.5", "127.0.0.5"}, // ::ffff:127.0.0.5 to the kernel
	} {
		p := newOutsider(t)
		p.does("open", "rw", path)
		p.does("flock", "exclusive")
		p.does("dial", ours.Addr().String()) // whom it has called itself is nobody's client
		at := p.ask("listen", c.listen)
		if strings.HasPrefix(at, "error") && strings.Contains(c.listen, "::") {
			t.Logf("no IPv6 here: %s", at)
			p.end()
			continue
		}
		port := netip.MustParseAddrPort(at).Port()
		for _, from := range strings.Fields(c.from) {
			to := netip.MustParseAddrPort(at).Addr()
			if a := netip.MustParseAddr(from); to.IsUnspecified() {
				to = a
			}
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
			conn, err := d.Dial("tcp", netip.AddrPortFrom(to, port).String())
			must(t, err)
			defer conn.Close()
			p.does("accept")
		}
		want := netip.Addr{}
		if c.want != "" {
			want = netip.MustParseAddr(c.want)
		}
		var got netip.Addr
		eventually(t, "the search for "+c.want+" is not cut off by its clock", func() bool {
			got = client(t, f.ID)
			return got.IsValid() || !want.IsValid()
		})
		if got != want {
			t.Errorf("listens on %s, connected from %q: %v, want %v", c.listen, c.from, got, want)
		}
		p.does("hang-up")
		if got := client(t, f.ID); got.IsValid() {
			t.Errorf("after it has hung up: %v", got)
		}
		p.end()
	}
}

func TestTablesOfConnectionsThatMakeNoSenseNameNobody(t *testing.T) {
	c := connections{of: map[uint64]bool{7: true}}
	c.read(strings.NewReader(strings.Join([]string{
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
		"   0: 00000000:01BD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1",
		"   1: 0100007F:01BD 0100007F:ZZZZ 01 0:0 0:0 0 0 0 7", "   2: 0100007F:01BD 0100:1234 01 0:0 0:0 0 0 0 7", "3: 01 01 01 0:0 0:0 0 0 0 7",
		"   4: 0100007F:01BD", "", "   5: 0100007F:01BD 010000:1234 01 0:0 0:0 0 0 0 7", "   6: 0100007F:01BD 0200007F:1234 01 0:0 0:0 0 0 0 x",
		"   7: 0100007F:01BD 0200007F:1234 01 0:0 0:0 0 0 0 8",
	}, "\n")), time.Now().Add(time.Hour))
	if got := c.client(); got.IsValid() || len(c.found) != 0 {
		t.Errorf("%v %v", got, c.found)
	}
}
