package authz

import (
	"fmt"
	"strings"
)

func badSettings() []badPolicy {
	server := func(s string) string { return head + "[server]\n" + s }
	limits := func(s string) string { return head + "[limits]\n" + s }
	audit := func(s string) string { return head + "[audit]\n" + s }
	guard := func(s string) string { return head + "[guard]\n" + s }
	programs := func(n, length int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("\"/%0*d\"", length-1, i))
		}
		return "deny = [" + strings.Join(list, ",") + "]"
	}
	return []badPolicy{
		// the whitelist
		{"allow = \"/srv\"", "p.toml:1: allow must be a list such as [\"/srv/backups\"], not \"/srv\""},
		{"allow = 1", "p.toml:1: allow must be a list"},
		{"allow = []", "p.toml:1: allow is empty"},
		{"allow = [1]", "p.toml:1: allow holds 1: expected strings"},
		{"allow = [\n\"/srv/a\",\n2]", "p.toml:3: allow holds 2"},
		{"allow = [\"/srv/a\",\n\"/srv/a\"]", "p.toml:2: \"/srv/a\" stands twice in allow"},
		{"allow = [\"\"]", "p.toml:1: allow: \"\": path is empty"},
		{"allow = [\"srv\"]", "p.toml:1: allow: \"srv\": path is not absolute"},
		{"allow = [\"./srv\"]", "p.toml:1: allow: \"./srv\": path is not absolute"},
		{"allow = [\"~/srv\"]", "p.toml:1: allow: \"~/srv\": path is not absolute"},
		{"allow = [\"/\"]", "p.toml:1: allow: \"/\": \"/\" may not be in the whitelist"},
		{"allow = [\"//\"]", "p.toml:1: allow: \"//\": path holds \"//\""},
		{"allow = [\"/srv/\"]", "p.toml:1: allow: \"/srv/\": path ends in a slash"},
		{"allow = [\"/srv//a\"]", "p.toml:1: allow: \"/srv//a\": path holds \"//\""},
		{"allow = [\"/srv/./a\"]", "p.toml:1: allow: \"/srv/./a\": path holds a \".\" component"},
		{"allow = [\"/srv/../etc\"]", "p.toml:1: allow: \"/srv/../etc\": path holds a \"..\" component"},
		{"allow = [\"/srv/a\\u0000\"]", "p.toml:1: allow: \"/srv/a\\x00\": path holds a NUL byte"},
		{"allow = [\"/" + strings.Repeat("x", 4095) + "\"]", "p.toml:1: allow: \"/xxx"},
		{"allow = [\"/srv/{user}\"]", "p.toml:1: allow: \"/srv/{user}\": no templates here, only in rules"},
		{"allow = [\"/srv/tm\", \"/proc\"]", "p.toml:1: allow: \"/proc\" may not be in the whitelist"},
		{"allow = [\"/srv/tm\",\n\n\"/proc/1/fd\"]", "p.toml:3: allow: \"/proc/1/fd\" may not be in the whitelist"},
		{"allow = [\"/sys\"]", "p.toml:1: allow: \"/sys\" may not be in the whitelist"},
		{"allow = [\"/sys/fs\"]", "p.toml:1: allow: \"/sys/fs\" may not be"},
		{"allow = [\"/dev\"]", "p.toml:1: allow: \"/dev\" may not be in the whitelist"},
		{"allow = [\"/dev/sda\"]", "p.toml:1: allow: \"/dev/sda\" may not be"},
		{"allow = [\"/run\"]", "p.toml:1: allow: \"/run\" may not be in the whitelist"},
		{"allow = [\"/var/run\"]", "p.toml:1: allow: \"/var/run\" may not be in the whitelist"},
		{"allow = [\"/run/locker.sock\"]", "p.toml:1: allow: \"/run/locker.sock\" is the socket \"/run/locker.sock\" or a file of lockerd's"},
		{"allow = [\"/var/run/locker.sock.lock\"]", "p.toml:1: allow: \"/var/run/locker.sock.lock\" is the socket \"/run/locker.sock\" or a file of lockerd's"},
		{"allow = [\"/var\"]", "p.toml:1: allow: \"/var\" holds or lies in the state directory \"/var/lib/locker\""},
		{"allow = [\"/var/lib/locker\"]", "p.toml:1: allow: \"/var/lib/locker\" holds or lies in the state directory"},
		{"allow = [\"/var/lib/locker/audit\"]", "p.toml:1: allow: \"/var/lib/locker/audit\" holds or lies in the state directory"},
		{"allow = [\"/srv/s\"]\n[server]\nsocket = \"/srv/s/sock\"", "p.toml:1: allow: \"/srv/s\" holds the socket's directory \"/srv/s\""},
		{"allow = [\"/srv\"]\n[server]\nsocket = \"/srv/s/sock\"", "p.toml:1: allow: \"/srv\" holds the socket's directory \"/srv/s\""},
		{"allow = [\"/srv/a\",\n\"/srv/b\"]\n[server]\nstate_dir = \"/srv/b/state\"", "p.toml:2: allow: \"/srv/b\" holds or lies in the state directory \"/srv/b/state\""},
		{"allow = [\"/run/x\"]\n[server]\nsocket = \"/var/run/x/s\"", "p.toml:1: allow: \"/run/x\" holds the socket's directory \"/run/x\""},

		// [server]
		{server("sockt = \"/run/a/s\""), "p.toml:3: unknown key \"sockt\" in [server]; did you mean \"socket\"?"},
		{server("mode = \"0660\""), "p.toml:3: unknown key \"mode\" in [server]; keys are socket, socket_mode, socket_group, state_dir"},
		{server("socket = 1"), "p.toml:3: socket must be a string such as \"/run/locker.sock\", not 1"},
		{server("socket = \"locker.sock\""), "p.toml:3: socket: \"locker.sock\": path is not absolute"},
		{server("socket = \"\""), "p.toml:3: socket: \"\": path is empty"},
		{server("socket = \"/run/../s\""), "p.toml:3: socket: \"/run/../s\": path holds a \"..\""},
		{server("socket = \"/locker.sock\""), "p.toml:3: socket: \"/locker.sock\" stands in \"/\""},
		{server("socket = \"/run/" + strings.Repeat("s", 103) + "\""), "p.toml:3: socket: longer than 107 bytes"},
		{server("socket_mode = 660"), "p.toml:3: socket_mode must be a string such as \"0660\", not 660"},
		{server("socket_mode = 0o660"), "p.toml:3: socket_mode must be a string such as \"0660\", not 432"},
		{server("socket_mode = \"\""), "p.toml:3: socket_mode: \"\" is not an octal mode"},
		{server("socket_mode = \"0680\""), "p.toml:3: socket_mode: \"0680\" is not an octal mode"},
		{server("socket_mode = \"0o660\""), "p.toml:3: socket_mode: \"0o660\" is not an octal mode"},
		{server("socket_mode = \"00660\""), "p.toml:3: socket_mode: \"00660\" is not an octal mode"},
		{server("socket_mode = \"4660\""), "p.toml:3: socket_mode: \"4660\" is not an octal mode"},
		{server("socket_mode = \"-660\""), "p.toml:3: socket_mode: \"-660\" is not an octal mode"},
		{server("socket_mode = \"0060\""), "p.toml:3: socket_mode: \"0060\" takes reading or writing from the owner"},
		{server("socket_mode = \"0770\""), "p.toml:3: socket_mode: \"0770\" has execute bits"},
		{server("socket_mode = \"0662\""), "p.toml:3: socket_mode: \"0662\" lets everybody write"},
		{server("socket_mode = \"0606\""), "p.toml:3: socket_mode: \"0606\" lets everybody write; if that is meant, write \"0666\""},
		{server("socket_mode = \"0777\""), "p.toml:3: socket_mode: \"0777\" has execute bits"},
		{server("socket_group = \"backups\""), "p.toml:3: socket_group: unknown group \"backups\"; did you mean \"backup\"?"},
		{server("socket_group = -1"), "p.toml:3: socket_group: -1 is no group id"},
		{server("socket_group = 65534"), "p.toml:3: socket_group: group 65534 (id 65534) stands for nobody"},
		{server("socket_group = true"), "p.toml:3: socket_group: true is neither the name nor the number of a group"},
		{server("socket_group = \"backup\"\nsocket_mode = \"0600\""), "p.toml:3: socket_group has no effect: socket_mode 0600"},
		{server("state_dir = \"lib\""), "p.toml:3: state_dir: \"lib\": path is not absolute"},
		{server("state_dir = \"/\""), "p.toml:3: state_dir: \"/\": path is \"/\""},
		{server("state_dir = [\"/a\"]"), "p.toml:3: state_dir must be a string such as \"/var/lib/locker\", not a list"},

		// [audit]
		{audit("segmentsize = \"1MiB\""), "p.toml:3: unknown key \"segmentsize\" in [audit]; did you mean \"segment_size\"?"},
		{audit("segment_size = 67108864"), "p.toml:3: segment_size must be a string such as \"64MiB\", not 67108864"},
		{audit("segment_size = \"64MB\""), "p.toml:3: segment_size: \"64MB\" has an ambiguous unit; did you mean \"64MiB\"?"},
		{audit("segment_size = \"64\""), "p.toml:3: segment_size: \"64\" has no unit of B, KiB, MiB, GiB"},
		{audit("segment_size = \"MiB\""), "p.toml:3: segment_size: \"MiB\" is no size"},
		{audit("segment_size = \"-1MiB\""), "p.toml:3: segment_size: \"-1MiB\" is no size"},
		{audit("segment_size = \"1.5MiB\""), "p.toml:3: segment_size: \"1.5MiB\" is no size"},
		{audit("segment_size = \"63KiB\""), "p.toml:3: segment_size = \"63KiB\" is not within 64KiB to 4GiB"},
		{audit("segment_size = \"5GiB\""), "p.toml:3: segment_size = \"5GiB\" is not within 64KiB to 4GiB"},
		{audit("segment_size = \"99999999999GiB\""), "p.toml:3: segment_size: \"99999999999GiB\" is no size"},

		// [guard]
		{guard("deni = []"), "p.toml:3: unknown key \"deni\" in [guard]; did you mean \"deny\"?"},
		{guard("programs = []"), "p.toml:3: unknown key \"programs\" in [guard]; keys are deny"},
		{guard("deny = \"/usr/sbin/smbd\""), "p.toml:3: deny must be a list such as [\"/usr/sbin/smbd\"], not \"/usr/sbin/smbd\""},
		{guard("deny = []"), "p.toml:3: deny is empty: name somebody or something, or leave the key out"},
		{guard("deny = [7]"), "p.toml:3: deny holds 7: expected strings such as [\"/usr/sbin/smbd\"]"},
		{guard("deny = [\"smbd\"]"), "p.toml:3: deny: \"smbd\": path is not absolute"},
		{guard("deny = [\"/usr/sbin/../bin/smbd\"]"), "p.toml:3: deny: \"/usr/sbin/../bin/smbd\": path holds a \"..\""},
		{guard("deny = [\"/usr/sbin/\"]"), "p.toml:3: deny: \"/usr/sbin/\": path ends in a slash"},
		{guard("deny = [\"/\"]"), "p.toml:3: deny: \"/\": path is \"/\""},
		{guard("deny = [\"/a\\u0000b\"]"), "p.toml:3: deny: \"/a\\x00b\": path holds a NUL"},
		{guard("deny = [\n\"/a\",\n\"/a\"]"), "p.toml:5: \"/a\" stands twice in deny"},
		{guard(programs(65, 9)), "p.toml:3: deny: 65 programs, and 64 is the most"},
		{guard(programs(64, 254)), "p.toml:3: deny: the paths have 16384 bytes in all, two more counted for each, and 16370 is the most"},

		// [limits]
		{limits("hold = 1"), "p.toml:3: unknown key \"hold\" in [limits]; did you mean \"holds\"?"},
		{limits("connection_all = 1"), "p.toml:3: unknown key \"connection_all\" in [limits]; did you mean \"connections_all\"?"},
		{limits("memory = 1"), "p.toml:3: unknown key \"memory\" in [limits]; keys are unsent, connections,"},
		{limits("holds = 0"), "p.toml:3: holds = 0 is not within 1 to 65536"},
		{limits("holds = -1"), "p.toml:3: holds = -1 is not within 1 to 65536"},
		{limits("holds = 65537"), "p.toml:3: holds = 65537 is not within 1 to 65536"},
		{limits("holds = \"12\""), "p.toml:3: holds must be a whole number, not \"12\""},
		{limits("holds = 1.0"), "p.toml:3: holds must be a whole number, not the number 1"},
		{limits("holds = inf"), "p.toml:3: holds must be a whole number, not the number +Inf"},
		{limits("holds = 1979-05-27"), "p.toml:3: holds must be a whole number, not a date"},
		{limits("holds = true"), "p.toml:3: holds must be a whole number, not true"},
		{limits("holds = [1]"), "p.toml:3: holds must be a whole number, not a list"},
		{limits("opens = 257"), "p.toml:3: opens = 257 is not within 1 to 256"},
		{limits("connections_all = 262145"), "p.toml:3: connections_all = 262145 is not within"},
		{limits("waiters = 9223372036854775807"), "p.toml:3: waiters = 9223372036854775807 is not within"},
		{limits("connections = 5000"), "p.toml:3: connections (5000) is more than connections_all (4096)"},
		{limits("holds_all = 5\nholds = 6"), "p.toml:4: holds (6) is more than holds_all (5)"},
		{limits("holds_all = 5"), "p.toml:3: holds (1024) is more than holds_all (5)"},
		{limits("denial_rate = 201"), "p.toml:3: denial_rate (201) is more than denial_rate_all (200)"},
		{limits("unsent = 1048576"), "p.toml:3: unsent must be a string such as \"64MiB\", not 1048576"},
		{limits("unsent = \"1KiB\""), "p.toml:3: unsent = \"1KiB\" is not within 64KiB to 1GiB"},
	}
}
