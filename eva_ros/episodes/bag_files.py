"""Find recorded bags in folders, and the files of a bag."""

from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path

from eva_ros.errors import UserError

METADATA = 'metadata.yaml'
_SUFFIXES = ('.mcap', '.db3')
# A recording under construction ends in this.
_UNFINISHED = '.part'


def is_bag(path: Path) -> bool:
    """Return whether a path is a rosbag2 folder or one of its files."""
    if path.is_file():
        return path.suffix in _SUFFIXES
    return bool((path / METADATA).is_file() or storage_files(path))


def storage_files(path: Path) -> list[Path]:
    """Return the files that hold a bag's messages, in order."""
    if path.is_file():
        return [path]
    return sorted(entry for entry in path.iterdir() if entry.suffix in _SUFFIXES)


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """Return the bags at or below paths, each once, in order; unfinished ones are left out.

    Raises:
        UserError: a path does not exist, or there is no bag.
    """
    bags: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f'There is no {path}: name bags, or folders that hold bags.')
        bags.update(dict.fromkeys(_bags_below(path)))
    if not bags:
        raise UserError(f'There is no bag in {", ".join(map(str, paths))}.')
    return list(bags)


def _bags_below(path: Path) -> Iterator[Path]:
    if path.name.endswith(_UNFINISHED):
        return
    if is_bag(path):
        yield path
    elif path.is_dir():
        for entry in sorted(path.iterdir()):
            if entry.is_dir():
                yield from _bags_below(entry)
