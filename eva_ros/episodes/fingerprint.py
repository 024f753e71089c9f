"""A short name for data: the same only where the data are, to tell one run from another."""

from collections.abc import Iterable
from collections.abc import Mapping
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from eva_ros.errors import UserError


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


def refuse_another(
    place: Path, kind: str, there: Mapping[str, Any], here: Mapping[str, Any]
) -> None:
    """Refuse to go on with a run that was begun with something else.

    Args:
        place: of the run's state.
        kind: what it is, in a word with its article.
        there: what it was begun with, by name.
        here: what is given now.

    Raises:
        UserError: something differs; names it.
    """
    others = [name for name in here if there.get(name) != here[name]]
    if others:
        raise UserError(
            f'{place} is of {kind} with another {", another ".join(others)}: repeat the command '
            'it was begun with, or give another --out.'
        )
