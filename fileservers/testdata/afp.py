"""An AFP client that does what each line of its input says, and answers each with a line, as smb.py does.

usage: afp.py PORT VOLUME

open NAME ACCESS SHARING           ACCESS and SHARING: letters of "rw", "-" for none; answers RESULT HANDLE
read HANDLE | write HANDLE TEXT    at offset 0
trunc HANDLE                       makes it empty
lock HANDLE                        the first byte
close HANDLE
delete NAME | rename NAME TO       TO: without directories

The protocol: Apple Filing Protocol Reference, version 3, "AFP Commands" and "DSI".
"""
import socket
import struct
import sys

NAMES = {-5000: "AccessDenied", -5006: "DenyConflict", -5009: "EOFErr", -5010: "FileBusy", -5013: "LockErr", -5018: "ObjectNotFound", -5019: "ParamErr", -5020: "RangeNotLocked",
         -5021: "RangeOverlap", -5032: "ObjectLocked"}
COMMAND, OPEN_SESSION, WRITE = 2, 4, 6
ROOT = 2  # the volume's directory


class Refused(Exception):
    pass


port, volume = int(sys.argv[1]), sys.argv[2]
conn = socket.create_connection(("127.0.0.1", port), timeout=60)
last = 0


def exactly(n):
    got = b""
    while len(got) < n:
        part = conn.recv(n - len(got))
        if not part:
            raise EOFError("the server has closed the connection")
        got += part
    return got


def dsi(kind, request, data=b""):
    """One DSI request and its reply; data follows a command that writes."""
    global last
    last += 1
    conn.sendall(struct.pack(">BBHIII", 0, kind, last, len(request) if data else 0, len(request) + len(data), 0) + request + data)
    while True:
        flags, said, number, code, length, _ = struct.unpack(">BBHiII", exactly(16))
        reply = exactly(length)
        if flags == 1 and number == last:
            if code != 0 and not (code == -5009 and reply):  # EOFErr comes with what was read
                raise Refused(NAMES.get(code, str(code)))
            return reply


def pascal(text):
    return bytes([len(text)]) + text.encode()


def path(name):
    """A path of type UTF-8: a hint of the encoding, its length, and names between NULs."""
    text = name.replace("/", "\0").encode()
    return struct.pack(">BIH", 3, 0x08000103, len(text)) + text


def open_(name, access, sharing):
    mode = (1 if "r" in access else 0) | (2 if "w" in access else 0) | (0x10 if "r" not in sharing else 0) | (0x20 if "w" not in sharing else 0)
    reply = dsi(COMMAND, struct.pack(">BBHIHH", 26, 0, vid, ROOT, 0, mode) + path(name))
    return str(struct.unpack(">HH", reply[:4])[1])


def read(fork):
    return repr(dsi(COMMAND, struct.pack(">BBHQQ", 60, 0, int(fork), 0, 16)))


def write(fork, text):
    dsi(WRITE, struct.pack(">BBHQQ", 61, 0, int(fork), 0, len(text)), text.encode())


def trunc(fork):
    dsi(COMMAND, struct.pack(">BBHHI", 31, 0, int(fork), 1 << 9, 0))


def lock(fork):
    dsi(COMMAND, struct.pack(">BBHII", 1, 0, int(fork), 0, 1))


def close(fork):
    dsi(COMMAND, struct.pack(">BBH", 4, 0, int(fork)))


def delete(name):
    dsi(COMMAND, struct.pack(">BBHI", 8, 0, vid, ROOT) + path(name))


def rename(name, to):
    dsi(COMMAND, struct.pack(">BBHI", 28, 0, vid, ROOT) + path(name) + path(to))


dsi(OPEN_SESSION, b"")
dsi(COMMAND, b"\x12" + pascal("AFP3.4") + pascal("No User Authent"))
vid = struct.unpack(">HH", dsi(COMMAND, struct.pack(">BBH", 24, 0, 1 << 5) + pascal(volume))[:4])[1]
does = {"open": open_, "read": read, "write": write, "trunc": trunc, "lock": lock, "close": close, "delete": delete, "rename": rename}
print("ready", flush=True)
for line in sys.stdin:
    words = line.split()
    try:
        print("OK", does[words[0]](*words[1:]) or "", flush=True)
    except Refused as err:
        print(err, flush=True)
dsi(COMMAND, b"\x14\0")  # FPLogout: without it afpd keeps the session, and its files open, for the client to come back
conn.close()
