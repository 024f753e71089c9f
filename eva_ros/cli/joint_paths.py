"""Joint paths in files of any kind: npz (chunks too), csv and bags."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eva_ros.cli.gate import read_npz
from eva_ros.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from eva_ros.robot.spec import Robot

SHORTEST = 4
_TIME = ('time', 'time_s', 't', 'timestamp')
_BAG_FILES = ('.mcap', '.db3', '.zst', '.zstd')
# Largest part of an interval by which another one may differ.
_JITTER = 0.1


@dataclass(frozen=True)
class JointPaths:
    """Joint paths of one file.

    Attributes:
        positions: Joint positions [N, T, J] in the robot's order; rad, grippers 0 to 1.
        dt: Time between two steps, s.
    """

    positions: 'NDArray[np.float64]'
    dt: float


def read_joint_paths(path: Path, robot: 'Robot', rate_hz: float) -> list[JointPaths]:
    """Return the joint paths in a file: one entry, or one for each attempt in a bag.

    Args:
        path: npz file, csv file, or bag (folder or file).
        robot: Robot whose joints they are.
        rate_hz: Rate at which a bag's joint states are sampled.

    Raises:
        UserError: The file cannot be read, lacks something or does not fit the robot.
    """
    if not path.exists():
        raise UserError(f'There is no file {path}.')
    if path.is_dir() or path.suffix in _BAG_FILES:
        found = _bag(path, robot, rate_hz)
    elif path.suffix in ('.npz', '.csv'):
        found = [_npz(path, robot) if path.suffix == '.npz' else _csv(path, robot)]
    else:
        raise UserError(f'{path} is neither an npz file, a csv file nor a bag (.mcap, .db3).')
    for paths in found:
        _check(path, paths, robot)
    return found


def _npz(path: Path, robot: 'Robot') -> JointPaths:
    content = read_npz(path)
    for name in ('positions', 'dt'):
        if name not in content:
            raise UserError(f'{path} holds no {name}: positions [T, J] or [N, T, J] and dt (s) '
                            'are needed.')  # fmt: skip
    positions, dt = content['positions'], content['dt']
    if positions.ndim not in (2, 3) or dt.size != 1:
        raise UserError(
            f'{path}: positions have shape {list(positions.shape)} and dt {list(dt.shape)}; '
            '[T, J] or [N, T, J] and one number are needed.'
        )
    if 'joint_names' in content:
        names = [str(name) for name in content['joint_names']]
        positions = positions[..., _order(path, names, positions.shape[-1], robot)]
    return JointPaths(positions.reshape(-1, *positions.shape[-2:]), float(dt.reshape(())))


def _csv(path: Path, robot: 'Robot') -> JointPaths:
    import numpy as np

    try:
        with path.open(newline='', encoding='utf-8-sig') as stream:
            head, *rows = [row for row in csv.reader(stream) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path} cannot be read as csv: {error}.') from error
    names = [name.strip() for name in head]
    times = [name for name in names if name.lower() in _TIME]
    if len(times) != 1:
        raise UserError(f'{path} needs a first line with the names of its columns: joint names '
                        'and one column time (s).')  # fmt: skip
    chosen = [names.index(times[0]), *_order(path, names, len(names), robot)]
    values = np.empty((len(rows), len(chosen)))
    for number, row in enumerate(rows):
        try:
            values[number] = [float(row[column]) for column in chosen]
        except (ValueError, IndexError) as error:
            raise UserError(f'{path}: row {number + 2} lacks a number: {error}.') from error
    return JointPaths(values[None, :, 1:], _even_step(path, values[:, 0]))


def _bag(path: Path, robot: 'Robot', rate_hz: float) -> list[JointPaths]:
    """Return the joint states of each marked attempt, or of the whole bag."""
    from eva_ros.recordings.bag_reader import BagReader
    from eva_ros.recordings.records import EPISODE
    from eva_ros.recordings.records import EpisodeRecord
    from eva_ros.recordings.records import JointStateRecord

    robot.require('training')
    attempts: list[_States] = []
    with BagReader(path) as reader:
        marked = reader.marked
        markers = [topic for topic, kind in reader.topics.items() if kind == EPISODE]
        is_open = not marked
        for record in reader.records([*robot.joint_state_topics, *markers]):
            if isinstance(record, EpisodeRecord):
                is_open = record.starts
                if is_open:
                    attempts.append(_States(robot))
            elif isinstance(record, JointStateRecord) and is_open:
                if not attempts:
                    attempts.append(_States(robot))
                attempts[-1].add(record)
    found = [paths for states in attempts if (paths := states.at(rate_hz)) is not None]
    if not found:
        topics = ', '.join(f'/{topic}' for topic in robot.joint_state_topics)
        raise UserError(f"{path} holds no joint states of robot '{robot.name}' on {topics}.")
    return found


class _States:
    """The joint states of one attempt, arm by arm."""

    def __init__(self, robot: 'Robot') -> None:
        self._robot = robot
        self._heard: dict[str, list[tuple[int, NDArray[np.float64]]]] = {a: [] for a in robot.arms}

    def add(self, record) -> None:
        for name, arm in self._robot.arms.items():
            if arm.state_topic != record.topic:
                continue
            try:
                positions = arm.from_joint_state(record.names, record.positions)
            except UserError:  # a message of other joints on the same topic
                continue
            self._heard[name].append((record.stamp_ns, positions))

    def at(self, rate_hz: float) -> JointPaths | None:
        """Return the joints at a rate, interpolated; None if an arm was never heard."""
        import numpy as np

        if not all(self._heard.values()):
            return None
        heard = [sorted(states, key=lambda state: state[0]) for states in self._heard.values()]
        begin, end = max(s[0][0] for s in heard), min(s[-1][0] for s in heard)
        steps = max(int((end - begin) * 1e-9 * rate_hz + 1e-6) + 1, 0)
        ticks = np.arange(steps) / rate_hz
        columns = []
        for states in heard:
            seconds = np.array([(stamp - begin) * 1e-9 for stamp, _ in states])
            joints = np.stack([positions for _, positions in states])
            columns += [np.interp(ticks, seconds, column) for column in joints.T]
        return JointPaths(np.stack(columns, -1)[None], 1 / rate_hz)


def _order(path: Path, names: 'Sequence[str]', width: int, robot: 'Robot') -> list[int]:
    """Return the column of each of the robot's joints."""
    if len(names) != width:
        raise UserError(f'{path} names {len(names)} joints but holds {width} columns.')
    wrong = [name for name in robot.joint_names if names.count(name) != 1]
    if wrong:
        raise UserError(
            f"{path} must name each joint of robot '{robot.name}' once: {', '.join(wrong)}."
        )
    return [names.index(name) for name in robot.joint_names]


