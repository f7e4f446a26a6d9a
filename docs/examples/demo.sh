#!/bin/sh
# demo.sh BIN_DIR: the main job of locker on real files, with the lockerd and locker of BIN_DIR. 'make demo' runs it.
#
# As root it plays two users, who need not exist; as anybody else there is only that one. Everything is in directories of
# its own, which it removes. Each step is checked: it exits with 0 only if all that it shows has really happened.
set -eu

[ $# -eq 1 ] && [ -x "$1/locker" ] && [ -x "$1/lockerd" ] || { echo "usage: demo.sh BIN_DIR (with locker and lockerd in it)" >&2; exit 2; }
umask 022 # what it makes is for others to read
built=$(cd "$1" && pwd)
dir='' etc='' lockerd='' waiter=''

cleanup() {
	trap '' INT TERM HUP PIPE
	for pid in $waiter $lockerd; do
		tries=0
		while kill -0 "$pid" 2>/dev/null; do
			# Again each second: between fork and exec it is a shell, which forgets the signal.
			[ $((tries % 20)) -ne 0 ] || kill "$pid" 2>/dev/null || true
			tries=$((tries + 1))
			sleep 0.05
		done
	done
	cd /
	[ -z "$etc" ] || rm -rf "$etc"
	[ -z "$dir" ] || rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
trap 'exit 141' PIPE # whoever reads what it shows has seen enough

heading() { printf '\n== %s\n' "$*"; }
missing() { printf '   (missing: %s)\n' "$*"; }
fail() {
	printf '\ndemo: FAILED: %s\n' "$*" >&2
	[ ! -s "$dir/lockerd.log" ] || sed 's/^/    lockerd: /' "$dir/lockerd.log" >&2
	exit 1
}

# words WORD...: as one would type them.
words() {
	for w; do
		case $w in
		'' | *[!A-Za-z0-9_./:=@%+,-]*) printf " '%s'" "$w" ;;
		*) printf ' %s' "$w" ;;
		esac
	done
}

# as WHO COMMAND...
as() {
	who=$1
	shift
	case $who in
	alice) become "$alice" "$@" ;;
	bob) become "$bob" "$@" ;;
	*) "$@" ;;
	esac
}
become() {
	uid=$1
	shift
	if [ "$two" = yes ]; then setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"; else "$@"; fi
}

# step WHO CODE COMMAND...: show the command and what it says; it must exit with CODE.
step() {
	who=$1 want=$2
	shift 2
	printf '%s$%s\n' "$who" "$(words "$@")"
	code=0
	as "$who" "$@" >"$dir/out" 2>&1 || code=$?
	sed 's/^/    /' "$dir/out"
	[ "$code" -eq 0 ] || echo "    (exit code $code)"
	[ "$code" -eq "$want" ] || fail "exit code $code, and $want was to be shown"
}
# says PATTERN: the last step said it.
says() { grep -q -e "$1" "$dir/out" || fail "that does not say '$1'"; }

# eventually COMMAND...: within a minute.
eventually() {
	tries=0
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ $tries -lt 1200 ] || fail "not within a minute:$(words "$@")"
		sleep 0.05
	done
}

# A place for a policy: lockerd takes none from below a directory that others can write, such as /tmp.
for place in "$built" "${HOME:-}" "${XDG_RUNTIME_DIR:-}"; do
	[ -n "$place" ] && [ -w "$place" ] && etc=$(mktemp -d "$place/.locker-demo.XXXXXX" 2>/dev/null) || continue
	echo 'allow = ["/srv"]' >"$etc/locker.toml"
	"$built/lockerd" --check --config "$etc/locker.toml" >/dev/null 2>&1 && break
	rm -rf "$etc"
	etc=''
done
[ -n "$etc" ] || missing "a directory that only you and root can write, all the way from /: there is no policy file, and one user"

# Who plays.
two=no alice=$(id -u) bob=$(id -u)
me=you
if [ "$(id -u)" -eq 0 ]; then
	me=root
	if [ -n "$etc" ] && command -v setpriv >/dev/null 2>&1; then
		two=yes alice=54321
		while grep -q -e ":$alice:" -e ":$((alice + 1)):" /etc/passwd; do alice=$((alice + 2)); done
		bob=$((alice + 1))
	fi
