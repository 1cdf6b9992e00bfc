"""The other side: what answers qubes.Backup and qubes.Restore in a qube.

qube_service.py backup     two lines of chatter on stdout, then stdin to a file
qube_service.py restore    the members of an archive on stdout, as a qfile

Both read where the archive is from the first line of stdin; restore reads from
the second one with what the names of members may begin. It stops when all of
these were seen and another member comes, looks for a reply where it cannot
write, and says on stderr what it was answered.

Written after qubes-core-agent-linux, qubes.Backup, qubes.Restore and
tar2qfile.c, and qubes-linux-utils, pack.c; in Python, so that no code of ours
is on both sides.
"""

import os
import struct
import sys
import zlib

BLOCK = 512
EDQUOT = 122


def log(*words):
    print(*words, file=sys.stderr, flush=True)


def read_all(file, size):
    """So many bytes, or None where the file ends before."""
    data = b""
    while len(data) < size:
        piece = file.read(size - len(data))
        if not piece:
            return None
        data += piece
    return data


def line():
    """Byte by byte, as a shell does: what follows is not ours."""
    text = b""
    while not text.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        text += byte
    return text.rstrip(b"\n").decode()


class Sender:
    def __init__(self):
        self.crc = 0
        self.directories = []

    def write(self, data):
        self.crc = zlib.crc32(data, self.crc)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(1, view):]
        except BrokenPipeError:
            log("stopped by the receiver")
            self.wait_for_result()
            sys.exit(1)

    def header(self, name, mode, size, mtime):
        name += b"\0"
        self.write(
            struct.pack("<IIQIIII", len(name), mode, size, mtime, 0, mtime, 0)
        )
        self.write(name)

    def member(self, name, mode, size, mtime, archive):
        parts = name.split(b"/")
        for count in range(1, len(parts)):
            folder = b"/".join(parts[:count])
            if folder not in self.directories:
                self.directories.append(folder)
                self.header(folder, mode | 0o040000, 0, mtime)
        self.header(name, mode | 0o100000, size, mtime)
        while size > 0:
            data = read_all(archive, min(size, 65536))
            if data is None:
                log("archive: cut off")
                sys.exit(1)
            self.write(data)
            size -= len(data)

    def end(self):
        self.write(bytes(32))
        self.wait_for_result()

    def wait_for_result(self):
        with os.fdopen(0, "rb", buffering=0, closefd=False) as stdin:
            reply = read_all(stdin, 16)
            if reply is None:
                log("no reply")
                sys.exit(1)
            code, _, crc = struct.unpack("<IIQ", reply)
            length = read_all(stdin, 4)
            name = b""
            if length is not None:
                name = read_all(stdin, struct.unpack("<I", length)[0])
        log("reply", code, name.decode(errors="backslashreplace"))
        if code == EDQUOT:
            return
        if code != 0:
            log("error: File copy:", code)
            sys.exit(1)
        if crc != self.crc:
            log("error: File transfer failed: checksum mismatch")
            sys.exit(1)


def octal(field):
    digits = field.split(b"\0")[0].strip(b" ")
    return int(digits, 8) if digits else 0


def is_ustar(block):
    blank = block[:148] + b" " * 8 + block[156:]
    return (
        block[0] != 0
        and block[257:262] == b"ustar"
        and octal(block[148:156]) == sum(blank)
    )


def send(archive, beginnings):
    """As tar2qfile: plain ustar alone, and what it does not know is skipped."""
    sender = Sender()
    matched = set()
    while True:
        block = read_all(archive, BLOCK)
        if block is None:
            break
        if not any(block):
            continue
        if not is_ustar(block):
            log("invalid header")
            sys.exit(1)
        name = block[:100].split(b"\0")[0]
        prefix = block[345:500].split(b"\0")[0]
        if prefix:
            name = prefix + b"/" + name
        size, mtime = octal(block[124:136]), octal(block[136:148])
        mode = octal(block[100:108]) & 0xfff
        begins = [b for b in beginnings if name.startswith(b)]
        if block[156:157] == b"0" and (begins or not beginnings):
            matched.update(begins[:1])
            sender.member(name, mode, size, mtime, archive)
            padding = -size % BLOCK
            read_all(archive, padding)
            continue
        if (
            block[156:157] == b"0"
            and beginnings
            and len(matched) == len(beginnings)
        ):
            log("all that was asked for was sent")
            break
        read_all(archive, size + -size % BLOCK)
    sender.end()


def restore():
    log("Starting Restorecopy")
    path = line()
    beginnings = [word.encode() for word in line().split()]
    log("Arguments:", path)
    log("Paths:", *[b.decode() for b in beginnings])
    if not os.path.isfile(path):
        log("Invalid command", path)
        sys.exit(2)
    with open(path, "rb") as archive:
        send(archive, beginnings)


def backup():
    print("Starting Backupcopy", flush=True)
    path = line()
    print("Arguments:", path, flush=True)
    if not os.path.isdir(path):
        print("Invalid command", path, flush=True)
        sys.exit(1)
    with open(os.path.join(path, "qubes-backup"), "wb") as target:
        while True:
            data = os.read(0, 65536)
            if not data:
                return
            target.write(data)


if __name__ == "__main__":
    {"backup": backup, "restore": restore}[sys.argv[1]]()
