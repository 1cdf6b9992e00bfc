"""Programs for `check --conform` that do something wrong.

odd_child.py KIND [FILE]

KIND is how; into FILE goes the number of each process.
"""

import os
import sys
import time

kind = sys.argv[1]
if len(sys.argv) > 2:
    with open(sys.argv[2], "a") as file:
        file.write("%d\n" % os.getpid())


def say(text):
    print(text, flush=True)


def append(path, update):
    """Two calls, and nothing excludes others between them."""
    with open(path) as file:
        content = file.read()
    yield "did read(3) = 0"
    with open(path, "w") as file:
        file.write(content + update + "\n")
    yield "did write(3, ...) = 0"


def polite(path, update):
    """Appends in one call: in any order both are there."""
    with open(path, "a") as file:
        file.write(update + "\n")
    yield "did write(3, ...) = 0"
    yield "did close(3) = 0"


def torn(path, update):
    with open(path, "a") as file:
        file.write(update[0])
    yield "did write(3, ...) = 0"


def gone(path, update):
    if os.path.exists(path):
        os.unlink(path)
    yield "did unlink('qubes.xml') = 0"


def stuck(path, update):
    while True:
        yield "wait fcntl(3, SETLK, F_WRLCK)"


def endless(path, update):
    while True:
        yield "did nothing"


def fails(path, update):
    yield "did open('qubes.xml', O_RDWR) = 3"
    yield "failed no space \x1b left"


def changes(path, update):
    # Every second session is shorter.
    global count
    count += 1
    yield "did open('qubes.xml', O_RDWR) = 3"
    if count % 2:
        yield "did close(3) = 0"


def dies(path, update):
    yield "did open('qubes.xml', O_RDWR) = 3"
    sys.exit(7)


def hangs(path, update):
    yield "did open('qubes.xml', O_RDWR) = 3"
    time.sleep(600)


def nonsense(path, update):
    yield "did open('qubes.xml', O_RDWR) = 3"
    yield "\x1b[1mwhat?"


def long(path, update):
    yield "did " + "x" * 5000


count = 0
steps = iter(())
if kind == "mute":
    sys.exit(3)
for line in sys.stdin:
    verb, *words = line.rstrip("\n").split(" ", 2)
    if verb == "begin" and kind == "unready":
        say("no")
    elif verb == "begin" and kind == "eager":
        say("ready\ndid one")
    elif verb == "begin":
        update, directory = words
        steps = globals()[kind](os.path.join(directory, "qubes.xml"), update)
        say("ready")
    else:
        say(next(steps, "done"))