fi
if [ $two = yes ]; then
	echo "alice is uid $alice, bob is uid $bob; lockerd runs as root"
	a=alice b=bob
else
	echo "one user plays all: $me (uid $alice)"
	[ $me = root ] || missing "root, for two users"
	command -v setpriv >/dev/null 2>&1 || missing "setpriv (util-linux), for two users"
	a=$me b=$me
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/locker.XXXXXX")
chmod 755 "$dir"
cd "$dir"
mkdir bin srv srv/archive srv/shared "srv/$alice" backup
cp "$built/locker" "$built/lockerd" bin # alice and bob may not get through to where they were built
PATH=$dir/bin:$PATH
LOCKER_SOCKET=$dir/sock
export PATH LOCKER_SOCKET
as $a test -x bin/locker || fail "other users cannot get to $dir; set TMPDIR to a directory that they can"

bundle=srv/$alice/mac.sparsebundle
mkdir -p $bundle/bands
: >$bundle/token
printf '<?xml version="1.0"?><plist version="1.0"><dict/></plist>\n' >$bundle/Info.plist
for band in 0 1 2 3; do
	dd if=/dev/urandom of=$bundle/bands/$band bs=65536 count=4 2>/dev/null
done
echo 'balance: 42' >srv/shared/ledger
echo 'old' >srv/archive/2016
[ $two = no ] || chown -R "$alice" "srv/$alice" backup

heading "A policy, and a broker"
policy() {
	cat <<END
allow = ["$dir/srv"]

[server]
socket_mode = "$1"
$guard
[[deny]]
name  = "the archive stays as it is"
users = ["*"]
paths = ["$dir/srv/archive"]

[[rule]]
name  = "everybody's own"
users = [$alice]
paths = ["$dir/srv/{uid}"]
can   = ["lock"]

[[rule]]
name  = "shared"
users = [$users]
paths = ["$dir/srv/shared"]
can   = ["lock", "list"]
END
}
guard=''
if [ $two = yes ]; then
	cp "$(command -v cat)" bin/fileserver # plays one that heeds no lock, as a stock Time Machine share of Samba's
	guard="
