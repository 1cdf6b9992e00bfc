#!/usr/bin/env python3
"""Four ways to lock and save one file, one system call at a time.

protocols.py NAME                    a child of `qubes-fsm check --conform`
protocols.py NAME run FILE UPDATE    one whole session, without stops

NAME is 2013, 2014, 2016 or shipped: the order of calls of those versions of
Qubes OS, in words of our own, and that of spec/lock.md. An update is a line
that is appended to the file.

What a child reads, and what it answers:

    begin UPDATE DIRECTORY    ready: a new session on DIRECTORY/qubes.xml
    step                      did CALL: the next system call was made
                              wait CALL: another has the lock, ask again
                              failed TEXT: the session ended without success
                              done: no call was left, the update is saved

A lock is asked for without waiting: whoever waits in the kernel cannot answer.
"""

import fcntl
import os
import sys
import tempfile


# Without waiting; a run without stops waits in the kernel.
ASK = fcntl.LOCK_EX | fcntl.LOCK_NB


def lock(fd):
    """Asks until it is granted; the kit decides when to ask again."""
    while True:
        try:
            fcntl.lockf(fd, ASK)
        except BlockingIOError:
            yield "wait fcntl(%d, SETLK, F_WRLCK)" % fd
        else:
            yield "did fcntl(%d, SETLK, F_WRLCK) = granted" % fd
            return


def opened(path):
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    yield "did open('qubes.xml', O_RDWR) = %d" % fd
    return fd


def closed(fd):
    os.close(fd)
    yield "did close(%d) = 0" % fd


def is_named(fd, path):
    """Whether the path still leads to the open file."""
    ours = os.fstat(fd)
    yield "did fstat(%d) = inode %d" % (fd, ours.st_ino)
    named = os.stat(path)
    yield "did stat('qubes.xml') = inode %d" % named.st_ino
    return (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino)


def acquire_2013(path):
    """Nobody looks which file it is that was locked."""
    fd = yield from opened(path)
    yield from lock(fd)
    return fd


def acquire_2014(path):
    """Looks after the lock was granted."""
    while True:
        fd = yield from opened(path)
        yield from lock(fd)
        if (yield from is_named(fd, path)):
            return fd
        yield from closed(fd)


def acquire_2016(path):
    """Looks before it asks for the lock: too early."""
    while True:
        fd = yield from opened(path)
        if (yield from is_named(fd, path)):
            yield from lock(fd)
            return fd
        yield from closed(fd)


def content_of(fd):
    content = b""
    while piece := os.pread(fd, 65536, len(content)):
        content += piece
    yield "did read(%d) = %d bytes" % (fd, len(content))
    return content


def created(path, content):
    """The new file beside the old one, under a name of its own."""
    directory, name = os.path.split(path)
    new, temp = tempfile.mkstemp(prefix=name, dir=directory)
    os.fchmod(new, 0o660)
    yield "did open(temp-file, O_CREAT|O_EXCL) = %d" % new
    while content:
        content = content[os.write(new, content):]
    yield "did write(%d, ...) = 0" % new
    return new, temp


def synced(fd, what):
    os.fsync(fd)
    yield "did fsync(%s) = 0" % what


def renamed(temp, path):
    os.rename(temp, path)
    yield "did rename(temp-file, 'qubes.xml') = 0"


def save_and_forget(path, old, content):
    """2013 and 2014: the session ends when the old file is closed."""
    new, temp = yield from created(path, content)
    yield from closed(new)
    yield from renamed(temp, path)
    yield from closed(old)


def save_and_keep(path, old, content):
    """2016: keeps the new file as if it were locked."""
    new, temp = yield from created(path, content)
    yield from renamed(temp, path)
    yield from closed(old)
    yield from closed(new)


def stamp(stat):
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def save_shipped(path, old, content):
    """The new file is locked before anybody can find it."""
    loaded = stamp(os.fstat(old)), (yield from content_of(old))
    new, temp = yield from created(path, content)
    yield from synced(new, new)
    yield from lock(new)
    same = (yield from content_of(old)) == loaded[1]
    if same:
        # The last look, since it is the shortest.
        same = stamp(os.stat(path)) == loaded[0]
        yield "did stat('qubes.xml') as loaded"
    if not same:
        os.unlink(temp)
        yield "failed changed by somebody else"
    yield from renamed(temp, path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    yield from synced(directory, "directory")
    os.close(directory)
    yield from closed(old)
    yield from closed(new)


PROTOCOLS = {
    "2013": (acquire_2013, save_and_forget),
    "2014": (acquire_2014, save_and_forget),
    "2016": (acquire_2016, save_and_keep),
    "shipped": (acquire_2014, save_shipped),
}


def session(protocol, path, update):
    acquire, save = PROTOCOLS[protocol]
    fd = yield from acquire(path)
    content = yield from content_of(fd)
    yield from save(path, fd, content + update.encode() + b"\n")


def serve(protocol):
    steps = iter(())
    for line in sys.stdin:
        verb, *words = line.rstrip("\n").split(" ", 2)
        if verb == "begin":
            update, directory = words
            path = os.path.join(directory, "qubes.xml")
            steps = session(protocol, path, update)
            answer = "ready"
        else:
            try:
                answer = next(steps, "done")
            except OSError as error:
                answer = "failed %s" % error
        print(answer, flush=True)


def run(protocol, path, update):
    global ASK
    ASK = fcntl.LOCK_EX
    for answer in session(protocol, os.path.realpath(path), update):
        if answer.startswith("failed"):
            sys.exit(answer)


def main(protocol, verb="serve", *arguments):
    if protocol not in PROTOCOLS or verb not in ("serve", "run"):
        sys.exit("protocols.py: wanted NAME, or NAME run FILE UPDATE")
    (serve if verb == "serve" else run)(protocol, *arguments)


main(*sys.argv[1:])
