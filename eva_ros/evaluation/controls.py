"""Controls: drivers that do not dream, as a baseline for success rates.

`still` holds its pose, `mean_motion` repeats the task's mean recorded motion, `nearest_start` the
recorded motion whose first view is closest to the current one. All three go through the same gate
as a dream.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
import torch

from eva_ros.episodes.dataset import Episode
from eva_ros.errors import UserError
from eva_ros.evaluation.closed_loop import Plan
from eva_ros.evaluation.closed_loop import Planner
from eva_ros.observations.ingest import Observation
from eva_ros.observations.views import shrink
from eva_ros.observations.views import ViewSpec
from eva_ros.robot.motion import minimum_jerk
from eva_ros.robot.spec import Robot
from eva_ros.training.finite import require_finite
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import read_manifest
from eva_ros.training.manifest import require_world
from eva_ros.training.manifest import World
from eva_ros.training.manifest import write_manifest

FILE = 'controls.npz'
KIND = 'controls'
# The mean motion ends when this share of the recorded ones has ended.
_ENDED = 0.9


@dataclass(frozen=True)
class TaskMotions:
    """The recorded motions of one task.

    Attributes:
        starts: Downscaled start views [N, h, w, 3], uint8.
        motions: Joints at the view's rate, padded with the last position [N, T, J].
        lengths: Number of steps of each motion before padding [N].
    """

    starts: NDArray[np.uint8]
    motions: NDArray[np.float32]
    lengths: NDArray[np.int32]

    def mean(self) -> NDArray[np.float64]:
        """Return the mean motion [T, J]."""
        end = int(np.quantile(self.lengths, _ENDED, method='nearest'))
        return self.motions[:, :end].mean(axis=0, dtype=np.float64)

    def nearest(self, view: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the motion [T, J] whose start view is nearest in mean squared pixel error."""
        difference = self.starts.astype(np.float32) - shrink(view).astype(np.float32)
        index = int(np.square(difference).mean(axis=(1, 2, 3)).argmin())
        return self.motions[index, : self.lengths[index]].astype(np.float64)


@dataclass(frozen=True)
class Controls:
    """Recorded motions of several tasks, with the robot and view they were recorded with."""

    world: World
    tasks: dict[str, TaskMotions]

    @property
    def dt(self) -> float:
        """Return the time between two steps of a motion, in s."""
        return 1 / self.world.rate_hz

    def of(self, task: str) -> TaskMotions:
        """Return the motions of a task.

        Raises:
            UserError: There are none.
        """
        if task not in self.tasks:
            raise UserError(
                f'The controls hold no recorded motion of {task} '
                f'(they hold {", ".join(sorted(self.tasks))}): prepare them from bags of it.'
            )
        return self.tasks[task]


def prepare(episodes: Sequence[Episode], world: World, *, most: int = 100) -> Controls:
    """Return the controls made from recorded episodes that succeeded.

    Args:
        episodes: Recordings at the view's rate.
        world: Robot and view they were recorded with.
        most: Maximum number of episodes per task; the first ones are kept.
    """
    tasks: dict[str, list[Episode]] = {}
    for episode in episodes:
        if episode.success and len(tasks.setdefault(episode.task, [])) < most:
            tasks[episode.task].append(episode)
    kept = {task: _motions(found) for task, found in sorted(tasks.items()) if found}
    return Controls(world, kept)


def _motions(episodes: Sequence[Episode]) -> TaskMotions:
    longest = max(len(episode.joints) for episode in episodes)
    motions = [
        np.pad(episode.joints, ((0, longest - len(episode.joints)), (0, 0)), mode='edge')
        for episode in episodes
    ]
    return TaskMotions(
        starts=np.stack([shrink(np.asarray(episode.frames[0])) for episode in episodes]),
        motions=np.stack(motions).astype(np.float32),
        lengths=np.array([len(episode.joints) for episode in episodes], dtype=np.int32),
    )


def save(controls: Controls, folder: Path) -> None:
    """Write controls into a folder as controls.npz and eva.json."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray] = {}
    for task, found in controls.tasks.items():
        arrays[f'{task}.starts'] = found.starts
        arrays[f'{task}.motions'] = found.motions
        arrays[f'{task}.lengths'] = found.lengths
    np.savez_compressed(folder / FILE, **arrays)
    counts = {task: len(found.lengths) for task, found in controls.tasks.items()}
    details = {'episodes': counts}
    write_manifest(folder, Manifest(KIND, controls.world, details))


def load(folder: Path, robot: Robot, view: ViewSpec) -> Controls:
    """Read controls and check that they fit the robot and view.

    Raises:
        UserError: They are missing, of another robot or view, or not finite.
    """
    try:
        manifest = read_manifest(folder, KIND)
        with np.load(folder / FILE, allow_pickle=False) as arrays:
            tasks = {task: _read(arrays, task) for task in manifest.details['episodes']}
    except (UserError, OSError, KeyError, ValueError) as error:
        raise UserError(
            f'{folder} holds no readable controls ({error}): make them with '
            '`eva evaluate prepare-controls --bags BAGS --out FOLDER`.'
        ) from error
    require_world(folder, manifest, World.of(robot, view))
    motions = {f'{task}.motions': torch.from_numpy(found.motions) for task, found in tasks.items()}
    require_finite(motions, str(folder / FILE), 'prepare the controls again')
    return Controls(manifest.world, tasks)


def _read(arrays, task: str) -> TaskMotions:
    return TaskMotions(*(arrays[f'{task}.{part}'] for part in ('starts', 'motions', 'lengths')))


def still(dt: float, horizon: int) -> Planner:
    """Return a planner that holds the current pose."""

    def plan(observation: Observation) -> Plan:
        return Plan(np.repeat(observation.joint_positions[None], horizon, axis=0), dt)

    return plan


def mean_motion(motions: TaskMotions, dt: float, horizon: int) -> Planner:
    """Return a planner that repeats the mean recorded motion, a chunk at a time."""
    return _Replay(lambda view: motions.mean(), dt, horizon)


def nearest_start(motions: TaskMotions, dt: float, horizon: int) -> Planner:
    """Return a planner that repeats the motion whose start view is nearest to its first view."""
    return _Replay(motions.nearest, dt, horizon)


class _Replay:
    """Repeats one motion in chunks that each start at the current joints."""

    def __init__(self, choose, dt: float, horizon: int) -> None:
        self._choose = choose
        self._dt = dt
        self._horizon = horizon
        self._motion: NDArray[np.float64] | None = None
        self._done = 0

    def __call__(self, observation: Observation) -> Plan:
        if self._motion is None:
            self._motion = self._choose(observation.view)
        steps = np.arange(self._done, self._done + self._horizon)
        self._done += self._horizon - 1
        path = self._motion[np.minimum(steps, len(self._motion) - 1)]
        # The offset from the joints at the start is faded out within the chunk.
        fade = minimum_jerk(np.ones(1), np.zeros(1), self._horizon)
        return Plan(path + fade * (observation.joint_positions - path[0]), self._dt)
