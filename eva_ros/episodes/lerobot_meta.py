"""The metadata of LeRobot data sets: JSON, and lists of episodes that name each once."""

from collections.abc import Iterable
from collections.abc import Iterator
import json
from pathlib import Path
from typing import Any

from eva_ros.errors import UserError

_LONGEST = 1 << 27
# What a marker in a bag holds.
_INDICES = 1 << 32

# Where something stands, in words, and what stands there.
Entry = tuple[str, Any]


def json_map(path: Path) -> dict[str, Any]:
    """Return the map that a JSON file holds.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} cannot be read: {error}.') from None
    if not isinstance(found, dict):
        raise UserError(f'{path} holds no map.')
    return found


def json_lines(path: Path) -> Iterator[Entry]:
    """Yield what the lines of a file hold, an error for those that are no JSON.

    Raises:
        UserError: the file cannot be read.
    """
    # Not splitlines, which divides at characters that a text may hold.
    for number, line in enumerate(_text(path).split('\n'), 1):
        if line.strip():
            where = f'{path}, line {number}'
            try:
                yield where, json.loads(line)
            except json.JSONDecodeError as error:
                yield where, ValueError(f'{error.msg} at column {error.colno}')
            except (ValueError, RecursionError) as error:
                yield where, error


def distinct(entries: Iterable[Entry], findings: list[str]) -> list[dict[str, Any]]:
    """Return the entries that describe an episode, of each episode the first.

    Args:
        entries: as the metadata have them.
        findings: gets a sentence for each that is left out.
    """
    found: dict[int, tuple[str, dict[str, Any]]] = {}
    for where, about in entries:
        fault = _fault(about)
        if not fault and about['episode_index'] in found:
            index = about['episode_index']
            fault = f'it names episode {index}, as {found[index][0]} does'
        if fault:
            findings.append(f'{where} is left out: {fault}.')
        else:
            found[about['episode_index']] = (where, about)
    return [about for _, about in found.values()]


def _fault(about: Any) -> str:
    """Return why an entry describes no episode, '' where it does."""
    if isinstance(about, Exception):
        return f'it is no JSON ({about})'
    if not isinstance(about, dict):
        return 'it is no map'
    if 'episode_index' not in about:
        return 'it has no episode_index'
    index = about['episode_index']
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < _INDICES:
        return f'its episode_index {str(index)[:40]!r} is no whole number from 0 to {_INDICES - 1}'
    return ''


def _text(path: Path) -> str:
    try:
        with path.open('rb') as stream:
            return stream.read(_LONGEST).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path} cannot be read: {error}.') from None
