"""A short name for data: the same only where the data are, to tell one run from another."""

from collections.abc import Iterable
import hashlib

import numpy as np
from numpy.typing import ArrayLike


def fingerprint(parts: Iterable[str | ArrayLike]) -> str:
    """Return 16 hexadecimal digits that name a sequence of texts and arrays.

    Args:
        parts: texts, and arrays of any shape and type; both count, and so does the order.
    """
    digest = hashlib.sha256()
    for part in parts:
        array = np.asarray(part.encode() if isinstance(part, str) else part)
        digest.update(f'{array.dtype.str}{array.shape}'.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
