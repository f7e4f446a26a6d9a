package authz

import "strings"

// badPolicy is a policy that must be refused with an error that begins with want.
type badPolicy struct{ text, want string }

func badSyntax() []badPolicy {
	many := func(s string, n int) string { return strings.Repeat(s, n) }
	return []badPolicy{
		// what is no text
		{"", "p.toml:1: allow is missing"},
		{"\n\n# only a comment", "p.toml:1: allow is missing"},
		{"\xef\xbb\xbf" + head, "p.toml:1: starts with a byte order mark"},
		{"\xff\xfea\x00", "p.toml:1: starts with a byte order mark"},
		{"\xfe\xff\x00a", "p.toml:1: starts with a byte order mark"},
		{head + "# \xff", "p.toml:2: byte 0xff is not UTF-8"},
		{head + "\n[[rule]]\nname = \"\xc3\x28\"", "p.toml:4: byte 0xc3 is not UTF-8"},
		{head + "\x00", "p.toml:2: control character 0x00"},
		{head + "# \x1b[31m", "p.toml:2: control character 0x1b"},
		{head + "# \x7f", "p.toml:2: control character 0x7f"},
		{"allow = [\"/srv/tm\"]\r", "p.toml:1: control character 0x0d"},
		{"# " + many("x", maxFile), "p.toml:1: larger than 1048576 bytes"},

		// TOML that is none
		{"allow", "p.toml:1: expected \"=\" after \"allow\", found end of line"},
		{"allow =", "p.toml:1: expected a value for \"allow\", found end of line"},
		{"allow = [", "p.toml:1: the list of \"allow\" is not closed"},
		{"allow = [\n\n\n", "p.toml:1: the list of \"allow\" is not closed"},
		{"allow = [\"/srv/tm\"", "p.toml:1: the list of \"allow\" is not closed"},
		{"allow = [\"/srv/tm\" \"/srv/b\"]", "p.toml:1: expected \",\" or \"]\" in the list of \"allow\", found \"\\\"/srv/b\\\"]\""},
		{"allow = [\"/srv/tm]", "p.toml:1: the string of \"allow\" is not closed: \" is missing"},
		{"allow = ['/srv/tm]\n'", "p.toml:1: the string of \"allow\" is not closed: ' is missing"},
		{"allow = [\"/srv/tm\\", "p.toml:1: the string of \"allow\" is not closed"},
		{"allow = [,]", "p.toml:1: expected a value for \"allow\", found \",]\""},
		{head + "x y = 1", "p.toml:2: expected \"=\" after \"x\", found \"y = 1\""},
		{head + "= 1", "p.toml:2: expected a key, found \"= 1\""},
		{head + "[server]\nsocket = \"/run/a/s\" extra", "p.toml:3: unexpected \"extra\" after the value"},
		{head + "[server", "p.toml:2: expected \"]\" after the table name, found end of line"},
		{head + "[[rule]", "p.toml:2: expected \"]]\" after the table name, found \"]\""},
		{head + "[]", "p.toml:2: expected a table name, found \"]\""},
		{head + "[server] socket", "p.toml:2: unexpected \"socket\" after the value"},
		{head + "[server]]", "p.toml:2: unexpected \"]\" after the value"},
		{head + "{", "p.toml:2: expected a key, found \"{\""},
		{head + "[limits]\nholds = 08", "p.toml:3: Invalid integer \"08\": cannot have leading zeroes"},
		{head + "[limits]\nholds = ten", "p.toml:3: ten is neither a number nor true nor false: a string needs quotes"},
		{head + "[limits]\nholds = 99999999999999999999", "p.toml:3: 99999999999999999999 is out of range"},
		{head + "[server]\nsocket = \"\\q\"", "p.toml:3: invalid escape"},
		{head + "[server]\nsocket = \"\\ud800\"", "p.toml:3: Escaped character"},
		{head + "[[rule]]\nhardlinks = True", "p.toml:3: True is neither a number"},

		// TOML that a policy does not need
		{head + "server.socket = \"/run/a/s\"", "p.toml:2: dotted keys are not used here: write [server]"},
		{head + "\"server\" = 1", "p.toml:2: write the key without quotes"},
		{head + "['server']", "p.toml:2: write the table name without quotes"},
		{head + "[server.more]", "p.toml:2: no table has tables of its own: [server.…]"},
		{head + "server = {socket = \"/run/a/s\"}", "p.toml:2: the value of \"server\" is an inline table"},
		{head + "rule = [{users = [\"*\"]}]", "p.toml:2: the value of \"rule\" is an inline table"},
		{"allow = [[\"/srv/tm\"]]", "p.toml:1: a list within the list of \"allow\""},
		{head + "[server]\nsocket = \"\"\"/run/a/s\"\"\"", "p.toml:3: the value of \"socket\" is a string over several lines"},
		{head + "[server]\nsocket = '''/run/a/s'''", "p.toml:3: the value of \"socket\" is a string over several lines"},

		// shapes that could cost a lot
		{"a = " + many("[", 1<<19), "p.toml:1: a list within the list"},
		{many("a.", 1<<18) + "b = 1", "p.toml:1: dotted keys"},
		{"a = " + many("{a=", 1<<18), "p.toml:1: the value of \"a\" is an inline table"},
		{"[" + many("a.", 1<<18) + "b]", "p.toml:1: no table has tables of its own"},
		{head + many("[[rule]]\n", maxTables+2), "p.toml:2065: more than 2064 tables"},
		{"allow = [" + many("1,", maxItems+1), "p.toml:1: more than 1024 values in the list of \"allow\""},
		{head + many("a=1\n", maxEntries+1), "p.toml:65: more than 64 keys in one table"},

		// tables: names, repetition, order
		{head + "[sever]", "p.toml:2: unknown table \"sever\"; did you mean \"server\"?"},
		{head + "[Server]", "p.toml:2: unknown table \"Server\"; did you mean \"server\"?"},
		{head + "[[rules]]", "p.toml:2: unknown table \"rules\"; did you mean \"rule\"?"},
		{head + "[logging]", "p.toml:2: unknown table \"logging\"; tables are server, audit, limits, guard, deny, rule"},
		{head + "[guards]", "p.toml:2: unknown table \"guards\"; did you mean \"guard\"?"},
		{head + "[[guard]]", "p.toml:2: write [guard] with one bracket"},
		{head + "[guard]\n[guard]", "p.toml:3: [guard] is given twice: first on line 2"},
		{head + "[guard]\n[limits]", "p.toml:3: \"limits\" comes after \"guard\" (line 2): the order is allow, server, audit, limits, guard, deny, rule"},
		{head + "[[deny]]\n[guard]\n", "p.toml:3: \"guard\" comes after \"deny\" (line 2)"},
		{head + "guard = [\"/usr/sbin/smbd\"]", "p.toml:2: \"guard\" is a table: write [guard]"},
		{head + "[rule]", "p.toml:2: write [[rule]] with two brackets"},
		{head + "[deny]", "p.toml:2: write [[deny]] with two brackets"},
		{head + "[[server]]", "p.toml:2: write [server] with one bracket"},
		{head + "[server]\n[server]", "p.toml:3: [server] is given twice: first on line 2"},
		{head + "[limits]\nholds = 1\n[limits]", "p.toml:4: [limits] is given twice: first on line 2"},
		{head + "[audit]\n[server]", "p.toml:3: \"server\" comes after \"audit\" (line 2): the order is allow, server, audit, limits, guard, deny, rule"},
		{head + "[limits]\n[audit]", "p.toml:3: \"audit\" comes after \"limits\" (line 2)"},
		{head + "[[rule]]\n" + tail + "[[deny]]\n", "p.toml:4: \"deny\" comes after \"rule\" (line 2)"},
		{head + "[[deny]]\n[limits]\n", "p.toml:3: \"limits\" comes after \"deny\" (line 2)"},
		{head + "[[rule]]\n[server]\n", "p.toml:3: \"server\" comes after \"rule\" (line 2)"},
		{head + "allow = []", "p.toml:2: \"allow\" is given twice: first on line 1"},
		{head + "[[rule]]\nusers = [1]\nusers = [2]", "p.toml:4: \"users\" is given twice: first on line 3"},
		{head + "[server]\nallow = [\"/srv\"]", "p.toml:3: allow does not belong into [server]: write it above all tables"},
		{head + "[[rule]]\nallow = [\"/srv\"]\n" + tail, "p.toml:2: [[rule]] has neither users nor groups: for everybody write users = [\"*\"]\np.toml:2: [[rule]] has no paths\np.toml:3: allow does not belong into [[rule]]"},
		{"alow = [\"/srv/tm\"]", "p.toml:1: unknown key \"alow\" in the top of the file; did you mean \"allow\"?\np.toml:1: allow is missing"},
		{head + "alow = [\"/srv/tm\"]", "p.toml:2: unknown key \"alow\" in the top of the file; did you mean \"allow\"?"},
		{head + "server = 1", "p.toml:2: \"server\" is a table: write [server]"},
	}
}
