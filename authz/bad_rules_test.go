package authz

import (
	"fmt"
	"strings"
	"testing"
)

func badRules() []badPolicy {
	// rule and deny put their lines after two others.
	rule := func(s string) string { return head + "[[rule]]\n" + s }
	deny := func(s string) string { return head + "[[deny]]\n" + s }
	users := func(s string) string { return rule("users = " + s + "\npaths = [\"/srv/tm\"]\n" + tail) }
	groups := func(s string) string { return rule("groups = " + s + "\npaths = [\"/srv/tm\"]\n" + tail) }
	paths := func(s string) string { return rule("users = [\"*\"]\npaths = " + s + "\n" + tail) }
	with := func(s string) string { return rule("users = [\"*\"]\npaths = [\"/srv/tm\"]\n" + s + "\n" + tail) }
	can := func(s string) string { return rule("users = [\"*\"]\npaths = [\"/srv/tm\"]\ncan = " + s + "\n") }
	return []badPolicy{
		// who
		{rule("paths = [\"/srv/tm\"]\n" + tail), "p.toml:2: [[rule]] has neither users nor groups: for everybody write users = [\"*\"]"},
		{rule("uids = [1]\npaths = [\"/srv/tm\"]\n" + tail), "p.toml:2: [[rule]] has neither users nor groups"},
		{rule("uids = [1]\nusers = [1]\npaths = [\"/srv/tm\"]\n" + tail), "p.toml:3: unknown key \"uids\" in [[rule]]; keys are name, users, groups"},
		{rule("user = [1]\nusers = [1]\npaths = [\"/srv/tm\"]\n" + tail), "p.toml:3: unknown key \"user\" in [[rule]]; did you mean \"users\"?"},
		{rule("gruops = [1]\nusers = [1]\npaths = [\"/srv/tm\"]\n" + tail), "p.toml:3: unknown key \"gruops\" in [[rule]]; did you mean \"groups\"?"},
		{users("[]"), "p.toml:3: users is empty"},
		{users("\"alice\""), "p.toml:3: users must be a list such as [\"alice\", 1001], not \"alice\""},
		{users("1000"), "p.toml:3: users must be a list"},
		{users("[\"alcie\"]"), "p.toml:3: unknown user \"alcie\"; did you mean \"alice\"?"},
		{users("[\"alice\",\n\"Bob\"]"), "p.toml:4: unknown user \"Bob\"; did you mean \"bob\"?"},
		{users("[\"zacharias\"]"), "p.toml:3: unknown user \"zacharias\""},
		{users("[\"\"]"), "p.toml:3: \"\" is no user name"},
		{users("[\"a:b\"]"), "p.toml:3: \"a:b\" is no user name"},
		{users("[\"a\\nb\"]"), "p.toml:3: \"a\\nb\" is no user name"},
		{users("[\"1000\"]"), "p.toml:3: unknown user \"1000\": for the id write 1000 without quotes"},
		{users("[\"nobody\"]"), "p.toml:3: user \"nobody\" (id 65534) stands for nobody in particular"},
		{users("[65534]"), "p.toml:3: user 65534 (id 65534) stands for nobody in particular"},
		{users("[4294967295]"), "p.toml:3: user 4294967295 (id 4294967295) stands for nobody in particular"},
		{users("[4294967296]"), "p.toml:3: 4294967296 is no user id"},
		{users("[-1]"), "p.toml:3: -1 is no user id"},
		{users("[-2]"), "p.toml:3: -2 is no user id"},
		{users("[1.5]"), "p.toml:3: the number 1.5 is neither the name nor the number of a user"},
		{users("[true]"), "p.toml:3: true is neither the name nor the number of a user"},
		{users("[1979-05-27]"), "p.toml:3: a date is neither the name nor the number of a user"},
		{users("[\"*\", \"alice\"]"), "p.toml:3: users: \"*\" stands for everybody: name nobody beside it"},
		{groups("[]"), "p.toml:3: groups is empty"},
		{groups("[\"*\"]"), "p.toml:3: \"*\" stands for all users: write users = [\"*\"]"},
		{groups("[\"bakcup\"]"), "p.toml:3: unknown group \"bakcup\"; did you mean \"backup\"?"},
		{groups("[\"nogroup\"]"), "p.toml:3: group \"nogroup\" (id 65534) stands for nobody in particular"},
		{groups("[4294967295]"), "p.toml:3: group 4294967295 (id 4294967295)"},
		{groups("[4294967296]"), "p.toml:3: 4294967296 is no group id"},
		{groups("34"), "p.toml:3: groups must be a list such as [\"backup\", 34], not 34"},
		{groups("[\"34\"]"), "p.toml:3: unknown group \"34\": for the id write 34 without quotes"},

		// where
		{rule("users = [\"*\"]\n" + tail), "p.toml:2: [[rule]] has no paths"},
		{rule("users = [\"*\"]\npath = [\"/srv/tm\"]\npaths = [\"/srv/tm\"]\n" + tail), "p.toml:4: unknown key \"path\" in [[rule]]; did you mean \"paths\"?"},
		{paths("[]"), "p.toml:4: paths is empty"},
		{paths("\"/srv/tm\""), "p.toml:4: paths must be a list"},
		{paths("[3]"), "p.toml:4: paths holds 3: expected strings"},
		{paths("[\"tm\"]"), "p.toml:4: paths: \"tm\": path is not absolute"},
		{paths("[\"\"]"), "p.toml:4: paths: \"\": path is empty"},
		{paths("[\"/\"]"), "p.toml:4: paths: \"/\": path is \"/\""},
		{paths("[\"/srv/tm/\"]"), "p.toml:4: paths: \"/srv/tm/\": path ends in a slash"},
		{paths("[\"/srv/tm/../x\"]"), "p.toml:4: paths: \"/srv/tm/../x\": path holds a \"..\""},
		{paths("[\"/srv//tm\"]"), "p.toml:4: paths: \"/srv//tm\": path holds \"//\""},
		{paths("[\"/srv/tm/{user}/..\"]"), "p.toml:4: paths: \"/srv/tm/{user}/..\": path holds a \"..\""},
		{paths("[\"{user}/x\"]"), "p.toml:4: paths: \"{user}/x\": path is not absolute"},
		{paths("[\"/srv/tm\",\n\"/srv/tm\"]"), "p.toml:5: \"/srv/tm\" stands twice in paths"},
		{paths("[\"/srv\"]"), "p.toml:4: paths: \"/srv\" lies outside allow"},
		{paths("[\"/etc\"]"), "p.toml:4: paths: \"/etc\" lies outside allow"},
		{paths("[\"/srv/tmx\"]"), "p.toml:4: paths: \"/srv/tmx\" lies outside allow; did you mean \"/srv/tm\"?"},
		{paths("[\"/srv/mt\"]"), "p.toml:4: paths: \"/srv/mt\" lies outside allow; did you mean \"/srv/tm\"?"},
		{paths("[\"/home/{user}\"]"), "p.toml:4: paths: \"/home/{user}\" lies outside allow"},
		{paths("[\"/srv/tm/{usr}\"]"), "p.toml:4: paths: \"/srv/tm/{usr}\": unknown template \"{usr}\"; did you mean \"{user}\"?"},
		{paths("[\"/srv/tm/{USER}\"]"), "p.toml:4: paths: \"/srv/tm/{USER}\": unknown template \"{USER}\"; did you mean \"{user}\"?"},
		{paths("[\"/srv/tm/{}\"]"), "p.toml:4: paths: \"/srv/tm/{}\": unknown template \"{}\""},
		{paths("[\"/srv/tm/{group}\"]"), "p.toml:4: paths: \"/srv/tm/{group}\": unknown template \"{group}\""},
		{paths("[\"/srv/tm/{ user }\"]"), "p.toml:4: paths: \"/srv/tm/{ user }\": unknown template \"{ user }\"; did you mean \"{user}\"?"},
		{paths("[\"/srv/tm/{{user}}\"]"), "p.toml:4: paths: \"/srv/tm/{{user}}\": unknown template \"{{user}\"; did you mean \"{user}\"?"},
		{paths("[\"/srv/tm/{user\"]"), "p.toml:4: paths: \"/srv/tm/{user\": \"{\" is no template: write {user} or {uid}"},
		{paths("[\"/srv/tm/user}\"]"), "p.toml:4: paths: \"/srv/tm/user}\": \"}\" is no template"},
		{paths("[\"/srv/tm/%u\", \"/srv/x\"]"), "p.toml:4: paths: \"/srv/x\" lies outside allow"},
		{paths(manyPaths(maxPaths + 1)), "p.toml:4: more than 64 paths in one rule"},

		// how long, how many, what
		{with("max_hold = 3600"), "p.toml:5: max_hold must be a string such as \"12h\", not 3600"},
		{with("max_hold = \"12\""), "p.toml:5: max_hold: \"12\" is no duration: write one such as \"90s\""},
		{with("max_hold = \"12x\""), "p.toml:5: max_hold: \"12x\" is no duration"},
		{with("max_hold = \"\""), "p.toml:5: max_hold: \"\" is no duration"},
		{with("max_hold = \"forever\""), "p.toml:5: max_hold: \"forever\" is no duration"},
		{with("max_hold = \"0\""), "p.toml:5: max_hold: \"0\" is not above zero: leave the key out for no limit"},
		{with("max_hold = \"0s\""), "p.toml:5: max_hold: \"0s\" is not above zero"},
		{with("max_hold = \"0d\""), "p.toml:5: max_hold: \"0d\" is not above zero"},
		{with("max_hold = \"-1h\""), "p.toml:5: max_hold: \"-1h\" is not above zero"},
		{with("max_hold = \"-1d\""), "p.toml:5: max_hold: \"-1d\" is no duration"},
		{with("max_hold = \"1.5d\""), "p.toml:5: max_hold: \"1.5d\" is no duration"},
		{with("max_hold = \"1d-2h\""), "p.toml:5: max_hold: \"1d-2h\" is no duration"},
		{with("max_hold = \"1h1d\""), "p.toml:5: max_hold: \"1h1d\" is no duration"},
		{with("max_hold = \"1d1d\""), "p.toml:5: max_hold: \"1d1d\" is no duration"},
		{with("max_hold = \"999999d\""), "p.toml:5: max_hold: \"999999d\" is too long"},
		{with("max_hold = \"9999999h\""), "p.toml:5: max_hold: \"9999999h\" is no duration"},
		{with("max_wait = 1h"), "p.toml:5: 1h is neither a number nor true nor false: a string needs quotes"},
		{with("max_wait = \" 1h\""), "p.toml:5: max_wait: \" 1h\" is no duration"},
		{with("maxhold = \"1h\""), "p.toml:5: unknown key \"maxhold\" in [[rule]]; did you mean \"max_hold\"?"},
		{with("holds = 0"), "p.toml:5: holds = 0 is not within 1 to 1048576"},
		{with("holds = -8"), "p.toml:5: holds = -8 is not within"},
		{with("holds = \"8\""), "p.toml:5: holds must be a whole number, not \"8\""},
		{with("hardlinks = \"yes\""), "p.toml:5: hardlinks must be true or false, not \"yes\""},
		{with("hardlinks = 1"), "p.toml:5: hardlinks must be true or false, not 1"},
		{with("quiet = 30"), "p.toml:5: quiet must be a string such as \"12h\", not 30"},
		{with("quiet = \"999ms\""), "p.toml:5: quiet = \"999ms\" is not within 1s to 1h0m0s"},
		{with("quiet = \"61m\""), "p.toml:5: quiet = \"61m\" is not within 1s to 1h0m0s"},
		{with("quiet = \"0s\""), "p.toml:5: quiet: \"0s\" is not above zero"},
		{with("engines = []"), "p.toml:5: engines is empty"},
		{with("engines = \"flock\""), "p.toml:5: engines must be a list such as [\"flock\"], not \"flock\""},
		{with("engines = [\"folck\"]"), "p.toml:5: unknown word \"folck\" in engines; did you mean \"flock\"?"},
		{with("engines = [\"posix\"]"), "p.toml:5: unknown word \"posix\" in engines; words are ofd, flock"},
		{with("engines = [\"ofd\", \"ofd\"]"), "p.toml:5: \"ofd\" stands twice in engines"},
		{with("name = \"\""), "p.toml:5: name is empty"},
		{with("name = \"  \""), "p.toml:5: name is empty"},
		{with("name = 7"), "p.toml:5: name must be a string such as \"own bundles\", not 7"},
		{with("name = \"a\\nb\""), "p.toml:5: name \"a\\nb\" holds characters that cannot be printed"},
		{with("name = \"\\u202e\""), "p.toml:5: name \"\\u202e\" holds characters that cannot be printed"},
		{with("name = \"" + strings.Repeat("n", 129) + "\""), "p.toml:5: name is longer than 128 bytes"},
		{rule("users = [\"*\"]\npaths = [\"/srv/tm\"]\n"), "p.toml:2: [[rule]] has no can: end it with one such as can = [\"lock\", \"lock-shared\"]"},
		{can("[]"), "p.toml:5: can is empty"},
		{can("\"lock\""), "p.toml:5: can must be a list"},
		{can("[\"*\"]"), "p.toml:5: unknown word \"*\" in can; words are lock, lock-shared, list, break"},
		{can("[\"\"]"), "p.toml:5: unknown word \"\" in can"},
		{can("[\"lcok\"]"), "p.toml:5: unknown word \"lcok\" in can; did you mean \"lock\"?"},
		{can("[\"lock-share\"]"), "p.toml:5: unknown word \"lock-share\" in can; did you mean \"lock-shared\"?"},
		{can("[\"lock\",\n\n\"brake\"]"), "p.toml:7: unknown word \"brake\" in can; did you mean \"break\"?"},
		{can("[\"lock\", 1]"), "p.toml:5: can holds 1: expected strings"},
		{can("[\"lock\", \"lock\"]"), "p.toml:5: \"lock\" stands twice in can"},
		{can("[\"lock\"]\nname = \"x\""), "p.toml:6: name comes after can (line 5): can must be the last key of its rule"},
		{can("[\"lock\"]\nmax_hold = \"1h\"\nholds = 2"), "p.toml:7: holds comes after can (line 5)"},
		{with("name = \"a\"") + "[[rule]]\nname = \"a\"\nusers = [1]\npaths = [\"/srv/tm\"]\n" + tail, "p.toml:7: \"a\" is the name of the rule on line 2, too"},

		// denies
		{deny("paths = [\"/srv/tm\"]\n"), "p.toml:2: [[deny]] has neither users nor groups"},
		{deny("users = [\"*\"]\n"), "p.toml:2: [[deny]] has no paths"},
		{deny("users = [\"*\"]\npaths = [\"/srv/tm\"]\ncan = [\"lock\"]"), "p.toml:5: can does not belong into [[deny]]: a deny forbids every action"},
		{deny("users = [\"*\"]\npaths = [\"/srv/tm\"]\nmax_hold = \"1h\""), "p.toml:5: max_hold does not belong into [[deny]]"},
		{deny("users = [\"*\"]\npaths = [\"/srv/archive\"]\n"), "p.toml:4: paths: \"/srv/archive\" lies outside allow"},
		{deny("users = [\"*\"]\nptahs = [\"/srv/tm\"]\npaths = [\"/srv/tm\"]"), "p.toml:4: unknown key \"ptahs\" in [[deny]]; did you mean \"paths\"?"},
		{deny("users = [\"allice\"]\npaths = [\"/srv/tm\"]"), "p.toml:3: unknown user \"allice\"; did you mean \"alice\"?"},
		{deny("") + "[[deny]]\nusers = [\"*\"]\npaths = [\"/srv/tm\"]\n", "p.toml:2: [[deny]] has neither users nor groups"},
	}
}