def _even_step(path: Path, seconds: 'NDArray[np.float64]') -> float:
    import numpy as np

    if len(seconds) < SHORTEST:
        raise UserError(_too_short(path, len(seconds)))
    steps = np.diff(seconds)
    step = float(np.median(steps))
    if not step > 0 or not (np.abs(steps - step) <= _JITTER * step).all():
        raise UserError(f'{path}: its times are not evenly spaced; resample the path first.')
    return step


def _check(path: Path, paths: JointPaths, robot: 'Robot') -> None:
    import numpy as np

    count, steps, joints = paths.positions.shape
    if joints != len(robot.joint_names):
        raise UserError(f"{path} holds {joints} joints; robot '{robot.name}' has "
                        f'{len(robot.joint_names)}.')  # fmt: skip
    if not count:
        raise UserError(f'{path} holds no path.')
    if steps < SHORTEST:
        raise UserError(_too_short(path, steps))
    if not 0 < paths.dt < np.inf:
        raise UserError(f'{path}: dt is {paths.dt:g}; give the time between two steps in s, '
                        'above zero.')  # fmt: skip
    bad = np.argwhere(~np.isfinite(paths.positions))
    if len(bad):
        number, step, joint = bad[0]
        where = f'path {number}, ' if count > 1 else ''
        raise UserError(f'{path}: the position of {robot.joint_names[joint]} is not finite '
                        f'({where}step {step}).')  # fmt: skip


def _too_short(path: Path, steps: int) -> str:
    return f'{path} has {steps} steps; jerk needs at least {SHORTEST}.'
