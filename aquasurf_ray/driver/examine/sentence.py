"""An error as one line of text, and where in the user's code it was raised."""

from __future__ import annotations

import torch


def sentence(error: BaseException) -> str:
    """Return an error on one line, with its type unless it is one of this package's errors."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    text = "; ".join(line for line in lines if line)
    if isinstance(error, torch.OutOfMemoryError):
        return f"the device is full; a smaller batch_size in the recipe needs less: {text}"
    ours = type(error).__module__.split(".")[0] == "aquasurf_ray"
    return text if ours else f"{type(error).__name__}: {text}"
