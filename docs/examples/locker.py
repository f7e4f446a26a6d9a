#!/usr/bin/env python3
"""A small client of lockerd, written from the protocol in wire/doc.go. Python 3 standard library only.

It speaks version 1 of the protocol: when the connection breaks, its locks are gone. Its tables know the later messages.

    locker.py [--socket S] lock [--shared] [--nonblock | --timeout S] [--reason R] PATH...
    locker.py [--socket S] unlock PATH...
    locker.py [--socket S] list
    locker.py [--socket S] run [--shared] [--nonblock | --timeout S] [--reason R] PATH... -- COMMAND [ARG...]
    locker.py --self-test VECTORS

Exit codes: 0 done, 120 busy, 121 denied, 122 lockerd cannot be reached, 123 usage, 124 timed out, 125 any other
failure. run passes on the command's (128+N if signal N ended it; 126 and 127 if it could not be started).

To use it as a library: Client(path).call("List", all=False). Strings of the protocol are bytes, times are integers.
"""

import argparse
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

# The tables of wire/doc.go, without their last column. A test compares the two.
SPEC = """
Hello 0x01: min u8 nonzero, max u8
Lock 0x02: mode enum 3, wait enum 3, timeout duration, life enum 2, ttl duration, grace duration 30s, tag string 64, reason string 256, paths list 64 name 4095
Unlock 0x03: by enum 3, tag string 64, any_tag bool, id u64, paths list 64 name 4095
Cancel 0x04: target u32 nonzero
Where 0x05: target u32 nonzero
List 0x06: all bool
Watch 0x07:
Status 0x08:
Break 0x09: by enum 2, id u64, path string 4095, reason name 256
Reload 0x0a:
Rules 0x0b:
Explain 0x0c: user name 1024, has_groups bool, groups list 1024 name 1024, action string 1024, path name 4095
Resume 0x0d version 2: session u64 nonzero
Guard 0x0e version 4:
Welcome 0x81: version u8 nonzero, server string 1024, session u64, max_frame u32, max_paths u32, max_path u32, max_reason u32, max_tag u32
Granted 0x82: grants list 64 Grant
Queued 0x83: position u32, blockers list 8 Blocker
Released 0x84: ids list 8000 u64
Done 0x85:
Error 0x86: code enum 16, path string 4095, text string 1024, blockers list 8 Blocker
Rows 0x87: more bool, rows list 1024 Row
Changed 0x88:
StatusReply 0x89: server string 1024, broker_pid i32, keeper_pid i32, started time, policy_file string 4095, policy_sha256 string 1024, policy_error string 1024, policy_loaded time, rules u32, holds u32, waiters u32, connections u32, lost u32, audit_segment string 4095, audit_seq u64, audit_error string 1024, limits list 64 Limit
RulesReply 0x8a: rules list 1024 Allowance
Explained 0x8b: allowed bool, by string 1024, others list 1024 string 1024
Reloaded 0x8c: lines list 1024 string 1024
Lost 0x8d: id u64 nonzero, cause enum 3, by string 1024, reason string 256, path string 4095, grace duration 30s
Resumed 0x8e version 2: ids list 8000 u64
GuardReply 0x8f version 4: state enum 3, programs list 64 name 4095
Altered 0x90 version 4: alterations list 60 Alteration
Quiets 0x91 version 4: quiets list 1024 duration
Grant: id u64 nonzero, already bool, rests set 4 nonzero, expires time
Blocker: kind enum 3, hidden bool, path string 4095, uid u32, user string 1024, pid i32, command string 1024, since time, reason string 256
Row: kind enum 5, id u64, dev u64, ino u64, path string 4095, mode enum 2, rests set 4, life enum 2, uid u32, user string 1024, pid i32, command string 1024, tag string 64, reason string 256, since time, expires time, position u32, mine bool, stale bool, outlawed bool, ending bool
Limit: name string 1024, per_uid u64, all u64, used u64, used_all u64
Allowance: paths list 1024 name 4095, can list 64 name 1024, max_hold duration, max_wait duration, holds u32, engines list 64 name 1024
Alteration: id u64 nonzero, count u32, last string 1024, at time, missed bool, unwatched bool, lapsed bool
"""

VERSION = 1  # that we speak
LATEST = 4  # that the tables know
MAX_FRAME = 65536
INTEGERS = {"u8": ">B", "u16": ">H", "u32": ">I", "u64": ">Q", "i32": ">i", "duration": ">Q", "time": ">q"}
CODES = ("busy denied timeout deadlock quota invalid not-found unsupported conversion canceled unavailable internal"
         " version shutdown limit lost").split()
