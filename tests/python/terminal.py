"""Runs a command on a terminal of its own.

terminal.py COMMAND [ARG...]

What comes from stdin is typed, what is shown goes to stdout. On stderr: the
process id at once, and in the end "echo" or "silent", as the terminal was
left. Ends as the command did, with 128 and the number for a signal.
"""

import os
import pty
import select
import sys
import termios


def main(command):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    print(pid, file=sys.stderr, flush=True)
    watched = [terminal, sys.stdin.fileno()]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if terminal in ready:
            try:
                shown = os.read(terminal, 65536)
            except OSError:
                break
            if not shown:
                break
            os.write(sys.stdout.fileno(), shown)
            continue
        typed = os.read(sys.stdin.fileno(), 65536)
        if typed:
            os.write(terminal, typed)
        else:
            watched.remove(sys.stdin.fileno())
    local_modes = termios.tcgetattr(terminal)[3]
    echoes = local_modes & termios.ECHO
    print("echo" if echoes else "silent", file=sys.stderr, flush=True)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


sys.exit(main(sys.argv[1:]))
