"""The check whether the process that holds a lease is still running.

A process is identified by host, boot, pid namespace, pid and start time: a reused pid has another start time, and a
zombie counts as dead. Nothing is known of processes on other hosts, in other containers or before a reboot.

The start time is read from /proc in clock ticks since boot. psutil gives it only on the wall clock, where setting the
clock would make a living driver look like another process, and its lease would be taken.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from aquasurf_ray.store.records.leases import LeaseOwner


def this_process() -> LeaseOwner:
    """Return the owner record of the calling process."""
    stat = _stat(os.getpid())
    started = None if stat is None else stat[1]
    return LeaseOwner(platform.node(), _boot_id(), os.getpid(), started, _namespace())


def is_dead(owner: LeaseOwner) -> bool:
    """Return True only if the owner is known to be gone; False if it lives or cannot be seen from here."""
    if not owner.boot_id or owner.started is None:
        return False
    if (owner.host, owner.boot_id, owner.namespace) != (platform.node(), _boot_id(), _namespace()):
        return False
    stat = _stat(owner.pid)
    if stat is None:
        return not _answers(owner.pid)  # /proc may hide other users' processes, a signal does not
    # Z: a zombie, which its parent has not collected yet; X: dead.
    return stat[0] in "ZX" or stat[1] != owner.started


def _stat(pid: int) -> tuple[str, int] | None:
    """Return state letter and start time in clock ticks since boot (proc(5), fields 3 and 22); None if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the process name may contain anything, including spaces and brackets
    return fields[0], int(fields[19])


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists and belongs to another user
        return True
    return True


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
