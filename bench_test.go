package locker_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"locker/wire"
)

// BenchmarkBesideEcho prints the table of README's "Speed": lockerd with everything on, beside a bare echo server over the
// same kind of socket. Rounds are interleaved, and each ratio is the median of the rounds' own ratios, since machines are noisy.
// A pair is two round trips: Lock and Unlock, or two 64-byte echoes.
func BenchmarkBesideEcho(b *testing.B) {
	d := newBenchDir(b)
	var out strings.Builder
	row := func(cells ...string) { fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | ")) }
	row("what", "echo", "locker", "ratio")
	row("---", "---", "---", "---")
	for _, c := range []struct {
		name    string
		clients int
		oneCPU  bool
		kind    string
	}{
		{"lock + unlock, 1 client, one CPU", 1, true, "attached"},
		{"lock + unlock, 1 client", 1, false, "attached"},
		{"lock + unlock, 8 clients", 8, false, "attached"},
		{"lock + unlock, 64 clients", 64, false, "attached"},
		{"the same, detached (on disk before the answer), 64 clients", 64, false, "detached"},
	} {
		var echo, lock []benchResult
		for range benchRounds {
			echo = append(echo, d.load(b, d.startEcho(b, c.oneCPU), "echo", c.clients, c.oneCPU))
			lock = append(lock, d.load(b, d.startLockerd(b, c.oneCPU), c.kind, c.clients, c.oneCPU))
		}
		p50 := func(r benchResult) float64 { return float64(r.P50) / 1e3 }
		rate := func(r benchResult) float64 { return r.Rate }
		if c.clients == 1 {
			row(c.name+", p50 µs", format(median(echo, p50)), format(median(lock, p50)), format(medianRatio(lock, echo, p50)))
			b.ReportMetric(medianRatio(lock, echo, p50), "p50/echo")
		} else {
			row(c.name+", pairs/s", format(median(echo, rate)), format(median(lock, rate)), format(medianRatio(lock, echo, rate)))
		}
	}
	var same []benchResult
	for range benchRounds {
		same = append(same, d.load(b, d.startLockerd(b, false), "contended", 64, false))
	}
	row("one file, 64 clients: release to next grant, p50 µs", "", format(median(same, func(r benchResult) float64 { return float64(r.P50) / 1e3 })), "")
	row("one file, 64 clients: p99 µs", "", format(median(same, func(r benchResult) float64 { return float64(r.P99) / 1e3 })), "")
	row("one file, 64 clients: grants/s", "", format(median(same, func(r benchResult) float64 { return r.Rate })), "")
	row("one file, 64 clients: max/min grants of a client", "", format(median(same, func(r benchResult) float64 { return r.Spread })), "")
	row("one file, 64 clients: overlapping grants", "0 wanted", format(median(same, func(r benchResult) float64 { return float64(r.Overlaps) })), "")
	d.benchKeeping(b, row)
	d.benchMemory(b, row)
	d.benchRestart(b, row)
	d.benchConnections(b, row)
	d.benchColdStart(b, row)
	fmt.Printf("\n%s\n", out.String())
}

const (
	benchRounds = 5
	benchTime   = 700 * time.Millisecond // of one load
)

// benchResult is what a load process reports.
type benchResult struct {
	P50, P99 int64 // ns
	Rate     float64
	Spread   float64 // most grants of a client / fewest
	Overlaps int
}

func median(rs []benchResult, of func(benchResult) float64) float64 {
	var xs []float64
	for _, r := range rs {
		xs = append(xs, of(r))
	}
	slices.Sort(xs)
	return xs[len(xs)/2]
}

func medianRatio(a, b []benchResult, of func(benchResult) float64) float64 {
	var xs []float64
	for i := range a {
		xs = append(xs, of(a[i])/of(b[i]))
	}
	slices.Sort(xs)
	return xs[len(xs)/2]
}

func format(x float64) string {
	if x >= 1000 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}

// benchDir holds the binaries, a policy without narrow limits, and the files to lock.
type benchDir struct{ dir, files, policy string }

func newBenchDir(b *testing.B) *benchDir {
	// Not the machine's temporary directory: lockerd refuses a policy below a directory that others can write.
	if err := os.MkdirAll("bin", 0o755); err != nil {
		b.Fatal(err)
	}
	dir, err := os.MkdirTemp("bin", "bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	dir, err = filepath.Abs(dir)
	if err != nil {
		b.Fatal(err)
	}
	d := &benchDir{dir: dir, files: filepath.Join(dir, "files"), policy: filepath.Join(dir, "locker.toml")}
	for _, sub := range []string{d.files, filepath.Join(dir, "run")} {
		if err := os.Mkdir(sub, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 64 {
		if err := os.WriteFile(d.file(i), nil, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	policy := fmt.Sprintf("allow = [%q]\n[server]\nsocket = %q\nstate_dir = %q\n[limits]\nconnections = 2000\nholds = 20000\nwaiters = 16000\n[[rule]]\nname = \"bench\"\nusers = [%d]\npaths = [%q]\nmax_hold = \"12h\"\ncan = [\"lock\", \"lock-shared\", \"list\", \"break\"]\n",
		d.files, filepath.Join(dir, "run", "s"), filepath.Join(dir, "state"), os.Geteuid(), d.files)
	if err := os.WriteFile(d.policy, []byte(policy), 0o600); err != nil {
		b.Fatal(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir, "./cmd/locker", "./cmd/lockerd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does
	out, err := build.CombinedOutput()
	if err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	return d
}

func (d *benchDir) file(i int) string { return filepath.Join(d.files, fmt.Sprint("file-", i)) }

// server is a process to put load on.
type benchServer struct {
	socket string
	cmd    *exec.Cmd
}

func (s *benchServer) stop() {
	s.cmd.Process.Signal(unix.SIGTERM)
	s.cmd.Wait()
	os.Remove(s.socket)
}

// command makes a command that runs on one CPU, or on all.
func benchCommand(oneCPU bool, name string, args ...string) *exec.Cmd {
	if oneCPU {
		name, args = "taskset", append([]string{"-c", "0", name}, args...)
	}
	return exec.Command(name, args...)
}

func (d *benchDir) start(b *testing.B, cmd *exec.Cmd, socket string) *benchServer {
	b.Helper()
	os.Remove(socket)
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	for range 2000 {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return &benchServer{socket, cmd}
		}
		time.Sleep(2 * time.Millisecond) // a benchmark's set-up, not a test
	}
	b.Fatalf("%v does not serve: %s", cmd.Args, log.String())
	return nil
}

func (d *benchDir) startEcho(b *testing.B, oneCPU bool) *benchServer {
	socket := filepath.Join(d.dir, "echo")
	cmd := benchCommand(oneCPU, os.Args[0])
	cmd.Env = append(os.Environ(), "LOCKER_BENCH=serve-echo", "LOCKER_BENCH_SOCKET="+socket)
	return d.start(b, cmd, socket)
}

// startLockerd starts keeper and broker, by the program before, if any.
func (d *benchDir) startLockerd(b *testing.B, oneCPU bool, before ...string) *benchServer {
	argv := append(before, filepath.Join(d.dir, "lockerd"), "--config", d.policy)
	return d.start(b, benchCommand(oneCPU, argv[0], argv[1:]...), filepath.Join(d.dir, "run", "s"))
}

// load runs one load process against a server, stops the server, and gives what was measured.
func (d *benchDir) load(b *testing.B, s *benchServer, kind string, clients int, oneCPU bool) benchResult {
	b.Helper()
	defer s.stop()
	cmd := benchCommand(oneCPU, os.Args[0])
	cmd.Env = append(os.Environ(), "LOCKER_BENCH="+kind, "LOCKER_BENCH_SOCKET="+s.socket, "LOCKER_BENCH_CLIENTS="+strconv.Itoa(clients), "LOCKER_BENCH_FILES="+d.files)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("load %s: %v", kind, err)
	}
	var r benchResult
	if err := json.Unmarshal(out, &r); err != nil {
		b.Fatal(err)
	}
	return r
}

// benchMain is what the test binary does when it is started as a server or a load; false: it is neither.
func benchMain() bool {
	socket := os.Getenv("LOCKER_BENCH_SOCKET")
	switch kind := os.Getenv("LOCKER_BENCH"); kind {
	case "":
		return false
	case "serve-echo":
		l, err := net.Listen("unix", socket)
		benchCheck(err)
		for {
			c, err := l.Accept()
			benchCheck(err)
			go func() {
				defer c.Close()
				var buf [64]byte
				for {
					if _, err := io.ReadFull(c, buf[:]); err != nil {
						return
					}
					if _, err := c.Write(buf[:]); err != nil {
						return
					}
				}
			}()
		}
	case "command":
		r, err := timed(os.Args[1], os.Args[2:]...)
		benchCheck(err)
		benchCheck(json.NewEncoder(os.Stdout).Encode(r))
	default:
		clients, err := strconv.Atoi(os.Getenv("LOCKER_BENCH_CLIENTS"))
		benchCheck(err)
		benchCheck(json.NewEncoder(os.Stdout).Encode(runLoad(kind, socket, os.Getenv("LOCKER_BENCH_FILES"), clients)))
	}
	return true
}

func benchCheck(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// runLoad has each client do pairs for benchTime.
func runLoad(kind, socket, files string, clients int) benchResult {
	var all []int64
	var mu sync.Mutex
	var owned int32 // the shared word: who holds the one file
	var ownedMu sync.Mutex
	var released time.Time
	overlaps := 0
	grants := make([]int, clients)
	var wg, ready sync.WaitGroup
	ready.Add(clients)
	start := make(chan struct{})
	var end time.Time
	for i := range clients {
		wg.Go(func() {
			mu.Lock() // one after the other: connections without a first frame are limited
			c := dialBench(socket, kind != "echo")
			mu.Unlock()
			path := filepath.Join(files, fmt.Sprint("file-", i))
			if kind == "contended" {
				path = filepath.Join(files, "file-0")
			}
			ready.Done()
			<-start
			var took []int64
			for n := 0; ; n++ {
				t0 := time.Now()
				if t0.After(end) {
					break
				}
				switch kind {
				case "echo":
					c.echo()
					c.echo()
				case "contended":
					id := c.lock(path, wire.Attached)
					now := time.Now()
					ownedMu.Lock()
					if owned++; owned != 1 {
						overlaps++
					}
					if !released.IsZero() {
						took = append(took, int64(now.Sub(released)))
					}
					owned--
					grants[i]++
					released = time.Now()
					ownedMu.Unlock()
					c.unlock(id)
					continue
				case "detached":
					c.unlock(c.lock(path, wire.Detached))
				default:
					c.unlock(c.lock(path, wire.Attached))
				}
				took = append(took, int64(time.Since(t0)))
				grants[i]++
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	ready.Wait()
	began := time.Now()
	end = began.Add(benchTime)
	close(start)
	wg.Wait()
	elapsed := time.Since(began)
	slices.Sort(all)
	total := 0
	for _, g := range grants {
		total += g
	}
	return benchResult{
		P50: all[len(all)/2], P99: all[len(all)*99/100], Rate: float64(total) / elapsed.Seconds(),
		Spread: float64(slices.Max(grants)) / float64(max(slices.Min(grants), 1)), Overlaps: overlaps,
	}
}

// benchConn is one connection of a load.
type benchConn struct {
	c    net.Conn
	out  []byte
	in   [4096]byte
	next uint32
}

func dialBench(socket string, hello bool) *benchConn {
	conn, err := net.Dial("unix", socket)
	benchCheck(err)
	c := &benchConn{c: conn}
	if hello {
		c.ask(&wire.Hello{Min: 1, Max: 1})
	}
	return c
}

func (c *benchConn) echo() {
	_, err := c.c.Write(c.in[:64])
	benchCheck(err)
	_, err = io.ReadFull(c.c, c.in[:64])
	benchCheck(err)
}

// ask sends a request and gives its final answer.
func (c *benchConn) ask(m wire.Message) wire.Message {
	var err error
	c.next++
	c.out, err = wire.Append(c.out[:0], c.next, m)
	benchCheck(err)
	_, err = c.c.Write(c.out)
	benchCheck(err)
	return c.final()
}

func (c *benchConn) final() wire.Message {
	have := 0
	for {
		n, err := c.c.Read(c.in[have:])
		benchCheck(err)
		have += n
		for have >= 4 {
			size := 4 + int(binary.BigEndian.Uint32(c.in[:4]))
			if size > len(c.in) {
				benchCheck(fmt.Errorf("an answer of %d bytes", size))
			}
			if have < size {
				break
			}
			_, m, err := wire.Parse(c.in[4:size])
			benchCheck(err)
			have = copy(c.in[:], c.in[size:have])
			if _, queued := m.(*wire.Queued); !queued {
				return m
			}
		}
	}
}

func (c *benchConn) lock(path string, life wire.Life) uint64 {
	m := c.ask(&wire.Lock{Mode: wire.Exclusive, Wait: wire.Block, Life: life, Tag: "", Paths: []string{path}})
	g, ok := m.(*wire.Granted)
	if !ok {
		benchCheck(fmt.Errorf("lock: %+v", m))
	}
	return g.Grants[0].ID
}

func (c *benchConn) unlock(id uint64) {
	if _, ok := c.ask(&wire.Unlock{By: wire.ByID, ID: id}).(*wire.Released); !ok {
		benchCheck(fmt.Errorf("unlock refused"))
	}
}
