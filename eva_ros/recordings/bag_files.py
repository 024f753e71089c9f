"""The files of a recorded bag, and what its metadata say."""

from pathlib import Path
import re
from typing import Any

import yaml

from eva_ros.recordings.unpack import is_packed

METADATA = 'metadata.yaml'
_SUFFIXES = ('.mcap', '.db3')
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
