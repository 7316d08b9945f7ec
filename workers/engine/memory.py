"""The peak memory of one piece of work, on a GPU or in this process.

On a GPU it is the maximum that torch's allocator held. On a CPU it is the process's peak resident memory, including the
interpreter and libraries: Linux has it as VmHWM and resets it on request, so that a training does not show the peak of
an earlier one. psutil cannot reset it, so /proc is used directly. Where that is not allowed (other systems, some
sandboxes), it is the peak of the process's life.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
RESET_PEAK = "5"  # resets VmHWM, see proc(5)


class PeakMemory:
    """Measures from its creation on; a second one on the same device, or in the same process, starts again at zero.

    >>> PeakMemory(torch.device("cpu")).megabytes() > 1
    True
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._is_reset = False
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            self._is_reset = _reset_resident_peak()

    def megabytes(self) -> float:
        """Return the peak so far, in units of 10^6 bytes."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 1e6
        resident = _resident_peak() if self._is_reset else None
        return (resident or _lifetime_peak()) / 1e6


def _reset_resident_peak() -> bool:
    try:
        CLEAR_REFS.write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _resident_peak() -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("VmHWM:")]
    return int(found[0][1]) * 1024 if found else None


def _lifetime_peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes, Linux in kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
