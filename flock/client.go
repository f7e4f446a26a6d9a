package flock

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A file server (smbd, afpd) has a process for each client, and so one connection that came in. Whose it is says more to people than the
// process does. The kernel knows it: the sockets among the descriptors of a process are numbers in the tables of its network.

const (
	clientTime   = 100 * time.Millisecond // for all processes that were found
	clientTables = 4 << 20                // bytes read of each table; those who listen come first
)

// findClients adds, where it can be told, for whom the processes that were found work.
func (s *search) findClients() {
	deadline := time.Now().Add(clientTime)
	known := map[int32]netip.Addr{}
	for i := range s.holders {
		h := &s.holders[i]
		addr, seen := known[h.PID]
		if !seen && h.PID > 0 && time.Now().Before(deadline) {
			addr = clientOf(h.PID, deadline)
		}
		known[h.PID], h.Client = addr, addr
	}
}

// clientOf gives the address from which the process has a TCP connection that it, or who made it, has accepted, if there is just one. What the
// process connected to itself does not count: nobody listens on the port that such a connection has here.
//
// Privileged: the process is an attacker's, and so is what it has open; only proc's own text is read.
func clientOf(pid int32, deadline time.Time) netip.Addr {
	base := "/proc/" + strconv.Itoa(int(pid))
	c := connections{of: socketsOf(base+"/fd", deadline)}
	if len(c.of) == 0 {
		return netip.Addr{}
	}
	for _, table := range []string{"/net/tcp", "/net/tcp6"} {
		if f, err := os.Open(base + table); err == nil {
			c.read(f, deadline)
			f.Close()
		}
	}
	return c.client()
}

// socketsOf gives the numbers of the sockets among a process's descriptors.
//
// Privileged: as clientOf; links are read, not followed.
func socketsOf(dir string, deadline time.Time) map[uint64]bool {
	list, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer list.Close()
	sockets := map[uint64]bool{}
	for seen := 0; seen < outsideDescriptors && time.Now().Before(deadline); {
		names, err := list.Readdirnames(256)
		for _, name := range names {
			seen++
			var link [64]byte
			n, err := unix.Readlinkat(int(list.Fd()), name, link[:])
			number, is := strings.CutPrefix(string(link[:max(n, 0)]), "socket:[")
			if err != nil || !is {
				continue
			}
			if ino, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64); err == nil {
				sockets[ino] = true
			}
		}
		if err != nil {
			break
		}
	}
	return sockets
}

// connections are those of one process.
type connections struct {
	of       map[uint64]bool // its sockets
	listened [1 << 16]bool   // ports on which somebody in its network listens
	found    []connection
}

type connection struct {
	port   uint16 // here
	remote netip.Addr
}

// What /proc/PID/net/tcp says of a socket. include/net/tcp_states.h
const (
	tcpEstablished = "01"
	tcpListen      = "0A"
)

// read takes in a table of sockets. proc_pid_net(5)
func (c *connections) read(table io.Reader, deadline time.Time) {
	lines := bufio.NewScanner(io.LimitReader(table, clientTables))
	for n := 0; lines.Scan(); n++ {
		if n%descriptorsBetweenNow == 0 && time.Now().After(deadline) {
			return
		}
		f := strings.Fields(lines.Text()) // sl local remote st queues timer retransmits uid timeout inode …
		if len(f) < 10 || f[3] != tcpListen && f[3] != tcpEstablished {
			continue
		}
		local, ok := parseEndpoint(f[1])
		if !ok {
			continue
		}
		if f[3] == tcpListen {
			c.listened[local.Port()] = true
			continue
		}
		ino, err := strconv.ParseUint(f[9], 10, 64)
		if remote, ok := parseEndpoint(f[2]); ok && err == nil && c.of[ino] {
			c.found = append(c.found, connection{local.Port(), remote.Addr()})
		}
	}
}

// client gives the one address that the accepted connections are from.
func (c *connections) client() (addr netip.Addr) {
	for _, f := range c.found {
		switch {
		case !c.listened[f.port], f.remote == addr:
		case addr.IsValid():
			return netip.Addr{}
		default:
			addr = f.remote
		}
	}
	return addr
}

// parseEndpoint reads "0100007F:01BD": words of four bytes in the machine's order, and the port.
func parseEndpoint(s string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(s, ":")
	words, err := hex.DecodeString(host)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(words)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for at := 0; at < len(words); at += 4 {
		binary.NativeEndian.PutUint32(words[at:], binary.BigEndian.Uint32(words[at:]))
	}
	addr, ok := netip.AddrFromSlice(words)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), ok
}
