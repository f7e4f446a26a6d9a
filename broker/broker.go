package broker

import (
	"cmp"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"locker/audit"
	"locker/authz"
	"locker/flock"
	"locker/guard"
	"locker/keeper"
	"locker/wire"
)

// Config is what a broker is made of. Policy, Log and Logger are required.
type Config struct {
	Policy  *authz.Policy
	Log     *audit.Log
	Logger  hclog.Logger
	Version string // shown to clients

	// Reload reads the policy anew; nil when there is no policy file to read.
	Reload func() (*authz.Policy, error)
	// Keeper holds a copy of every descriptor that holds a lock, so that locks outlive this process; nil: none does. Listed and Past
	// are what it had when we came, and Redial finds the next one when it dies. New takes all of them over.
	Keeper *keeper.Conn
	Listed []keeper.Entry
	Past   keeper.Past
	Redial func(ctx context.Context) (*keeper.Conn, error)

	// Guard finds the process that refuses opens to the programs of the policy's [guard]; nil: there is none.
	Guard func(ctx context.Context) (*guard.Conn, error)

	BootID   string        // of the kernel, as /proc/sys/kernel/random/boot_id says it
	Patience time.Duration // for a client to come back after a restart; 0: 30 s

	// Restart has this process end by HandOver and another one begin; nil when nobody would begin it. NeedsRestart says in words
	// what of a policy this process cannot take up; nil: nothing.
	Restart      func()
	NeedsRestart func(*authz.Policy) []string

	Now  func() time.Time     // wall clock; nil: time.Now
	Boot func() time.Duration // CLOCK_BOOTTIME, which counts suspend; nil: the kernel's

	peerOf       func(*net.UnixConn) (authz.Peer, error) // nil: what the kernel says. For tests
	idlePatience time.Duration                           // 0: idlePatience. For tests
	frames       frameTimes                              // zero: as they are. For tests
	times        times                                   // zero: as they are. For tests
	beforeWard   func()                                  // a bundle was found idle, and the guard does not know yet. For tests
	beforeWatch  func()                                  // the files of a hold are about to be watched, apart from its grant. For tests
}

// regime is the policy in force and the opener made for its whitelist: replaced together, never changed.
type regime struct {
	policy *authz.Policy
	opener *flock.Opener
	loaded time.Time
	over   chan struct{} // closed when another is in force
}

// Broker is one running lock broker.
type Broker struct {
	log          *audit.Log
	logger       hclog.Logger
	version      string
	reload       func() (*authz.Policy, error)
	redial       func(context.Context) (*keeper.Conn, error)
	dialGuard    func(context.Context) (*guard.Conn, error)
	beforeWard   func()
	beforeWatch  func()
	restart      func()
	needs        func(*authz.Policy) []string
	first        authz.Server // as of the start: neither the socket nor the state directory can be moved later
	bootID       [16]byte
	patience     time.Duration
	idlePatience time.Duration
	frames       frameTimes
	times        times
	giving       atomic.Bool // HandOver was asked for
	handed       atomic.Bool // and has begun: nothing is answered, ended or dropped any more, the next broker goes on from here
	now          func() time.Time
	boot         func() time.Duration
	peerOf       func(*net.UnixConn) (authz.Peer, error)
	started      time.Time
	admin        uint32 // effective uid of this process: may reload and explain, as root may

	rules   atomic.Pointer[regime]
	gates   gates
	outside outside
	looks   looks
	waiter  *flock.Waiter
	deaths  *deathWatch

	reloading sync.Mutex // one reload at a time; taken before mu

	work sync.WaitGroup // every goroutine started on behalf of a claim
	wake chan struct{}  // capacity 1: the nearest deadline has changed

	mu          sync.Mutex // guards all below, and orders Append on log
	table       *table
	sessions    map[uint64]*session
	keeping     keeping
	guarding    guarding
	accounts    map[uint32]*account  // by uid, while it has connections or uses something
	ends        map[uint64]*endQueue // by st_dev, while something is let go of there
	early       int                  // connections without a first frame
	connections int
	opening     int // files that are being opened, or closed apart
	byPath      map[string][]*hold
	perRule     map[ruleUse]int // holds, and files that claims ask for
	deadlines   deadlines
	lost        map[uint64]*lostHold
	changes     changes
	denials     denials             // of refusals
	waits       denials             // of waits and their ends
	alters      denials             // of alterations of held files
	watchers    map[*session]uint32 // → request id of its Watch
	ticking     bool                // a Changed event is due
	draining    bool
	stopped     bool   // the last record is written: nothing is granted or recorded any more
	policyError string // why the last reload was refused; "" when the file in force is the newest
}

// ruleUse counts one uid's holds under one rule.
type ruleUse struct {
	uid  uint32
	rule string
}

