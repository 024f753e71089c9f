"""RoboTwin 2.0 episodes: an HDF5 file each, pictures as JPEG bytes."""

from collections.abc import Iterator
from functools import partial
import json
from pathlib import Path
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.episodes.images import decode_compressed
from eva_ros.episodes.imported import DataSet
from eva_ros.episodes.imported import Frames
from eva_ros.episodes.imported import ImportedEpisode
from eva_ros.errors import UserError

_VECTOR = 'joint_action/vector'
_SUFFIXES = ('.hdf5', '.h5')
JOINTS = tuple(
    f'{arm}_{name}'
    for arm in ('left', 'right')
    for name in (*(f'joint_{i}' for i in range(6)), 'gripper')
)


def is_robotwin(path: Path) -> bool:
    """Return whether a path is an HDF5 file, or a folder that holds some."""
    return path.suffix in _SUFFIXES if path.is_file() else bool(_files(path))


def read_robotwin(path: Path, rate_hz: float) -> DataSet:
    """Open the episodes in a file, or in all files below a folder.

    An episode has the number in its file's name, so that it keeps it when files are added.

    Args:
        path: the file or folder.
        rate_hz: frames a second, which the files do not say (the simulator's rate over the
            `save_freq` of the task's settings).

    Raises:
        UserError: h5py is not installed, no file can be read, or two are the same episode.
    """
    findings: list[str] = []
    episodes = []
    for index, file in _numbered(path, findings):
        try:
            episodes.append(_episode(file, index, rate_hz))
        except UserError as error:
            findings.append(str(error))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            # What HDF5 and a layout that is not RoboTwin's do to look-ups.
            reason = ' '.join(str(error).split())[:150]
            findings.append(f'{file} cannot be read: {reason}.')
    silent = [str(e.index) for e in episodes if not e.instruction]
    if silent:
        findings.append(f'No instruction lies beside episode {", ".join(silent)}.')
    if not episodes:
        raise UserError(findings[0] if findings else f'There is no HDF5 file in {path}.')
    return DataSet(path, 'RoboTwin', rate_hz, JOINTS, episodes, findings)


def _files(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.rglob('*') if entry.suffix in _SUFFIXES)


def _numbered(path: Path, findings: list[str]) -> list[tuple[int, Path]]:
    """Return the files with their numbers, in order; those without are left out and said."""
    if path.is_file():
        return [(_number(path) or 0, path)]
    found: dict[int, Path] = {}
    for file in _files(path):
        number = _number(file)
        if number is None:
            findings.append(
                f'{file} is left out: its name has no number that says which episode it is; '
                'import it by itself, or name it as episode0.hdf5.'
            )
        elif number in found:
            raise UserError(
                f'{found[number]} and {file} are both episode {number}: import their folders, or '
                'them, one by one.'
            )
        else:
            found[number] = file
    return sorted(found.items())


def _number(file: Path) -> int | None:
    """Return the last number in a file's name, if a marker in a bag can hold it."""
    numbers = [int(digits) for digits in re.findall(r'[0-9]+', file.stem)]
    return numbers[-1] if numbers and numbers[-1] < 1 << 32 else None


def _open(file: Path) -> Any:
    import h5py

    try:
        return h5py.File(file, 'r')
    except OSError as error:
        raise UserError(f'{file} cannot be read: {" ".join(str(error).split())[:150]}.') from None


def _episode(file: Path, index: int, rate_hz: float) -> ImportedEpisode:
    with _open(file) as data:
        if _VECTOR not in data:
            raise UserError(f'{file} has no {_VECTOR}: it is no RoboTwin episode.')
        joints = np.asarray(data[_VECTOR], np.float64)
        if joints.ndim != 2 or joints.shape[1] != len(JOINTS):
            raise UserError(
                f'{file}: {_VECTOR} has the shape {joints.shape}, and not [T, {len(JOINTS)}].'
            )
        if not len(joints) or not np.isfinite(joints).all():
            raise UserError(f'{file}: {_VECTOR} is empty or holds values that are no numbers.')
        cameras = data.get('observation', {})
        names = [name for name in cameras if 'rgb' in cameras[name]]
        short = [name for name in names if len(cameras[name]['rgb']) != len(joints)]
        if short:
            raise UserError(f'{file}: {", ".join(short)} have not one picture for each row.')
    frames: dict[str, Frames] = {name: partial(_decode, file, name) for name in names}
    stamps = np.arange(len(joints)) / rate_hz
    return ImportedEpisode(index, _instruction(file), stamps, joints, None, frames)


def _decode(file: Path, camera: str) -> Iterator[NDArray[np.uint8]]:
    with _open(file) as data:
        for packed in data['observation'][camera]['rgb']:
            # Fixed-length strings, filled up with zeros. RoboTwin gives OpenCV's encoder RGB for
            # BGR, so that red and blue have changed places in the JPEG.
            yield decode_compressed(bytes(packed).rstrip(b'\0'), 'jpeg')[..., ::-1].copy()


def _instruction(file: Path) -> str:
    """Return the first instruction that lies beside the data, '' where there is none."""
    path = file.parent.parent / 'instructions' / f'{file.stem}.json'
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
        return str(next(iter(found.get('seen') or found.get('unseen') or ['']), ''))
    except (OSError, ValueError, AttributeError):
        return ''
