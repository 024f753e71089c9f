"""One training a folder: a second one would overwrite the state of the first."""

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
import os
from pathlib import Path

from eva_ros.errors import UserError


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder until the end of the block, or of the process, even of a killed one.

    Raises:
        UserError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = os.open(folder, os.O_RDONLY)
    try:
        _hold(place, folder)
        yield
    finally:
        os.close(place)


def _hold(place: int, folder: Path) -> None:
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f'Another training is under way in {folder}: wait for its end, stop it, or train in '
            'another folder.'
        ) from None
