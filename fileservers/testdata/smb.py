"""An SMB client that does what each line of its input says, and answers each with a line.

usage: smb.py PORT SHARE

open NAME ACCESS SHARING [trunc|oplock]   ACCESS and SHARING: letters of "rw", "-" for none; answers STATUS HANDLE
read HANDLE | write HANDLE TEXT    at offset 0
lock HANDLE                        the first byte, exclusively, without waiting
close HANDLE
delete NAME | rename NAME TO       TO: without directories
"""
import sys
from impacket.smbconnection import SMBConnection, SessionError
from impacket import smb3structs as smb, smb3, nt_errors

port, share = int(sys.argv[1]), sys.argv[2]
conn = SMBConnection("127.0.0.1", "127.0.0.1", sess_port=port, timeout=60)
conn.login("guest", "")
tree = conn.connectTree(share)
handles = {}


def open_(name, access, sharing, how=""):
    wanted = (smb.FILE_READ_DATA if "r" in access else 0) | (smb.FILE_WRITE_DATA if "w" in access else 0)
    shared = (smb.FILE_SHARE_READ if "r" in sharing else 0) | (smb.FILE_SHARE_WRITE if "w" in sharing else 0)
    create = smb.FILE_OVERWRITE if how == "trunc" else smb.FILE_OPEN
    oplock = smb.SMB2_OPLOCK_LEVEL_BATCH if how == "oplock" else smb.SMB2_OPLOCK_LEVEL_NONE
    handle = str(len(handles) + 1)
    handles[handle] = conn.openFile(tree, name.replace("/", "\\"), desiredAccess=wanted, shareMode=shared, creationDisposition=create, oplockLevel=oplock)
    return handle


def read(handle):
    return repr(conn.readFile(tree, handles[handle], 0, 16))


def write(handle, text):
    conn.writeFile(tree, handles[handle], text.encode(), 0)


def lock(handle):
    element = smb.SMB2_LOCK_ELEMENT()
    element["Offset"], element["Length"] = 0, 1
    element["Flags"] = smb.SMB2_LOCKFLAG_EXCLUSIVE_LOCK | smb.SMB2_LOCKFLAG_FAIL_IMMEDIATELY
    server = conn.getSMBServer()  # whose own lock() is for Python 2
    request = smb.SMB2Lock()
    request["FileID"], request["LockCount"], request["Locks"] = handles[handle], 1, element.getData()
    packet = server.SMB_PACKET()
    packet["Command"], packet["TreeID"], packet["Data"] = smb.SMB2_LOCK, tree, request
    server.recvSMB(server.sendSMB(packet)).isValidAnswer(nt_errors.STATUS_SUCCESS)


def close(handle):
    conn.closeFile(tree, handles.pop(handle))


def delete(name):
    conn.deleteFile(share, name.replace("/", "\\"))


def rename(name, to):
    """With the access that a rename needs, and no more: what asks for more opens the file, and can be refused."""
    name = name.replace("/", "\\")
    handle = conn.openFile(tree, name, desiredAccess=smb.DELETE, shareMode=smb.FILE_SHARE_READ | smb.FILE_SHARE_WRITE | smb.FILE_SHARE_DELETE, creationOption=0, creationDisposition=smb.FILE_OPEN)
    try:
        request = smb.FILE_RENAME_INFORMATION_TYPE_2()
        path = (name.rpartition("\\")[0] + "\\" + to).encode("utf-16le")
        request["ReplaceIfExists"], request["RootDirectory"], request["FileNameLength"], request["FileName"] = 1, b"\0" * 8, len(path), path
        conn.getSMBServer().setInfo(tree, handle, request, infoType=smb.SMB2_0_INFO_FILE, fileInfoClass=smb.SMB2_FILE_RENAME_INFO)
    finally:
        conn.closeFile(tree, handle)


does = {"open": open_, "read": read, "write": write, "lock": lock, "close": close, "delete": delete, "rename": rename}
print("ready", flush=True)
for line in sys.stdin:
    words = line.split()
    try:
        answer = does[words[0]](*words[1:]) or ""
        print("OK", answer, flush=True)
    except (SessionError, smb3.SessionError) as err:
        code = err.getErrorCode() if hasattr(err, "getErrorCode") else err.get_error_code()
        print(nt_errors.ERROR_MESSAGES.get(code, (hex(code),))[0].removeprefix("STATUS_"), flush=True)