// New makes a broker and takes back the holds of an earlier run, from the keeper and from the log. Call Serve next, then Close.
func New(ctx context.Context, c Config) (*Broker, error) {
	if c.Policy == nil || c.Log == nil || c.Logger == nil {
		return nil, errors.New("broker: Policy, Log and Logger are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Boot == nil {
		c.Boot = bootTime
	}
	if c.peerOf == nil {
		c.peerOf = peerOf
	}
	opener, warnings, err := flock.NewOpener(c.Policy.Allow)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		c.Logger.Warn("whitelist entry", "problem", w)
	}
	waiter, err := flock.NewWaiter()
	if err != nil {
		return nil, err
	}
	deaths, err := newDeathWatch()
	if err != nil {
		waiter.Close()
		return nil, err
	}
	b := &Broker{
		log: c.Log, logger: c.Logger, version: c.Version, reload: c.Reload, now: c.Now, boot: c.Boot, peerOf: c.peerOf,
		redial: c.Redial, restart: c.Restart, needs: c.NeedsRestart, first: c.Policy.Server, bootID: parseBootID(c.BootID), patience: c.Patience,
		idlePatience: cmp.Or(c.idlePatience, idlePatience), frames: cmp.Or(c.frames, theFrameTimes), times: cmp.Or(c.times, theTimes),
		keeping:   keeping{wanted: c.Keeper != nil, conn: c.Keeper},
		dialGuard: c.Guard, guarding: newGuarding(c.Boot()), beforeWard: c.beforeWard, beforeWatch: c.beforeWatch,
		started: c.Now(), admin: effectiveUID(), waiter: waiter, deaths: deaths,
		wake:     make(chan struct{}, 1),
		table:    newTable(tableLimits(c.Policy.Limits)),
		sessions: map[uint64]*session{}, accounts: map[uint32]*account{}, ends: map[uint64]*endQueue{}, byPath: map[string][]*hold{},
		perRule: map[ruleUse]int{}, lost: map[uint64]*lostHold{}, watchers: map[*session]uint32{},
	}
	b.gates.set(c.Policy.Limits)
	b.setRates(c.Policy.Limits)
	b.rules.Store(&regime{policy: c.Policy, opener: opener, loaded: b.started, over: make(chan struct{})})
	if b.patience == 0 {
		b.patience = defaultPatience
	}
	b.newChanges()
	if err := b.restore(ctx, &c); err != nil {
		b.release()
		return nil, err
	}
	return b, nil
}

// Close ends a broker that never served.
func (b *Broker) Close() error {
	err := b.recordStop()
	b.release()
	return err
}

// release gives back what New took, for a broker that is not (or no longer) serving.
func (b *Broker) release() {
	b.waiter.Close()
	b.deaths.release()
	if b.changes.kernel != nil {
		b.changes.kernel.Close()
	}
	b.mu.Lock()
	conn := b.keeping.conn
	b.mu.Unlock()
	if conn != nil {
		conn.Close()
	}
}

// setRates sets how many records of refusals and waits one uid may cause. The caller holds mu, or nobody else is there yet.
func (b *Broker) setRates(l authz.Limits) {
	b.denials.set(l)
	b.denials.text = "refusals left out, over the limit of denial records"
	b.alters.set(l)
	b.alters.text = "alterations of held files left out, over the limit of denial records"
	l.DenialRate, l.DenialBurst, l.DenialRateAll = waitsPerDenial*l.DenialRate, waitsPerDenial*l.DenialBurst, waitsPerDenial*l.DenialRateAll
	b.waits.set(l)
	b.waits.text = "waits and their ends left out, over the limit of such records"
}

// limits gives the limits in force.
func (b *Broker) limits() authz.Limits { return b.rules.Load().policy.Limits }

func tableLimits(l authz.Limits) limits {
	return limits{holds: l.Holds, holdsAll: l.HoldsAll, waiters: l.Waiters, waitersAll: l.WaitersAll}
}

// mayAdminister reports whether the peer is root or the user that lockerd runs as.
func (b *Broker) mayAdminister(p *authz.Peer) bool {
	return p.Known() && (p.UID == 0 || p.UID == b.admin)
}

// maySee reports whether the peer may learn who holds or waits for path.
func (b *Broker) maySee(p *authz.Peer, owner uint32, path string) bool {
	if !p.Known() {
		return false
	}
	return p.UID == owner || p.UID == 0 || b.rules.Load().policy.Decide(p, authz.ActList, path).Allowed
}

// modeOf translates the wire's mode for the table and the kernel.
func modeOf(m wire.Mode) (mode, flock.Mode) {
	if m == wire.Shared {
		return shared, flock.Shared
	}
	return exclusive, flock.Exclusive
}
