"""The metadata of LeRobot data sets: JSON, lists of episodes that name each once, tasks, names."""

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


def task_texts(folder: Path, findings: list[str]) -> dict[int, str]:
    """Return the tasks of a data set by their index, from whichever list of them is there."""
    tables = sorted((folder / 'meta').glob('tasks*.parquet'))
    lines = folder / 'meta' / 'tasks.jsonl'
    entries: Iterable[Entry] = []
    if tables:
        entries = _table_tasks(tables[0])
    elif lines.is_file():
        entries = json_lines(lines)
    found: dict[int, str] = {}
    for where, about in entries:
        index = about.get('task_index') if isinstance(about, dict) else None
        if not isinstance(index, int) or about.get('task') is None:
            findings.append(f'{where} is left out: it names no task_index and task.')
        elif found.setdefault(index, str(about['task'])) != str(about['task']):
            findings.append(f'{where} is left out: task_index {index} is another task already.')
    return found


def _table_tasks(path: Path) -> Iterator[Entry]:
    """Yield the tasks of a table, whose texts may be a column or the index that pandas writes."""
    import pyarrow.parquet as parquet

    for number, row in enumerate(parquet.read_table(path).to_pylist()):
        texts = [value for key, value in row.items() if key != 'task_index']
        about = {'task_index': row.get('task_index'), 'task': row.get('task', *texts[-1:])}
        yield f'{path}, row {number}', about


def value_names(feature: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of a feature's values: a list, or lists and maps within each other.

    Names that occur twice (of two arms, say) get those of the maps they stand in before them.
    """
    shape = feature.get('shape')
    count = shape[0] if isinstance(shape, list) and shape else None
    lists = [tuple(path[-1] for path in paths) for paths in _lists(feature.get('names'))]
    fitting = [names for names in lists if len(names) == count]
    if fitting:
        return fitting[0]
    paths = [path for paths in _lists(feature.get('names')) for path in paths]
    plain = tuple(path[-1] for path in paths)
    return plain if len(set(plain)) == len(plain) else tuple('_'.join(path) for path in paths)


def _lists(names: Any, above: tuple[str, ...] = ()) -> list[list[tuple[str, ...]]]:
    """Return each list of names within names, each name with the keys above it."""
    if isinstance(names, dict):
        if names and all(isinstance(place, int) for place in names.values()):
            return [[(*above, str(name)) for name in sorted(names, key=names.__getitem__)]]
        return [found for key, inner in names.items() for found in _lists(inner, (*above, key))]
    if isinstance(names, str):
        return [[(*above, names)]]
    if not isinstance(names, list):
        return []
    if any(isinstance(inner, list | dict) for inner in names):
        return [found for inner in names for found in _lists(inner, above)]
    return [[(*above, str(name)) for name in names]]


def _text(path: Path) -> str:
    try:
        with path.open('rb') as stream:
            return stream.read(_LONGEST).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path} cannot be read: {error}.') from None
