package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"locker/authz"
)

func environment(vars ...string) func(string) string {
	return func(name string) string {
		for _, v := range vars {
			if key, value, _ := strings.Cut(v, "="); key == name {
				return value
			}
		}
		return ""
	}
}

func TestWrongCommandLinesAreRefusedWithTheReason(t *testing.T) {
	for line, want := range map[string]string{
		"serve":                           `unexpected argument "serve"`,
		"--nonsense":                      "unknown flag: --nonsense",
		"--allow /a --config /c":          "exclude each other",
		"--allow /a --check":              "--check looks at a policy file",
		"--log-level loud":                `not "loud"`,
		"--log-format xml":                `not "xml"`,
		"--socket= --allow /a":            "--socket needs a path",
		"--state-dir= --allow /a":         "--state-dir needs a path",
		"--config=":                       "--config needs a path",
		"--allow=":                        "an empty path",
		"--allow":                         "flag needs an argument",
		"--allow /a --check=maybe":        "invalid argument",
		"--allow /a -- --socket /s":       `unexpected argument "--socket"`,
		"--log-level debug --log-level x": `not "x"`,
		"--allow /a broker":               `"broker" is the first word or none`,
		"broker keeper":                   `"keeper" is the first word or none`,
		"--allow /a --keeper /k":          "lockerd alone is its own keeper",
		"broker --keeper= --allow /a":     "--keeper needs a path",
		"keeper --config /c":              "--config is not for the keeper",
		"keeper --allow /a":               "--allow is not for the keeper",
		"keeper --socket /s":              "--socket is not for the keeper",
		"keeper --state-dir /d":           "--state-dir is not for the keeper",
		"keeper --accept-broken-log":      "--accept-broken-log is not for the keeper",
		"keeper --check":                  "--check is not for the keeper",
		"keeper --keeper none":            "the keeper needs a socket",
		"keeper --guard /g":               "--guard is not for the keeper",
		"keeper --broker-user u":          "--broker-user goes with 'lockerd guard'",
		"broker --broker-user u":          "--broker-user goes with 'lockerd guard'",
		"broker --guard= --allow /a":      "--guard needs a path",
		"--allow /a --guard /g":           "lockerd alone starts its own guard",
		"--allow /a guard":                `"guard" is the first word or none`,
		"guard --config /c":               "--config is not for the guard",
		"guard --allow /a":                "--allow is not for the guard",
		"guard --socket /s":               "--socket is not for the guard",
		"guard --state-dir /d":            "--state-dir is not for the guard",
		"guard --accept-broken-log":       "--accept-broken-log is not for the guard",
		"guard --check":                   "--check is not for the guard",
		"guard --keeper /k":               "--keeper is not for the guard",
		"guard --guard none":              "the guard needs a socket",
		"guard --broker-user=":            "--broker-user needs a user",
	} {
		if _, err := parseOptions(strings.Fields(line), environment()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("lockerd %s: error %v, want one with %q", line, err, want)
		}
	}
	if _, err := parseOptions([]string{"--help"}, environment()); !errors.Is(err, errHelp) {
		t.Errorf("lockerd --help: %v", err)
	}
}

func TestTheFirstWordSaysWhichProcessItIs(t *testing.T) {
	for line, want := range map[string]options{
		"--allow /a":                       {role: foreground, keeper: defaultKeeper, guard: defaultGuard},
		"keeper":                           {role: keeperAlone, keeper: defaultKeeper, guard: defaultGuard},
		"keeper --keeper /k":               {role: keeperAlone, keeper: "/k", guard: defaultGuard},
		"broker --allow /a --keeper none":  {role: brokerAlone, keeper: noKeeper, guard: defaultGuard},
		"broker --accept-broken-log":       {role: brokerAlone, keeper: defaultKeeper, guard: defaultGuard, acceptBrokenLog: true},
		"broker --guard none":              {role: brokerAlone, keeper: defaultKeeper, guard: noGuard},
		"guard":                            {role: guardAlone, keeper: defaultKeeper, guard: defaultGuard},
		"guard --guard /g --broker-user u": {role: guardAlone, keeper: defaultKeeper, guard: "/g", brokerUser: "u"},
	} {
		o, err := parseOptions(strings.Fields(line), environment())
		if err != nil || o.role != want.role || o.keeper != want.keeper || o.guard != want.guard || o.brokerUser != want.brokerUser || o.acceptBrokenLog != want.acceptBrokenLog {
			t.Errorf("lockerd %s: got %+v, %v, want %+v", line, o, err, want)
		}
	}
}

