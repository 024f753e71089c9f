"""Where the bags of an import lie, what they say of it, and whether they are there already."""

import json
import os
from pathlib import Path

from eva_ros.errors import UserError
from eva_ros.interchange.import_map import ImportMap
from eva_ros.interchange.imported import DataSet
from eva_ros.recordings.bag_files import METADATA
from eva_ros.recordings.bag_files import read_metadata
from eva_ros.robot.spec import Robot

# What has to be the same for a bag that is there to count as this import's, in plain words.
_SAME = {
    'eva.import.path': 'source',
    'eva.import.rate': 'rate',
    'eva.import.images': 'images',
    'eva.robot': 'robot',
    'eva.import.map': 'map',
    'eva.instruction': 'instruction',
}
_LONGEST = 160


def set_name(data: DataSet) -> str:
    """Return the name of a data set's bags: its folder's; of RoboTwin, task and settings.

    RoboTwin's episodes lie in TASK/SETTINGS/data, whose own name says nothing.
    """
    path = data.path.resolve()
    if data.kind != 'RoboTwin':
        return path.name
    if path.is_file():
        return '-'.join([*_task(path.parent), path.stem])
    return '-'.join(_task(path) or [path.name])


def _task(folder: Path) -> list[str]:
    """Return a RoboTwin folder's task and settings, nothing where its path has none."""
    above = folder.parent if folder.name == 'data' else folder
    if folder.name != 'data' and not (folder / 'data').is_dir():
        return []
    return [name for name in (above.parent.name, above.name) if name]


def import_facts(
    data: DataSet, robot: Robot | None, found: ImportMap | None, images: str
) -> dict[str, str]:
    """Return what the bags of an import say about where they come from, and how."""
    used = found if robot else None
    return {
        'eva.robot': robot.name if robot else '',
        'eva.import.path': str(data.path.resolve()),
        'eva.import.rate': f'{data.rate_hz!r}',
        'eva.import.images': images,
        'eva.import.map': json.dumps(used.model_dump(exclude_none=True), sort_keys=True)
        if used
        else '',
    }


def is_there(path: Path, facts: dict[str, str]) -> bool:
    """Return whether an import's bag is there already.

    Raises:
        UserError: something else is there.
    """
    if not os.path.lexists(path):
        return False
    if not (path / METADATA).is_file():
        raise UserError(
            f'{path} is there and has no {METADATA}, so it is no finished bag: remove it, or give '
            'another --out.'
        )
    about, fault = read_metadata(path)
    if fault:
        raise UserError(f'{fault}: remove {path}, or give another --out.')
    _check_same(path, about.get('custom_data'), facts)
    return True


def _check_same(path: Path, kept: object, facts: dict[str, str]) -> None:
    said = kept if isinstance(kept, dict) else {}
    if 'eva.import.path' not in said:
        raise UserError(
            f'{path} is there and does not say what it was imported from: give another --out.'
        )
    other = [
        f'{word} {_brief(said.get(key))}, not {_brief(facts[key])}'
        for key, word in _SAME.items()
        if said.get(key) != facts[key]
    ]
    if other:
        raise UserError(
            f'{path} is there and comes from another import ({"; ".join(other)}): give another '
            '--out.'
        )


def _brief(value: object) -> str:
    text = str(value or 'none')
    return text if len(text) <= _LONGEST else f'{text[:_LONGEST]}...'
