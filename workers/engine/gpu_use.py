"""How much of a GPU is in use, by all processes together."""

from __future__ import annotations

import torch

from aquasurf_ray.workers.messages import GpuUse


def gpu_use(device: torch.device) -> GpuUse | None:
    """Now; None of a CPU. The percentage is None where NVIDIA's management library is not installed or does not answer.

    Raises:
        RuntimeError: the GPU does not answer.
    """
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return GpuUse((total - free) / 1e6, total / 1e6, _percent(device))


def _percent(device: torch.device) -> float | None:
    try:
        return float(torch.cuda.utilization(device))
    except (ImportError, RuntimeError, AttributeError):  # no nvidia-ml-py, or a driver that does not tell
        return None
    except Exception as error:  # NVML's own errors are of a module that may not be there
        if type(error).__name__.startswith("NVMLError"):
            return None
        raise