[guard]
deny = [\"$dir/bin/fileserver\"]
"
fi
mode=0600 users=$alice
[ $two = no ] || mode=0666 users="$alice, $bob"
if [ -n "$etc" ]; then
	policy "$mode" >"$etc/locker.toml"
	printf '%s$ cat locker.toml\n' "$me"
	sed 's/^/    /' "$etc/locker.toml"
	step "$me" 0 locker policy check "$etc/locker.toml"
	set -- --config "$etc/locker.toml"
else
	set -- --allow "$dir/srv"
fi
set -- lockerd "$@" --socket "$LOCKER_SOCKET" --state-dir "$dir/state"
printf '%s$%s &\n' "$me" "$(words "$@")"
"$@" >lockerd.log 2>&1 &
lockerd=$!
eventually locker status
if [ -n "$guard" ]; then
	eventually sh -c 'locker status | grep -q "^guard *on: " || grep -q "opens cannot be guarded" lockerd.log'
	if grep 'opens cannot be guarded' lockerd.log; then
		missing "fanotify's permission events, or the right to them (CAP_SYS_ADMIN), for the guard"
		guard=''
	fi
fi
sed 's/^/    /' lockerd.log

heading "A Mac's bundle is locked, while its file server goes on running"
[ -z "$guard" ] || { step "$me" 0 fileserver $bundle/Info.plist; }
step $a 0 locker lock --reason 'nightly restic' $bundle
says 'rests=ofd,flock,idle\(,guard\)\{0,1\}$'
step $a 0 locker list
says 'held .*nightly restic$'

heading "Programs outside locker are kept out by the kernel"
if command -v flock >/dev/null 2>&1; then
	step "$me" 1 flock -n $bundle/token echo 'flock: got it'
else
	missing "flock(1) (util-linux)"
fi
probe='import fcntl, sys
try:
    fcntl.lockf(open(sys.argv[1], "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError as e:
    sys.exit("fcntl: refused: %s" % e.strerror)
print("fcntl: got it")'
if command -v python3 >/dev/null 2>&1; then
	printf '%s\n' "$probe" >probe.py
	step "$me" 1 python3 probe.py $bundle/token
	says 'fcntl: refused'
else
	missing "python3, for a probe with fcntl(2)"
fi

if [ -n "$guard" ]; then
	heading "A file server that heeds no lock is kept out by the guard"
	# A guard that gets no processor for a second ends itself, and another one comes.
	eventually sh -c 'locker list --all | grep -q ",guard"'
	step "$me" 1 fileserver $bundle/Info.plist
	says 'Operation not permitted'
	step "$me" 1 fileserver $bundle/bands/0
	step "$me" 0 cat $bundle/Info.plist
fi

heading "The policy decides who may what"
if [ $two = yes ]; then
	step bob 121 locker lock $bundle
	[ -z "$etc" ] || { step root 121 locker policy explain --user "$bob" $bundle; says '^denied'; }
fi
if [ -n "$etc" ]; then
	step $a 121 locker lock srv/archive/2016
else
	step $a 121 locker lock /etc/passwd
fi

heading "A busy file: who holds it, and why"
step $a 0 locker lock --reason 'closing the books' srv/shared/ledger
step $b 120 locker run -n srv/shared/ledger -- cat srv/shared/ledger
says "is held by .*(pid [0-9]*, .*since .*: closing the books"

heading "Whoever waits gets his turn"
printf '%s$ locker run -w 1m srv/shared/ledger -- cat srv/shared/ledger &\n' $b
as $b locker run -w 1m srv/shared/ledger -- cat srv/shared/ledger >turn 2>&1 &
waiter=$!
eventually sh -c 'locker list --all | grep -q "ledger *waits 1"'
step $a 0 locker list --all
says 'ledger *waits 1 '
[ ! -s turn ] || fail "it did not wait"
step $a 0 locker unlock srv/shared/ledger
code=0
wait $waiter || code=$?
waiter=''
printf '%s: ' $b
cat turn
[ $code -eq 0 ] && grep -q '^balance: 42$' turn || fail "the waiter did not get its turn (exit code $code)"

heading "The backup: nobody else has the bundle while the copy is made"
step $a 0 locker unlock $bundle
held='locker run -n "$1" -- true 2>/dev/null; echo "another locker meanwhile: exit code $?"; cp -R "$1" backup/'
step $a 0 locker run --reason backup $bundle -- sh -c "$held" sh $bundle
says 'meanwhile: exit code 120'
sums='cd "$1" && find . -type f -exec sha256sum {} + | sort -k 2'
sh -c "$sums" sh $bundle >sums.original
sh -c "$sums" sh backup/mac.sparsebundle >sums.copy
step "$me" 0 diff sums.original sums.copy
[ "$(wc -l <sums.copy)" -eq 6 ] || fail "the copy has not the bundle's 6 files"
sed 's/^/    /' sums.copy

heading "The log has it all, and can prove it"
step "$me" 0 locker audit show --state-dir state --event grant,deny,wait,release
says ' grant .*reason="nightly restic"'
says ' deny .*code=denied'
says ' deny .*code=busy'
step "$me" 0 locker audit verify --state-dir state
says '^intact'
cp -R state changed
log=$(ls changed/audit/seg-* | tail -n 1)
record=$(sed -n 's/^{"seq":\([0-9]*\),.*"event":"grant".*"nightly restic".*/\1/p' "$log" | head -n 1)
[ -n "$record" ] || fail "the grant is not in $log"
step "$me" 0 sed -i "s/nightly restic/nightly rustic/" "$log"
step "$me" 125 locker audit verify --state-dir changed
says "^problem: .*record $record:"

heading "lockerd stops, and nothing is left"
printf '%s$ kill %s\n' "$me" $lockerd
kill $lockerd
code=0
wait $lockerd || code=$?
lockerd=''
[ $code -eq 0 ] || fail "lockerd exited with $code"
[ ! -e "$LOCKER_SOCKET" ] || fail "its socket is left"
step "$me" 0 locker audit verify --state-dir state
says ' 0 holds, lockerd stopped cleanly'
if command -v flock >/dev/null 2>&1; then step "$me" 0 flock -n $bundle/token echo 'the bundle is free'; fi
[ -z "$guard" ] || { step "$me" 0 fileserver $bundle/Info.plist; }
printf '\ndemo: all of it really happened\n'
