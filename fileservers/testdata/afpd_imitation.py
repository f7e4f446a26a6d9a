"""An imitation of afpd: the system calls that netatalk's afpd makes for one client, on the data forks of one volume. It speaks no AFP: it does
what each line of its input says, and answers each with a line, as afp.py does for a real afpd.

usage: afpd_imitation.py DIRECTORY

What it imitates is netatalk 4.2.3, as read in its source; each function below names those that it does as. A real afpd of that version
gives the same answers: see netatalk_test.go.
"""
import errno
import fcntl
import itertools
import os
import struct
import sys

# include/atalk/adouble.h
BASE = 0x7FFFFFFFFFFFFFFF - 9
OPEN_WR, OPEN_RD, DENY_WR, DENY_RD, OPEN_NONE = BASE + 0, BASE + 1, BASE + 4, BASE + 5, BASE + 8

with open("/proc/self/comm", "w") as comm:  # what locker doctor and locker list know it by
    comm.write("afpd")
os.chdir(sys.argv[1])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)


class Refused(Exception):
    pass


class Data:
    """struct adouble, of a file's data fork: the forks of one client share the descriptor, since closing any of a file drops all its POSIX locks."""

    def __init__(self, fd, writable):
        self.fd, self.writable, self.users = fd, writable, 0
        self.locks = []  # (fork, type, start, length)


files = {}  # (dev, ino): Data
forks = {}  # number: (key of files, may read, may write)
numbers = itertools.count(1)


def fcntl_lock(fd, command, kind, start, length):
    """struct flock, as fcntl(2) has it; gives its type afterwards."""
    answer = fcntl.fcntl(fd, command, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0))
    return struct.unpack("hhqqi4x", answer)[0]


def overlap(a, alen, b, blen):
    return (not alen and a <= b) or (not blen and b <= a) or (a + alen > b and b + blen > a)


def testlock(data, start):
    """testlock() of libatalk/adouble/ad_lock.c: whether anybody, ourselves included, has a lock on the byte."""
    if any(overlap(start, 1, s, n) for _, _, s, n in data.locks):
        return True
    kind = fcntl.F_WRLCK if data.writable else fcntl.F_RDLCK
    return fcntl_lock(data.fd, fcntl.F_GETLK, kind, start, 1) != fcntl.F_UNLCK


def ad_lock(data, fork, kind, start, length):
    """ad_lock() of libatalk/adouble/ad_lock.c, without its upgrades."""
    if not data.writable:
        kind = fcntl.F_RDLCK
    for other, had, s, n in data.locks:
        if overlap(start, length, s, n):
            if other == fork:
                raise OSError(errno.EINVAL, "")
            if had == fcntl.F_WRLCK or kind == fcntl.F_WRLCK:
                raise OSError(errno.EACCES, "")
    fcntl_lock(data.fd, fcntl.F_SETLK, kind, start, length)
    data.locks.append((fork, kind, start, length))


def setmode(data, fork, access, sharing):
    """fork_setmode() of etc/afpd/fork.c: marks what is open and what is denied by read locks of single bytes far behind the end."""
    reads, writes, denies_reads, denies_writes = "r" in access, "w" in access, "r" not in sharing, "w" not in sharing
    if not (reads or writes or denies_reads or denies_writes):
        return ad_lock(data, fork, fcntl.F_RDLCK, OPEN_NONE, 1)
    for wants, denies, opened, denied in ((reads, denies_reads, OPEN_RD, DENY_RD), (writes, denies_writes, OPEN_WR, DENY_WR)):
        if not (wants or denies):
            continue
        is_open, is_denied = testlock(data, opened), testlock(data, denied)
        if wants and is_denied or denies and is_open:
            raise OSError(errno.EACCES, "")
        if wants:
            ad_lock(data, fork, fcntl.F_RDLCK, opened, 1)
        if denies:
            ad_lock(data, fork, fcntl.F_RDLCK, denied, 1)


def ad_close(key):
    """ad_close() of libatalk/adouble/ad_open.c."""
    data = files[key]
    data.users -= 1
    if data.users == 0:
        os.close(data.fd)
        del files[key]


