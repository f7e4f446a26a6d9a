// Package authz answers two questions: who is at the other end of a socket
// (PeerOf), and what does the policy let that peer do (Policy.Decide).
//
// It owns the policy file: its format, its strictness, the checks of who may
// write it, and the words of its errors. It refuses to touch the file system on
// behalf of a peer: Decide looks at the bytes of a path and at nothing else, so
// "not allowed" and "not there" cannot be told apart by anybody who may not
// lock the path. It opens no path but the policy file and the user database, and
// looks for the programs that [guard] names.
//
// # Identity
//
// A Peer is a struct filled in by the kernel: SO_PEERCRED, SO_PEERGROUPS and
// SO_PEERPIDFD, all as of connect(2). The zero Peer is nobody and is granted
// nothing. Processes with pid 0 (another pid namespace) or with the uid or gid
// 65534 or 4294967295 (another user namespace, or the kernel's "none") are
// refused. A peer's groups come from the kernel, never from the user database.
//
// # Decision
//
// Allowed = inside the whitelist, and some rule allows, and no deny matches.
// The order of rules does not matter. Several rules that allow the same thing
// are merged field by field to the most generous. uid 0 needs no rule, but
// stays inside the whitelist and under the denies, and has nothing at all when
// the file holds no rule. Decide is pure, safe for concurrent use, and
// allocates nothing on the allowed path.
//
// # Policy file
//
// TOML in a fixed order: allow, [server], [audit], [limits], [guard],
// [[deny]], [[rule]];
// can is required in a rule and is its last key. Hence the law that the tests
// hold at every byte: any prefix of a valid policy grants no more than the
// whole, because a file that was cut short has lost rules or is no policy, but
// has never lost a deny and kept a rule. An unknown key, user, group or word is
// an error with file and line. Names become ids when the policy is loaded.
//
// Paths in rules are a path and all below it, compared byte by byte and whole
// component by whole component. {user} and {uid} stand anywhere within a
// component; there is no escape for a literal brace. A user whose name holds
// '/', a control byte, or is empty, "." or ".." is matched by no path with
// {user}.
//
// # Limits
//
// A policy file is at most 1 MiB, with at most 1,024 rules, 1,024 denies, 1,024
// entries in allow, 64 programs in [guard] (16,370 bytes together), 64 paths and 1,024 users and groups per rule, and names of
// at most 128 bytes. A path is 1 to 4,095 bytes.
package authz
