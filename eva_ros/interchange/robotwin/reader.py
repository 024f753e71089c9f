"""RoboTwin 2.0 data sets: an HDF5 file an episode."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
import re

import numpy as np

from eva_ros.errors import UserError
from eva_ros.interchange.episode_faults import episodes as episodes_named
from eva_ros.interchange.imported import DataSet
from eva_ros.interchange.imported import ImportedEpisode
from eva_ros.interchange.robotwin.file import read_file
from eva_ros.interchange.robotwin.file import RoboTwinFile
from eva_ros.observations.reasons import sentence

_SUFFIXES = ('.hdf5', '.h5')
# What RoboTwin's own conversion calls the cameras of the older layout.
_CAMERAS = {
    'head_camera': 'cam_head',
    'left_camera': 'cam_left_wrist',
    'right_camera': 'cam_right_wrist',
    'front_camera': 'cam_third_view',
}


def is_robotwin(path: Path) -> bool:
    """Return whether a path is an HDF5 file, or a folder that holds some."""
    return path.suffix in _SUFFIXES if path.is_file() else bool(_files(path))


def read_robotwin(path: Path, rate_hz: float | None = None) -> DataSet:
    """Open the episodes in a file, or in all files below a folder.

    An episode has the number in its file's name, so that it keeps it when files are added.

    Args:
        path: the file or folder.
        rate_hz: frames a second; needed for files from before August 2026, which do not say it
            (the simulator's rate over the `save_freq` of the task's settings), and believed more
            than the files that do.

    Raises:
        UserError: h5py is not installed, no file can be read, none says its rate and none is
            given, or two are the same episode.
    """
    findings: list[str] = []
    files, joints = _same_joints(_same_cameras(_opened(path, findings)), findings)
    timeless = [index for index, file in files.items() if not (rate_hz or file.rate_hz)]
    if timeless and len(timeless) == len(files):
        raise UserError(
            'These RoboTwin files hold no time: give the frames a second with --rate (the rate of '
            "the simulation over the settings' save_freq)."
        )
    if timeless:
        findings.append(
            f'What holds no time is left out: {episodes_named(timeless)}; give --rate.'
        )
    files = {index: file for index, file in files.items() if index not in timeless}
    findings += [*_contradictions(files, rate_hz), *_lacking(files)]
    if not files:
        raise UserError(findings[0] if findings else f'There is no HDF5 file in {path}.')
    rates = [rate_hz or file.rate_hz or 0.0 for file in files.values()]
    episodes = [_episode(index, file, rate) for (index, file), rate in zip(files.items(), rates)]
    usual = Counter(rates).most_common(1)[0][0]
    return DataSet(path, 'RoboTwin', usual, joints, episodes, findings)


def _episode(index: int, file: RoboTwinFile, rate_hz: float) -> ImportedEpisode:
    stamps = np.arange(len(file.states)) / rate_hz
    return ImportedEpisode(index, file.instruction, stamps, file.states, file.actions, file.frames)


def _opened(path: Path, findings: list[str]) -> dict[int, RoboTwinFile]:
    """Return the files that can be read, by number; the others are said."""
    found = {}
    for index, file in _numbered(path, findings):
        try:
            found[index] = read_file(file)
        except UserError as error:
            findings.append(str(error))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            # What HDF5 and a layout that is not RoboTwin's do to look-ups.
            reason = ' '.join(str(error).split())[:150]
            findings.append(f'{file} cannot be read: {reason}.')
    return found


def _same_joints(
    files: dict[int, RoboTwinFile], findings: list[str]
) -> tuple[dict[int, RoboTwinFile], tuple[str, ...]]:
    """Return the files that have the joints of most, and these; the others are said."""
    counts = Counter(file.joint_names for file in files.values())
    usual = counts.most_common(1)[0][0] if counts else ()
    other = [index for index, file in files.items() if file.joint_names != usual]
    if other:
        findings.append(
            f'What has not {len(usual)} joints, as most episodes have, is left out: '
            f'{episodes_named(other)}; import it by itself.'
        )
    return {index: file for index, file in files.items() if index not in other}, usual


def _same_cameras(files: dict[int, RoboTwinFile]) -> dict[int, RoboTwinFile]:
    """Return the files with the newer names of cameras where files of both layouts are there."""
    names = {name for file in files.values() for name in file.frames}
    if names.isdisjoint(_CAMERAS) or names.isdisjoint(_CAMERAS.values()):
        return files
    return {
        index: replace(
            file, frames={_CAMERAS.get(name, name): get for name, get in file.frames.items()}
        )
        for index, file in files.items()
    }


def _contradictions(files: dict[int, RoboTwinFile], rate_hz: float | None) -> list[str]:
    """Return what files say twice and differently, each kind once with its episodes."""
    said: dict[str, list[int]] = {}
    stated = [file.rate_hz for file in files.values() if file.rate_hz]
    usual = Counter(stated).most_common(1)[0][0] if stated else None
    for index, file in files.items():
        doubts = list(file.doubts)
        if file.rate_hz and rate_hz and file.rate_hz != rate_hz:
            doubts.append(
                f'additional_info/frequency says {file.rate_hz:g} frames a second and --rate '
                f'{rate_hz:g}, which is taken'
            )
        elif file.rate_hz and file.rate_hz != usual:
            doubts.append(
                f'additional_info/frequency says {file.rate_hz:g} frames a second and most '
                f'episodes say {usual:g}'
            )
        for doubt in doubts:
            said.setdefault(doubt, []).append(index)
    return [sentence(f'{episodes_named(indices)}: {doubt}') for doubt, indices in said.items()]


def _lacking(files: dict[int, RoboTwinFile]) -> list[str]:
    """Return which episodes lack an instruction, or a camera that others have."""
    found = []
    silent = [index for index, file in files.items() if not file.instruction]
    if silent:
        found.append(f'No instruction is in or beside {episodes_named(silent)}.')
    for camera in dict.fromkeys(name for file in files.values() for name in file.frames):
        without = [index for index, file in files.items() if camera not in file.frames]
        if without:
            found.append(f"Camera '{camera}' is not in {episodes_named(without)}.")
    if files and not any(file.frames for file in files.values()):
        found.append('No episode holds pictures.')
    return found


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