def close(fork):
    """afp_closefork() of etc/afpd/fork.c, of_closefork() of ofork.c and ad_unlock() of libatalk/adouble/ad_lock.c."""
    key = forks.pop(fork)[0]
    data = files[key]
    gone = [lock for lock in data.locks if lock[0] == fork]
    data.locks = [lock for lock in data.locks if lock[0] != fork]
    for _, _, start, length in gone:
        if not any(s == start for _, _, s, _ in data.locks):
            fcntl_lock(data.fd, fcntl.F_SETLK, fcntl.F_UNLCK, start, length)
    ad_close(key)


def open_(name, access, sharing):
    """afp_openfork() of etc/afpd/fork.c and ad_open_df() of libatalk/adouble/ad_open.c: open for writing whenever that is possible, since locks need it."""
    try:
        found = os.stat(name, follow_symlinks=False)
    except FileNotFoundError:
        raise Refused("ObjectNotFound")
    key = (found.st_dev, found.st_ino)
    if key not in files:
        try:
            files[key] = Data(os.open(name, os.O_RDWR | os.O_NOFOLLOW), True)
        except PermissionError as err:
            if "w" in access:
                raise Refused("LockErr" if err.errno == errno.EACCES else "ParamErr")
            try:
                files[key] = Data(os.open(name, os.O_RDONLY | os.O_NOFOLLOW), False)
            except PermissionError as err:
                raise Refused("AccessDenied" if err.errno == errno.EACCES else "ParamErr")
    files[key].users += 1
    fork = str(next(numbers))
    try:
        setmode(files[key], fork, access, sharing)
    except OSError:
        ad_close(key)  # without ad_unlock(): what it has locked by then stays locked until the client has closed all its forks of the file
        raise Refused("DenyConflict")
    forks[fork] = (key, "r" in access, "w" in access)
    return fork


def read(fork):
    """read_fork() of etc/afpd/fork.c, with afp.conf's "afp read locks" as it is by default: no."""
    key, reads, _ = forks[fork]
    if not reads:
        raise Refused("AccessDenied")
    return repr(os.pread(files[key].fd, 16, 0))


def write(fork, text):
    """write_fork() of etc/afpd/fork.c, likewise."""
    key, _, writes = forks[fork]
    if not writes:
        raise Refused("AccessDenied")
    os.pwrite(files[key].fd, text.encode(), 0)


def trunc(fork):
    """afp_setforkparams() of etc/afpd/fork.c and ad_tmplock() of libatalk/adouble/ad_lock.c."""
    key, _, writes = forks[fork]
    if not writes:
        raise Refused("AccessDenied")
    fd = files[key].fd
    size = os.fstat(fd).st_size
    try:
        if size > 0:
            fcntl_lock(fd, fcntl.F_SETLK, fcntl.F_WRLCK, 0, size)
    except OSError:
        raise Refused("LockErr")
    os.ftruncate(fd, 0)
    fcntl_lock(fd, fcntl.F_SETLK, fcntl.F_UNLCK, 0, size)


def lock(fork):
    """byte_lock() of etc/afpd/fork.c."""
    try:
        ad_lock(files[forks[fork][0]], fork, fcntl.F_WRLCK, 0, 1)
    except OSError as err:
        raise Refused("RangeOverlap" if err.errno == errno.EINVAL else "LockErr")


def delete(name):
    """afp_delete() of etc/afpd/filedir.c, and deletefile() of file.c: what is opened for reading alone gets a read lock, on all of the file."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as err:
        raise Refused("ObjectNotFound" if err.errno == errno.ENOENT else "ParamErr")
    try:
        fcntl_lock(fd, fcntl.F_SETLK, fcntl.F_RDLCK, 0, 0)
        os.unlink(name)
    except BlockingIOError:
        raise Refused("FileBusy")
    finally:
        os.close(fd)


def rename(name, to):
    """moveandrename() of etc/afpd/filedir.c: asks for no lock."""
    os.rename(name, os.path.join(os.path.dirname(name), to))


does = {"open": open_, "read": read, "write": write, "trunc": trunc, "lock": lock, "close": close, "delete": delete, "rename": rename}
print("ready", flush=True)
for line in sys.stdin:
    words = line.split()
    try:
        print("OK", does[words[0]](*words[1:]) or "", flush=True)
    except Refused as err:
        print(err, flush=True)
