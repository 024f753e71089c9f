"""Aligned episodes on disk, one folder a bag, built once and mapped into memory by training."""

from collections.abc import Callable
from collections.abc import Iterator
import hashlib
import json
import os
from pathlib import Path
import shutil
from typing import Any

import numpy as np

from eva_ros.episodes.attempts import attempts
from eva_ros.episodes.resampling import Piece
from eva_ros.episodes.settings import by_reception
from eva_ros.episodes.settings import ResamplingSettings
from eva_ros.errors import UserError
from eva_ros.observations.ingest import Observation
from eva_ros.observations.views import ViewSpec
from eva_ros.recordings.bag_files import METADATA
from eva_ros.recordings.bag_files import storage_files
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.robot.spec import Robot

# To be raised when what is stored, or how it is made, changes: everything is built again.
_FORMAT = 4
_META = 'meta.json'
_ARRAYS = ('frames', 'joints', 'observed_joints', 'stamps', 'image_stamps')
_HASHED = 1 << 16


def default_cache() -> Path:
    """Return the folder for caches of whoever names none."""
    base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(base) / 'eva_ros' / 'episodes'


def world_of(
    robot: Robot, view: ViewSpec, settings: ResamplingSettings | None = None
) -> dict[str, Any]:
    """Return what decides how a bag becomes episodes, as JSON holds it."""
    # Left out where they are not used, so that what was cached without them stays good.
    extra: dict[str, Any] = {}
    if settings and settings != ResamplingSettings():
        extra['align'] = settings.model_dump(mode='json')
    received = sorted(by_reception(ResamplingSettings(), robot))
    if received:
        extra['by_reception'] = received
    units = {
        arm.name: [arm.state_interface.offset.tolist(), arm.state_interface.scale.tolist()]
        for arm in robot.arms.values()
        if (arm.state_interface.scale[: len(arm.joints)] != 1.0).any()
        or arm.state_interface.offset[: len(arm.joints)].any()
    }
    if units:
        extra['state_units'] = units
    unknown = [arm.name for arm in robot.arms.values() if arm.state_unit == 'unknown']
    if unknown:
        extra['unknown_units'] = unknown
    ranges = {c.name: list(c.value_range) for c in robot.cameras.values() if c.value_range}
    if ranges:
        extra['value_ranges'] = ranges
    return {
        **extra,
        'format': _FORMAT,
        'view': view.model_dump(mode='json'),
        'robot': robot.name,
        'joints': list(robot.joint_names),
        'state_joints': [list(arm.state_joints) for arm in robot.arms.values()],
        'grippers': [[gripper.closed, gripper.open] for gripper in robot.grippers],
        'topics': [*robot.joint_state_topics, *(c.topic for c in robot.cameras.values())],
    }


def source_of(bag: Path) -> dict[str, list]:
    """Return size, time and hash of a bag's files: another answer means that it has changed.

    Hashed are the first and last 64 KiB of a file, whatever lies between shows in its time.
    """
    files = storage_files(bag)
    if (bag / METADATA).is_file():
        files.append(bag / METADATA)
    return {file.name: _facts(file) for file in files}


def _facts(file: Path) -> list:
    about, digest = file.stat(), hashlib.sha256()
    with file.open('rb') as stream:
        digest.update(stream.read(_HASHED))
        stream.seek(max(0, about.st_size - _HASHED))
        digest.update(stream.read(_HASHED))
    return [about.st_size, about.st_mtime_ns, digest.hexdigest()]


class _Frames:
    """Views in the order in which they were taken, on disk: an attempt may be long."""

    def __init__(self, path: Path, shape: tuple[int, int, int]) -> None:
        self._path, self._shape, self._count = path, shape, 0

    def __enter__(self) -> '_Frames':
        self._file = self._path.open('w+b')
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink()

    def add(self, observation: Observation) -> int:
        """Put a view away and return its number."""
        self._file.write(np.ascontiguousarray(observation.view).data)
        self._count += 1
        return self._count - 1

    def save(self, path: Path, numbers: list[int]) -> None:
        """Write the views of those numbers, which ascend, as an array [T, H, W, 3]."""
        shape, size = (len(numbers), *self._shape), int(np.prod(self._shape))
        with path.open('wb') as stream:
            head = {'descr': '|u1', 'fortran_order': False, 'shape': shape}
            np.lib.format.write_array_header_1_0(stream, head)
            for number in numbers:
                self._file.seek(number * size)
                stream.write(self._file.read(size))