EXIT = {"busy": 120, "denied": 121, "shutdown": 122, "invalid": 123, "timeout": 124}  # every other code: 125
RESTS = ("ofd", "flock", "idle", "guard")


def read_spec():
    """Gives {structure: [(field, words of its type)]}, {type number: message} and {message: its version byte}."""
    layouts, types, versions = {}, {}, {}
    for line in SPEC.strip().splitlines():
        head, _, fields = line.partition(":")
        name, *number = head.split()  # and [its number], or [its number, "version", that]
        if number:
            types[int(number[0], 16)] = name
            versions[name] = int(number[2]) if len(number) > 1 else 1
        pairs = [f.split() for f in fields.split(",") if f.strip()]
        layouts[name] = [(p[0], tuple(p[1:])) for p in pairs]
    return layouts, types, versions


LAYOUTS, TYPES, VERSIONS = read_spec()
NUMBERS = {name: number for number, name in TYPES.items()}


class Malformed(Exception):
    """A frame or a value that the protocol does not allow. kind is one of the words in the test vectors."""

    def __init__(self, kind, where):
        super().__init__(f"{where}: {kind}")
        self.kind = kind


def check_number(field, words, n):
    """Refuses a number that is out of the range of its type."""
    kind = words[0]
    if (kind == "bool" and n > 1 or kind == "enum" and not 1 <= n <= int(words[1])
            or kind == "set" and n >= 1 << int(words[1]) or words[-1] == "nonzero" and n == 0
            or kind == "duration" and n > (30 * 10**9 if words[-1] == "30s" else 2**63 - 1)):
        raise Malformed("value", field)


def check_together(name, f):
    """Refuses fields that exclude each other: the "only with" of the tables."""
    ok = True
    if name == "Hello":
        ok = f["min"] <= f["max"]
    elif name == "Lock":
        detached = f["life"] == 2
        ok = ((f["timeout"] == 0 or f["wait"] == 3) and (f["ttl"] == 0 or detached) and (f["tag"] == b"" or detached)
              and (f["grace"] == 0 or not detached) and len(f["paths"]) > 0)
    elif name == "Unlock":
        ok = ((f["tag"] == b"" or f["by"] != 2 and not f["any_tag"]) and (not f["any_tag"] or f["by"] != 2)
              and (f["id"] != 0) == (f["by"] == 2) and (len(f["paths"]) > 0) == (f["by"] == 1))
    elif name == "Break":
        ok = (f["id"] != 0) == (f["by"] == 2) and (f["path"] != b"") == (f["by"] == 1)
    elif name == "Explain":
        if f["action"] not in (b"lock", b"lock-shared", b"list", b"break"):
            raise Malformed("value", "action")
        ok = f["has_groups"] or not f["groups"]
    elif name == "Granted":
        ok = len(f["grants"]) > 0
    elif name == "Resumed":
        if 0 in f["ids"]:
            raise Malformed("value", "ids")
        ok = all(a < b for a, b in zip(f["ids"], f["ids"][1:]))
    elif name == "GuardReply":
        ok = (f["state"] == 1) == (len(f["programs"]) == 0)
    elif name == "Blocker":
        ok = not f["hidden"] or not any(f[k] for k in ("path", "uid", "user", "pid", "command", "since", "reason"))
    elif name == "Row":
        ok = f["position"] == 0 or f["kind"] == 2
    if not ok:
        raise Malformed("combination", name)


def encode_fields(name, fields):
    for field, words in LAYOUTS[name]:
        if field not in fields:
            raise Malformed("value", f"{name}: {field} is missing")
    out = b"".join(encode_value(field, words, fields[field]) for field, words in LAYOUTS[name])
    check_together(name, fields)
    return out


def encode_value(field, words, v):
    kind = words[0]
    if kind in LAYOUTS:
        return encode_fields(kind, v)
    if kind in ("string", "name", "list"):
        if len(v) > int(words[1]):
            raise Malformed("limit", field)
        if kind == "name" and not v:
            raise Malformed("value", field)
        body = b"".join(encode_value(field, words[2:], e) for e in v) if kind == "list" else v
        return struct.pack(">H", len(v)) + body
    check_number(field, words, v)
    try:
        return struct.pack(INTEGERS.get(kind, ">B"), v)  # bool, enum and set are u8
    except struct.error:
        raise Malformed("value", field) from None