// What the foreground says to its broker, the broker must understand as the foreground did.
func TestBrokersOfTheForegroundHaveItsOptions(t *testing.T) {
	_, loud, none := policies(t)
	for line, p := range map[string]*authz.Policy{
		"--allow /srv/x --allow /srv/x/y --log-level debug --log-format json": none,
		"--config /p --accept-broken-log":                                     loud,
		"--socket rel --state-dir /d --allow /srv/x":                          none,
		"": loud,
	} {
		o, err := parseOptions(strings.Fields(line), environment("LOCKER_SOCKET=/env/sock", "HOME=/h"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := o.settle(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, first := range []bool{true, false} {
			args := o.brokerArgs(s, s.keeperSocket(false), "/g", first)
			got, err := parseOptions(args, environment())
			if err != nil {
				t.Fatalf("lockerd %s starts lockerd %q: %v", line, args, err)
			}
			gotPlaces, err := got.settle(p)
			if err != nil || gotPlaces != s {
				t.Errorf("lockerd %s: its broker is at %+v, %v, want %+v", line, gotPlaces, err, s)
			}
			if got.role != brokerAlone || got.config != o.config || got.configGiven != o.configGiven || !slices.Equal(got.allow, o.allow) ||
				got.logLevel != o.logLevel || got.logForm != o.logForm || got.acceptBrokenLog != (o.acceptBrokenLog && first) || got.guard != "/g" {
				t.Errorf("lockerd %s: its broker (first: %v) has %+v, want %+v", line, first, got, o)
			}
		}
	}
}

func TestRelativePathsAreTheKernelsNotTheShells(t *testing.T) {
	dir := t.TempDir()
	real := filepath.Join(dir, "real")
	if err := errors.Join(os.Mkdir(real, 0o755), os.Symlink("real", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(dir, "link")) // sets $PWD to a path through the link, as a shell does
	o, err := parseOptions([]string{"--allow", "f", "--allow", "../g", "--allow", "/h//./i/"}, environment())
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{filepath.Join(real, "f"), filepath.Join(dir, "g"), "/h/i"}; !slices.Equal(o.allow, want) {
		t.Errorf("got %q, want %q", o.allow, want)
	}
}

// silent is a policy file without [server], loud one with it.
func policies(t *testing.T) (silent, loud, none *authz.Policy) {
	t.Helper()
	const text = "allow = [\"/srv/x\"]\n"
	var err1, err2, err3 error
	silent, err1 = authz.Parse("/p", []byte(text), authz.SystemUsers())
	loud, err2 = authz.Parse("/p", []byte(text+"[server]\nsocket = \"/policy/sock\"\nsocket_mode = \"0660\"\nsocket_group = 12\nstate_dir = \"/policy/state\"\n"), authz.SystemUsers())
	none, err3 = authz.Standalone([]string{"/srv/x"}, 1001, nil)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return silent, loud, none
}

func TestFlagsWinOverThePolicyAndThePolicyOverTheEnvironment(t *testing.T) {
	silent, loud, none := policies(t)
	state := defaultState
	if os.Geteuid() != 0 {
		state = "/home/state/locker"
	}
	for _, test := range []struct {
		name          string
		policy        *authz.Policy
		flags         string
		environment   string
		socket, state string
		mode          os.FileMode
		group         int
	}{
		{"nothing said", none, "", "", defaultSocket, state, 0o600, -1},
		{"nothing said, with a policy", silent, "", "", defaultSocket, state, 0o600, -1},
		{"environment", none, "", "LOCKER_SOCKET=/env/sock", "/env/sock", state, 0o600, -1},
		{"environment, and a policy that is silent", silent, "", "LOCKER_SOCKET=/env/sock", "/env/sock", state, 0o600, -1},
		{"environment and policy", loud, "", "LOCKER_SOCKET=/env/sock", "/policy/sock", "/policy/state", 0o660, 12},
		{"all of them", loud, "--socket /flag/sock --state-dir /flag/state", "LOCKER_SOCKET=/env/sock", "/flag/sock", "/flag/state", 0o660, 12},
		{"a relative socket stays one", none, "--socket sock", "", "sock", state, 0o600, -1},
	} {
		o, err := parseOptions(strings.Fields(test.flags), environment(test.environment, "XDG_STATE_HOME=/home/state"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := o.settle(test.policy)
		if err != nil || got.socket != test.socket || got.stateDir != test.state || got.mode != test.mode || got.group != test.group {
			t.Errorf("%s: got %+v, %v, want %+v", test.name, got, err, test)
		}
		if got.auditDir != got.stateDir+"/audit" || !filepath.IsAbs(got.socketName) {
			t.Errorf("%s: the log is in %q, the socket called %q", test.name, got.auditDir, got.socketName)
		}
	}
}

func TestStateOfAnOrdinaryUserIsHisOwn(t *testing.T) {
	for _, test := range []struct {
		euid                    int
		environment, home, want string
	}{
		{0, "XDG_STATE_HOME=/x", "HOME=/root", defaultState},
		{1001, "XDG_STATE_HOME=/x", "HOME=/h", "/x/locker"},
		{1001, "XDG_STATE_HOME=", "HOME=/h", "/h/.local/state/locker"},
		{1001, "XDG_STATE_HOME=relative", "HOME=/h", "/h/.local/state/locker"},
		{1001, "XDG_STATE_HOME=", "HOME=", ""},
	} {
		o, err := parseOptions(nil, environment(test.environment, test.home))
		if err != nil {
			t.Fatal(err)
		}
		if dir, err := o.defaultStateDir(test.euid); dir != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%v: got %q, %v", test, dir, err)
		}
	}
}

func TestLockerdsOwnFilesAreNotForLocking(t *testing.T) {
	for flags, want := range map[string]string{
		"--allow /srv --state-dir /srv/state":                                 "state directory",
		"--allow /srv/state/x --state-dir /srv/state":                         "state directory",
		"--allow /srv --state-dir /s --socket /srv/run/sock":                  "socket",
		"--allow /srv/run/sock --state-dir /s --socket /srv/run/sock":         "socket",
		"--allow /srv/x --state-dir /s --socket /" + strings.Repeat("s", 103): "104 bytes long, and 103 is the most",
	} {
		o, err := parseOptions(strings.Fields(flags), environment())
		if err != nil {
			t.Fatal(err)
		}
		p, err := authz.Standalone(o.allow, 1001, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.settle(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("lockerd %s: error %v, want one about the %s", flags, err, want)
		}
	}
	// Beside them is no harm: who runs his own lockerd has few directories.
	o, _ := parseOptions(strings.Fields("--allow /tmp/x/file --state-dir /tmp/x/state --socket /tmp/x/sock"), environment())
	p, err := authz.Standalone(o.allow, 1001, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.settle(p); err != nil {
		t.Error(err)
	}
}