class Cache:
    """Where the episodes of one robot and view are kept."""

    def __init__(
        self,
        folder: Path,
        robot: Robot,
        view: ViewSpec,
        settings: ResamplingSettings | None = None,
    ) -> None:
        self.root, self.robot, self.view = folder, robot, view
        self.settings = settings or ResamplingSettings()
        self._world = world_of(robot, view, self.settings)

    def folder_of(self, bag: Path) -> Path:
        """Return the folder that holds, or will hold, a bag's episodes."""
        where = hashlib.sha256(str(bag.resolve()).encode()).hexdigest()[:12]
        return self.root / f'{self.robot.name}-{self.view.name}' / f'{bag.name}-{where}'

    def read(self, bag: Path) -> dict[str, Any] | None:
        """Return what is kept of a bag (meta.json); None if nothing, or the bag has changed."""
        try:
            meta = json.loads((self.folder_of(bag) / _META).read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return None
        if not isinstance(meta, dict) or meta.get('world') != self._world:
            return None
        fresh = meta.get('source') == source_of(bag)
        return meta if fresh and self._is_whole(bag, meta) else None

    def _is_whole(self, bag: Path, meta: dict[str, Any]) -> bool:
        """Return whether all that meta.json speaks of is there and can be read."""
        try:
            for entry in meta['episodes']:
                start, end = entry['ticks']
                _ = [entry[key] for key in ('number', 'task', 'instruction', 'success')]
            if not isinstance(meta['problems'], list):
                return False
            if not meta['episodes']:
                return True
            return {len(array) for array in self.arrays(bag).values()} == {end} and start < end
        except Exception:  # numpy raises many kinds of errors on damaged files
            return False

    def arrays(self, bag: Path) -> dict[str, np.ndarray]:
        """Return a bag's arrays over all its ticks, of which there are some; frames are mapped."""
        folder = self.folder_of(bag)
        arrays = {name: np.load(folder / f'{name}.npy') for name in _ARRAYS if name != 'frames'}
        return {**arrays, 'frames': np.load(folder / 'frames.npy', mmap_mode='r')}

    def build(self, bag: Path) -> dict[str, Any]:
        """Read a bag and keep its episodes; returns meta.json. Damage ends up in its problems."""
        source = source_of(bag)
        folder = self.folder_of(bag)
        part = folder.with_name(f'{folder.name}.{os.getpid()}.part')
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        problems: list[str] = []
        note = problems.append
        with _Frames(part / 'taken.raw', self.view.shape) as frames:
            pieces: list[Piece] = []
            try:
                # What was read before an error is kept, as the check of a bag counts it.
                pieces.extend(self._pieces(bag, note, frames))
            except UserError as error:
                note(str(error))
            ticks = [tick.frame for piece in pieces for tick in piece.ticks]
            frames.save(part / 'frames.npy', ticks)
        ends = np.cumsum([0, *(len(piece.ticks) for piece in pieces)])
        meta = {
            'bag': str(bag.resolve()),
            'source': source,
            'world': self._world,
            'problems': problems,
            'episodes': [
                {
                    'number': piece.number,
                    'task': piece.task,
                    'instruction': piece.instruction,
                    'success': piece.success,
                    'ticks': [int(start), int(end)],
                }
                for piece, start, end in zip(pieces, ends, ends[1:])
            ],
        }
        for name, array in self._stacked(pieces).items():
            np.save(part / f'{name}.npy', array)
        (part / _META).write_text(json.dumps(meta, indent=1) + '\n', encoding='utf-8')
        # The folder is there whole or not at all.
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        return meta

    def _pieces(
        self, bag: Path, note: Callable[[str], None], frames: '_Frames'
    ) -> Iterator[Piece]:
        with BagReader(bag, note) as reader:
            yield from attempts(
                reader, self.robot, self.view, note, settings=self.settings, keep=frames.add
            )

    def _stacked(self, pieces: list[Piece]) -> dict[str, np.ndarray]:
        ticks = [tick for piece in pieces for tick in piece.ticks]
        seen = [tick.observation for tick in ticks]
        joints, cameras = len(self.robot.joint_names), self.view.camera_names
        images = [[look.image_stamps[name] for name in cameras] for look in seen]
        stamps = np.array(images, np.int64).reshape(-1, len(cameras))
        return {
            'joints': np.array([tick.joints for tick in ticks]).reshape(-1, joints),
            'observed_joints': np.array([look.joint_positions for look in seen]).reshape(
                -1, joints
            ),
            'stamps': np.array([look.stamp_ns for look in seen], np.int64),
            'image_stamps': stamps,
        }