class Reader:
    """Takes fields from the front of a frame's body."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, field, n):
        if n > len(self.data) - self.at:
            raise Malformed("truncated", field)
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, field, form):
        return struct.unpack(form, self.take(field, struct.calcsize(form)))[0]

    def value(self, field, words):
        kind = words[0]
        if kind in LAYOUTS:
            return self.fields(kind)
        if kind in ("string", "name", "list"):
            n = self.number(field, ">H")
            if n > int(words[1]):
                raise Malformed("limit", field)
            if kind == "list":
                return [self.value(field, words[2:]) for _ in range(n)]
            if kind == "name" and n == 0:
                raise Malformed("value", field)
            return self.take(field, n)
        n = self.number(field, INTEGERS.get(kind, ">B"))
        check_number(field, words, n)
        return n == 1 if kind == "bool" else n

    def fields(self, name):
        out = {field: self.value(field, words) for field, words in LAYOUTS[name]}
        check_together(name, out)
        return out


def check_request(name, request):
    if name not in ("Error", "Altered") and (request == 0) != (name == "Lost"):
        raise Malformed("request-id", name)


def encode(request, name, fields):
    """Gives a whole frame."""
    check_request(name, request)
    body = struct.pack(">BBI", VERSIONS[name], NUMBERS[name], request) + encode_fields(name, fields)
    if len(body) > MAX_FRAME:
        raise Malformed("frame-size", name)
    return struct.pack(">I", len(body)) + body


def body_length(prefix):
    n = struct.unpack(">I", prefix)[0]
    if not 6 <= n <= MAX_FRAME:
        raise Malformed("frame-size", f"frame of {n} bytes")
    return n


def decode(body):
    """Gives (request id, message name, fields) of a frame without its length word."""
    version, number, request = struct.unpack(">BBI", body[:6])
    if not 1 <= version <= LATEST:
        raise Malformed("version", "frame")
    if number not in TYPES:
        raise Malformed("type", "frame")
    name = TYPES[number]
    if version != VERSIONS[name]:
        raise Malformed("version", name)
    check_request(name, request)
    r = Reader(body[6:])
    fields = r.fields(name)
    if r.at != len(r.data):
        raise Malformed("trailing", name)
    return request, name, fields


class Refused(Exception):
    """An Error from the server: fields is as in the table."""

    def __init__(self, fields):
        self.fields, self.code = fields, CODES[fields["code"] - 1]
        super().__init__(self.code)


class Unreachable(Exception):
    """There is no connection to lockerd, or not any more."""


class Client:
    """One connection. on_event is called with (message name, fields) for Queued and Lost."""

    def __init__(self, path, on_event=lambda name, fields: None):
        self.on_event, self.last = on_event, 0
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)  # not inherited by children: PEP 446
        try:
            self.sock.connect(path)
        except OSError as e:
            raise Unreachable(f"{path}: {e.strerror or e}") from None
        self.limits = self.call("Hello", min=VERSION, max=VERSION)

    def close(self):
        self.sock.close()

    def send(self, name, **fields):
        """Sends a request and gives its id."""
        self.last += 1
        try:
            self.sock.sendall(encode(self.last, name, fields))
        except OSError:
            pass  # a server that closes says why first: the reader finds it, or the end
        return self.last

    def receive(self):
        """Gives the next (request id, message name, fields)."""
        return decode(self.exactly(body_length(self.exactly(4))))

    def exactly(self, n):
        data = b""
        while len(data) < n:
            try:
                more = self.sock.recv(n - len(data))
            except OSError as e:
                raise Unreachable(str(e)) from None
            if not more:
                raise Unreachable("lockerd has closed the connection")
            data += more
        return data

    def call(self, name, **fields):
        """Sends a request and gives the fields of its last answer. One request at a time is enough for us."""
        mine, rows = self.send(name, **fields), []
        while True:
            request, answer, got = self.receive()
            if answer == "Error" and request in (0, mine):
                raise Refused(got)
            if answer in ("Queued", "Lost") and name != "Where":
                self.on_event(answer, got)
            elif request == mine and answer == "Rows":
                rows += got["rows"]
                if not got["more"]:
                    return {"rows": rows}
            elif request == mine:
                return got


# From here on: the command.


def show(data):
    """Makes other people's bytes fit for a terminal."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def clock(nanoseconds):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(nanoseconds // 10**9))


