"""Waiting for processes, and looking at them through /proc."""

import os
import pathlib
import signal
import time

DEADLINE_SECONDS = 120  # for whatever ends by itself: generous, a loaded machine is slow


def wait_until(condition, what):
    """Returns the first true value of condition(); fails after the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


def _stat(pid):
    """State and parent's id of a process; None when there is no such process."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1])


def is_alive(pid):
    stat = _stat(pid)
    return stat is not None and stat[0] != "Z"


def stop(pid):
    """As a hang does it: SIGSTOP, to the last of its threads."""
    os.kill(pid, signal.SIGSTOP)
    threads = pathlib.Path(f"/proc/{pid}/task")

    def has_stopped(thread):
        stat = _stat(f"{pid}/task/{thread.name}")
        return stat is None or stat[0] == "T"

    wait_until(lambda: all(map(has_stopped, threads.iterdir())), "all threads to stop")


def children(pid, name=""):
    """Ids of the living processes whose parent is `pid`, and whose program is `name` if given."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        child = int(path.name)
        stat = _stat(child)
        if stat is None or stat[0] == "Z" or stat[1] != pid:
            continue
        try:
            program = pathlib.Path(path / "cmdline").read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue  # it ended meanwhile
        if not name or program.endswith("/" + name):
            found.append(child)
    return found
