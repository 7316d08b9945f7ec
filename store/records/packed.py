"""Long lists of numbers as bytes: zlib over little-endian float64, lossless to the last bit.

A spectrum's CDF is mostly zeros and ones, and packs to about a tenth.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from aquasurf_ray.store.errors import StoreCorrupt

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_FAST = 1  # zlib's level


def pack(values: npt.NDArray[np.float64]) -> bytes:
    """Return a one-dimensional array as bytes; no bytes for an empty one.

    >>> import numpy as np
    >>> unpack(pack(np.array([0.0, -0.0, np.nan, np.inf]))).tolist()
    [0.0, -0.0, nan, inf]
    """
    import numpy as np

    return zlib.compress(np.ascontiguousarray(values, dtype="<f8").tobytes(), _FAST) if len(values) else b""


def unpack(data: bytes) -> npt.NDArray[np.float64]:
    """Return the array that was packed.

    Raises:
        StoreCorrupt: the bytes were not made by `pack`.
    """
    import numpy as np

    try:
        return np.frombuffer(zlib.decompress(data) if data else b"", dtype="<f8").astype(np.float64)
    except (zlib.error, ValueError):
        raise StoreCorrupt(f"{len(data)} bytes of packed numbers are damaged; restore a copy of the store") from None
