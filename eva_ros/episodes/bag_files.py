"""Find recorded bags in folders, and the files of a bag."""

from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
import re
from typing import Any

import yaml

from eva_ros.episodes.unpack import is_packed
from eva_ros.errors import UserError

METADATA = 'metadata.yaml'
_SUFFIXES = ('.mcap', '.db3')
# A recording under construction ends in this.
_UNFINISHED = '.part'
_SPLIT = re.compile(r'_\d+$')
# What every version of the metadata has.
_KEYS = ('relative_file_paths', 'duration', 'message_count', 'topics_with_message_count')
# A longer metadata.yaml is not believed.
_LONGEST = 1 << 24


def is_storage(path: Path) -> bool:
    """Return whether a file's name is one of a file that holds messages."""
    return storage_name(path).suffix in _SUFFIXES


def storage_name(path: Path) -> Path:
    """Return a file's name without the suffix that says that all of it is compressed."""
    return path.with_suffix('') if is_packed(path) else path


def is_bag(path: Path) -> bool:
    """Return whether a path is a rosbag2 folder or one of its files."""
    if path.is_file():
        return is_storage(path)
    return bool((path / METADATA).is_file() or storage_files(path))


def storage_files(path: Path) -> list[Path]:
    """Return the files that hold a bag's messages, in order of their numbers."""
    if path.is_file():
        return [path]
    found = [entry for entry in path.iterdir() if entry.is_file() and is_storage(entry)]
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r'(\d+)', path.name)
    return [(int(part), '') if part.isdigit() else (-1, part) for part in parts]


def read_metadata(folder: Path) -> tuple[dict[str, Any], str]:
    """Return what a bag's metadata.yaml says, and what is wrong with it ('' where nothing is)."""
    path = folder / METADATA
    try:
        with path.open('rb') as stream:
            text = stream.read(_LONGEST).decode()
        found = yaml.load(text, getattr(yaml, 'CSafeLoader', yaml.SafeLoader))
        about = found['rosbag2_bagfile_information']
        if not isinstance(about, dict):
            raise TypeError('it is no map')
    except FileNotFoundError:
        return {}, f'The bag {folder} has no {METADATA}'
    except (OSError, ValueError, TypeError, KeyError, RecursionError, yaml.YAMLError) as error:
        reason = ' '.join(str(error).split())[:120]
        return {}, f'{path} cannot be read ({reason})'
    return about, _incomplete(path, about)


def _incomplete(path: Path, about: dict[str, Any]) -> str:
    """Return what a metadata.yaml lacks: one that was cut off may still be YAML."""
    lacking = [key for key in _KEYS if key not in about]
    if lacking:
        return f'{path} is incomplete: it lacks {", ".join(lacking)}'
    try:
        counts = [int(entry['message_count']) for entry in about['topics_with_message_count']]
    except (KeyError, TypeError, ValueError):
        return f'{path} does not say how many messages each topic has'
    if sum(counts) != about['message_count']:
        return f'{path} counts {about["message_count"]} messages, its topics {sum(counts)}'
    return ''


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """Return the bags at or below paths, each once, in order; unfinished ones are left out.

    Loose files are the splits of one bag where their names differ in the last number alone;
    otherwise each is a bag. Folders below a bag are looked at too. A bag that is met again, by
    another path or through a link, keeps the path by which it was met first.

    Raises:
        UserError: a path does not exist, or there is no bag.
    """
    bags: list[Path] = []
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise UserError(f'There is no {path}: name bags, or folders that hold bags.')
        bags += _bags_below(path, seen)
    if not bags:
        raise UserError(f'There is no bag in {", ".join(map(str, paths))}.')
    return bags


def _bags_below(path: Path, seen: set[Path]) -> Iterator[Path]:
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
    if (path / METADATA).is_file() or (files and _are_splits(files)):
        seen.update(file.resolve() for file in files)
        yield path
    else:
        for file in files:
            yield from _bags_below(file, seen)
    for entry in sorted(path.iterdir()):
        if entry.is_dir():
            yield from _bags_below(entry, seen)


def _are_splits(files: list[Path]) -> bool:
    return len({_SPLIT.sub('', storage_name(file).stem) for file in files}) == 1
