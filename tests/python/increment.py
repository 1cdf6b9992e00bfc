"""Increments a number in qubes.xml, and locks it, as programs of 2014 do.

increment.py filter QUBE ATTRIBUTE            from stdin to stdout
increment.py follow FILE QUBE ATTRIBUTE COUNT under the lock, COUNT times
increment.py hold FILE    locks, says "held", keeps it to the end of stdin
increment.py try FILE     says "granted" or "refused"

Source: core-admin 247cff33, core/qubes.py, lock_db_for_writing and save.
"""

import fcntl
import os
import re
import sys
import tempfile


def incremented(document, qube, attribute):
    """The document with the attribute one higher; name comes first."""
    number = re.compile(
        rb'(<[^<>]*\sname="%s"[^<>]*\s%s=")(\d+)(?=")'
        % (re.escape(qube.encode()), re.escape(attribute.encode()))
    )
    higher = lambda found: found[1] + b"%d" % (int(found[2]) + 1)
    document, count = number.subn(higher, document)
    if count != 1:
        sys.exit("increment.py: %d numbers; wanted one" % count)
    return document


def locked(path):
    """The file that the path names, locked."""
    while True:
        file = open(path, "r+b")
        fcntl.lockf(file, fcntl.LOCK_EX)
        ours, named = os.fstat(file.fileno()), os.stat(path)
        if (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino):
            return file
        file.close()


def follow(path, qube, attribute):
    """One increment: the lock goes with the old file, at the end."""
    old = locked(path)
    document = incremented(old.read(), qube, attribute)
    stat = os.fstat(old.fileno())
    directory = os.path.dirname(path)
    with tempfile.NamedTemporaryFile(dir=directory, delete=False) as new:
        os.fchown(new.fileno(), -1, stat.st_gid)
        os.fchmod(new.fileno(), stat.st_mode & 0o777)
        new.write(document)
        new.flush()
        os.fsync(new.fileno())
        os.rename(new.name, path)
    old.close()


def main(verb, *arguments):
    if verb == "filter":
        document = sys.stdin.buffer.read()
        sys.stdout.buffer.write(incremented(document, *arguments))
    elif verb == "follow":
        path, qube, attribute, count = arguments
        for _ in range(int(count)):
            follow(path, qube, attribute)
    elif verb == "hold":
        file = locked(*arguments)
        print("held", flush=True)
        sys.stdin.read()
        file.close()
    elif verb == "try":
        file = open(arguments[0], "r+b")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            print("granted")
        except BlockingIOError:
            print("refused")
    else:
        sys.exit("increment.py: %r; wanted a verb, see its head" % verb)


main(*sys.argv[1:])