func manyPaths(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "\"/srv/tm/%d\", ", i)
	}
	return "[" + b.String() + "]"
}

func TestBadPolicyIsRefusedWithItsLineAndAHint(t *testing.T) {
	all := [][]badPolicy{badSyntax(), badSettings(), badRules()}
	count := 0
	for _, table := range all {
		for _, bad := range table {
			count++
			p, err := Parse("p.toml", []byte(bad.text), testUsers())
			shown := bad.text[:min(len(bad.text), 300)]
			switch {
			case err == nil || p != nil:
				t.Errorf("accepted:\n%s\nwant %s", shown, bad.want)
			case !strings.HasPrefix(err.Error(), bad.want):
				t.Errorf("%s\n got %.300s\nwant %s", shown, err, bad.want)
			}
		}
	}
	if count < 150 {
		t.Errorf("%d bad policies, want at least 150", count)
	}
	t.Logf("%d bad policies", count)
}

func TestAllErrorsAreReportedInTheOrderOfLinesUpToTen(t *testing.T) {
	text := head + "[server]\nsocket_mode = 1\n[[rule]]\nusers = [\"alcie\", \"bbo\"]\npaths = [\"x\"]\nholds = 0\n" + tail
	_, err := Parse("/etc/x.toml", []byte(text), testUsers())
	want := []string{"/etc/x.toml:3: ", "/etc/x.toml:5: ", "/etc/x.toml:5: ", "/etc/x.toml:6: ", "/etc/x.toml:7: "}
	lines := strings.Split(fmt.Sprint(err), "\n")
	if len(lines) != len(want) {
		t.Fatalf("got %d lines, want %d:\n%v", len(lines), len(want), err)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("line %d: got %q, want %q…", i, lines[i], want[i])
		}
	}
	text = head + "[[rule]]\nusers = [\"u1\", \"u2\", \"u3\", \"u4\", \"u5\", \"u6\", \"u7\", \"u8\", \"u9\", \"u10\", \"u11\", \"u12\"]\npaths = [\"/srv/tm\"]\n" + tail
	_, err = Parse("p.toml", []byte(text), testUsers())
	if lines := strings.Split(fmt.Sprint(err), "\n"); len(lines) != 11 || lines[10] != "p.toml:3: and 2 more" {
		t.Errorf("got %d lines:\n%v", len(lines), err)
	}
	text = head + strings.Repeat("[[rule]]\nname = \""+strings.Repeat("é", 5000)+"\"\n", 90)
	_, err = Parse("p.toml", []byte(text), testUsers())
	lines = strings.Split(fmt.Sprint(err), "\n")
	if len(lines) != 11 || len(err.Error()) > 6000 || !strings.HasSuffix(lines[10], ": and at least 90 more") {
		t.Errorf("got %d lines, %d bytes:\n%v", len(lines), len(err.Error()), err)
	}
}
