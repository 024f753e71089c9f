"""Find recorded bags in folders, and tell splits of one recording from recordings of their own."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
import math
from pathlib import Path
import re

from eva_ros.errors import UserError
from eva_ros.recordings.bag_files import is_storage
from eva_ros.recordings.bag_files import METADATA
from eva_ros.recordings.bag_files import storage_files
from eva_ros.recordings.bag_files import storage_name
from eva_ros.recordings.storage import open_part

# Is given a bag, and a sentence that says what was guessed about it.
Guess = Callable[[Path, str], None]

# A recording under construction ends in this.
_UNFINISHED = '.part'
_SPLIT = re.compile(r'_\d+$')
# A recorder that goes on with another file misses nothing; what it had in hand may go to either.
_LATE_S, _NEAR_S = 0.1, 0.5
# A recorder that is stopped and started again takes longer; up to here nobody can be sure.
_FAR_S = 5.0


def find_bags(paths: Sequence[Path], on_guess: Guess = lambda _bag, _sentence: None) -> list[Path]:
    """Return the bags at or below paths, each once, in order; unfinished ones are left out.

    Loose files are the splits of one bag where their names differ in the last number alone, they
    have the same topics and each begins where the one before it ends; otherwise each is a bag.
    Folders below a bag are looked at too. A bag that is met again, by another path or through a
    link, keeps the path by which it was met first.

    Args:
        paths: bags, or folders that hold bags.
        on_guess: is told where loose files may as well be what they are not taken for.

    Raises:
        UserError: a path does not exist, or there is no bag.
    """
    bags: list[Path] = []
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise UserError(f'There is no {path}: name bags, or folders that hold bags.')
        bags += _bags_below(path, seen, on_guess)
    if not bags:
        raise UserError(f'There is no bag in {", ".join(map(str, paths))}.')
    return bags


def _bags_below(path: Path, seen: set[Path], on_guess: Guess) -> Iterator[Path]:
    """Yield the bags at or below a path, but for files and folders seen before."""
    place = path.resolve()
    if place in seen or path.name.endswith(_UNFINISHED):
        return
    seen.add(place)
    if path.is_file():
        if is_storage(path):
            yield path
        return
    files = storage_files(path)
    if (path / METADATA).is_file() or (files and _are_splits(files, on_guess)):
        seen.update(file.resolve() for file in files)
        yield path
    else:
        for file in files:
            yield from _bags_below(file, seen, on_guess)
    for entry in sorted(path.iterdir()):
        if entry.is_dir():
            yield from _bags_below(entry, seen, on_guess)


def _are_splits(files: list[Path], on_guess: Guess) -> bool:
    """Return whether files are the splits of one recording, by their names and what they hold.

    What cannot be opened, or has no known end, stands in no split's way: a recorder that died
    leaves such a file behind the others.
    """
    if len({_SPLIT.sub('', storage_name(file).stem) for file in files}) > 1:
        return False
    if len(files) == 1:
        return True
    extents = [_extent(file) for file in files]
    gaps_s = [_gap_s(before, after) for before, after in pairwise(extents)]
    if all(gap_s is None or _is_near(gap_s) for gap_s in gaps_s):
        return True
    for before, file, gap_s in zip(files, files[1:], gaps_s):
        if gap_s is not None and gap_s <= _FAR_S:
            _tell(before, file, gap_s, on_guess)
    return False


def _tell(before: Path, file: Path, gap_s: float, on_guess: Guess) -> None:
    """Say that a file may belong to the one before it."""
    if gap_s < -_LATE_S:
        return
    how = f'begins {gap_s:.1f} s behind the end of {before.name}'
    if _is_near(gap_s):
        how = f'goes on where {before.name} ends, as other files of that name do not'
    on_guess(
        file,
        f'{file} {how}: it is read as a bag of its own; if both are of one recording, give that a '
        "folder with the metadata of 'ros2 bag reindex'.",
    )


def _is_near(gap_s: float) -> bool:
    return -_LATE_S <= gap_s <= _NEAR_S


@dataclass(frozen=True)
class _Extent:
    """Topics and types in a file, and when its first and last messages were received."""

    topics: dict[str, str]
    first_ns: int
    last_ns: int | None


def _extent(file: Path) -> _Extent | None:
    """Return a file's extent, None where nothing of it can be read."""
    try:
        part = open_part(file, lambda _: None)
    except UserError:
        return None
    try:
        span = part.span()
        return span and _Extent({topic.name: topic.type for topic in part.topics}, *span)
    finally:
        part.close()


def _gap_s(before: _Extent | None, after: _Extent | None) -> float | None:
    """Return the time between two files, below zero where they overlap; None if unknown."""
    if before is None or after is None:
        return None
    shared = before.topics.keys() & after.topics.keys()
    if not shared or any(before.topics[name] != after.topics[name] for name in shared):
        return math.inf
    if before.last_ns is not None:
        return (after.first_ns - before.last_ns) * 1e-9
    return -math.inf if after.first_ns < before.first_ns else None