def describe(b):
    """One blocker in words."""
    if b["hidden"]:
        return "a program outside locker" if b["kind"] == 3 else "another user"
    words = [show(b["user"]) or f"uid {b['uid']}"]
    if b["pid"] > 0:
        words.append(f"(pid {b['pid']})")
    if b["command"]:
        words.append(f"running {show(b['command'])}")
    if b["since"]:
        words.append(f"since {clock(b['since'])}")
    if b["kind"] != 1:
        words.append("ahead in the queue" if b["kind"] == 2 else "outside locker")
    return " ".join(words) + (f": {show(b['reason'])}" if b["reason"] else "")


def say(text):
    print("locker.py: " + text, file=sys.stderr)


def on_event(name, fields):
    if name == "Queued":
        say(f"waiting, position {fields['position']}")
        for b in fields["blockers"]:
            say(f"  {show(b['path'])} is held by {describe(b)}" if b["kind"] != 2 else f"  behind {describe(b)}")


def absolute(path):
    """Paths must be absolute and clean: no //, no . and no .. in them."""
    return b"/" + os.path.abspath(os.fsencode(path)).lstrip(b"/")


def lock(client, args, attached):
    wait, timeout = 1, 0
    if args.nonblock:
        wait = 2
    elif args.timeout is not None:
        wait, timeout = 3, round(args.timeout * 10**9)
    paths = [absolute(p) for p in args.paths]
    grants = client.call(
        "Lock", mode=2 if args.shared else 1, wait=wait, timeout=timeout, life=1 if attached else 2, ttl=0,
        grace=10 * 10**9 if attached else 0, tag=b"", reason=os.fsencode(args.reason), paths=paths)["grants"]
    for path, g in zip(paths, grants):
        rests = " ".join(word for i, word in enumerate(RESTS) if g["rests"] & 1 << i)
        line = f"{'already locked' if g['already'] else 'locked'} {show(path)} token {g['id']} {rests}"
        print(line, file=sys.stderr if attached else sys.stdout, flush=True)
    return grants


def unlock(client, args):
    paths = [absolute(p) for p in args.paths]
    ids = client.call("Unlock", by=1, tag=b"", any_tag=False, id=0, paths=paths)["ids"]
    for path, number in zip(paths, ids):
        print(f"unlocked {show(path)} token {number}" if number else f"{show(path)} was not locked")


def list_all(client):
    for r in client.call("List", all=True)["rows"]:
        kind = ("holder", "waiter", "lost", "outside", "orphan")[r["kind"] - 1]
        place = f"position {r['position']}" if r["kind"] == 2 else f"token {r['id'] or '-'}"
        who = describe({**r, "kind": 1, "hidden": False})
        print(f"{show(r['path'])} {kind} {('exclusive', 'shared')[r['mode'] - 1]} {place} {who}")


def run(client, args):
    """Holds the lock while the command runs: by keeping the connection open."""
    grants = lock(client, args, attached=True)
    env = dict(os.environ, LOCKER_PATH=os.fsdecode(absolute(args.paths[0])), LOCKER_TOKEN=str(grants[0]["id"]))
    signal.signal(signal.SIGINT, lambda *_: None)  # from the terminal it reaches the command, which decides
    try:
        child = subprocess.Popen(args.command, env=env)
    except OSError as e:
        say(f"{args.command[0]}: {e.strerror}")
        return 127 if isinstance(e, FileNotFoundError) else 126
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    watcher = threading.Thread(target=watch, args=(client, child, len(grants)), daemon=True)
    watcher.start()
    status = child.wait()
    for g in grants:
        client.send("Unlock", by=2, tag=b"", any_tag=False, id=g["id"], paths=[])
    watcher.join(5)  # so that who comes right after us finds the file free
    return 128 - status if status < 0 else status


def watch(client, child, unlocks):
    """Reads until every Unlock is answered. On Lost, or without a connection, ends the command before the next owner comes."""
    while unlocks > 0:
        try:
            _, name, fields = client.receive()
        except (Unreachable, Malformed) as e:
            stop(child, str(e))
            return
        if name == "Lost":
            threading.Thread(target=stop, args=(child, ("broken", "expired", "lockerd is stopping")[fields["cause"] - 1])).start()
        elif name in ("Released", "Error"):
            unlocks -= 1


def stop(child, why):
    if child.poll() is not None:
        return
    say(f"the lock is lost: {why}")
    child.terminate()
    try:
        child.wait(9)  # the grace that we asked for is 10
    except subprocess.TimeoutExpired:
        child.kill()


def tell(e):
    """Says what a Refused means and gives the exit code."""
    f = e.fields
    say(f"{e.code}: " + (f"{show(f['path'])}: " if f["path"] else "") + show(f["text"]))
    for b in f["blockers"]:
        say(f"  in the way: {describe(b)}")
    return EXIT.get(e.code, 125)


# The self-test: the frames of wire/testdata/vectors.txt, both ways.


def from_json(v):
    """In the vectors' JSON a character stands for the byte of its number."""
    if isinstance(v, str):
        return v.encode("latin-1")
    if isinstance(v, list):
        return [from_json(e) for e in v]
    return {k: from_json(e) for k, e in v.items()} if isinstance(v, dict) else v


def read_vectors(file):
    """Gives one dict per vector: blocks of "key: value" lines, parted by empty lines; # begins a comment."""
    with open(file, encoding="ascii") as f:
        blocks = f.read().split("\n\n")
    for block in blocks:
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if lines:
            yield dict(line.split(": ", 1) for line in lines)


class Failed(Exception):
    """The self-test did."""


def expect(v, what, got, want):
    if got != want:
        raise Failed(f"{v['name']}: {what}: got {got!r}, want {want!r}")


def self_test(file):
    good, bad, seen = 0, 0, set()
    for v in read_vectors(file):
        frame = bytes.fromhex(v["hex"])
        try:
            n = body_length(frame[:4])
            expect(v, "length word", n, len(frame) - 4)
            request, name, fields = decode(frame[4:])
            error = ""
        except Malformed as e:
            error = e.kind
        expect(v, "error", error, v.get("error", ""))
        if error:
            bad += 1
            continue
        want = json.loads(v["json"])
        seen.add(name)
        good += 1
        expect(v, "message", (name, request), (want.pop("type"), want.pop("request")))
        expect(v, "decoded", fields, from_json(want))
        expect(v, "encoded", encode(request, name, from_json(want)).hex(), frame.hex())
    if seen != set(NUMBERS) or bad == 0:
        raise Failed(f"no vector of {sorted(set(NUMBERS) - seen)}, {bad} malformed")
    print(f"ok: {good} frames both ways, {bad} malformed refused")
    return 0


class Parser(argparse.ArgumentParser):
    def error(self, message):
        say(f"{message}\n{self.format_usage().rstrip()}")
        sys.exit(123)


def arguments(argv):
    p = Parser(prog="locker.py", description="lock files through lockerd")
    p.add_argument("--socket", default=os.environ.get("LOCKER_SOCKET") or "/run/locker.sock")
    p.add_argument("--self-test", metavar="VECTORS")
    sub = p.add_subparsers(dest="verb", parser_class=Parser)
    for verb in ("lock", "unlock", "list", "run"):
        s = sub.add_parser(verb)
        if verb in ("lock", "run"):
            s.add_argument("-s", "--shared", action="store_true")
            how = s.add_mutually_exclusive_group()
            how.add_argument("-n", "--nonblock", action="store_true")
            how.add_argument("-w", "--timeout", type=float, metavar="SECONDS")
            s.add_argument("--reason", default="")
        if verb != "list":
            s.add_argument("paths", nargs="+", metavar="PATH")
    command = None
    verb = next((a for a in argv if a in sub.choices), "")
    if verb == "run" and "--" in argv:
        at = argv.index("--")
        argv, command = argv[:at], argv[at + 1:]
    args = p.parse_args(argv)
    args.command = command
    if not args.self_test and not args.verb:
        p.error("a command is needed: lock, unlock, list or run")
    if args.verb == "run" and not command:
        p.error("run needs -- and a command")
    if getattr(args, "timeout", None) is not None and not 0 <= args.timeout < 2**33:
        p.error("--timeout is a number of seconds, 0 or more")
    return args


def main(argv):
    args = arguments(argv)
    try:
        if args.self_test:
            return self_test(args.self_test)
        client = Client(args.socket, on_event)
        if args.verb == "run":
            return run(client, args)
        if args.verb == "lock":
            lock(client, args, attached=False)
        elif args.verb == "unlock":
            unlock(client, args)
        else:
            list_all(client)
        return 0
    except Refused as e:
        return tell(e)
    except Unreachable as e:
        say(f"cannot reach lockerd: {e}")
        return 122
    except Malformed as e:
        say(f"not within the protocol: {e}")
        return 125
    except Failed as e:
        say(f"self-test: {e}")
        return 1
    except KeyboardInterrupt:
        return 130  # closing the connection leaves the queue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
