"""Replay ceiling of an IDM: the arms follow recorded videos in the scenes that these show.

No dream can do better than the recording that it imitates. The video of an episode that the expert
solved is cut into rollouts, as a world model would dream them; the IDM reads each, and the arms
follow that reading alone, through the gate. What fails is due to the reading or to the execution;
the same with the recorded joints tells which.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
import sys

import numpy as np
from numpy.typing import NDArray

from eva_ros.control.settings import load_gate_settings
from eva_ros.episodes.dataset import Episode
from eva_ros.errors import UserError
from eva_ros.evaluation.closed_loop import EpisodeResult
from eva_ros.evaluation.closed_loop import LoopSettings
from eva_ros.evaluation.closed_loop import Plan
from eva_ros.evaluation.closed_loop import run_episode
from eva_ros.evaluation.statistics import wilson_interval
from eva_ros.idm.checkpoint import load_idm
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_rollout
from eva_ros.observations.ingest import Observation
from eva_ros.observations.views import view_of
from eva_ros.observations.views import ViewSpec
from eva_ros.robot.spec import load_robot
from eva_ros.robot.spec import Robot
from eva_ros.sim.robot import SimRobot
from eva_ros.sim.scenes import TIME_LIMIT_S
from eva_ros.sim.tasks import Scene
from eva_ros.workers import spread

# The arms rest after every chunk, which the expert did not.
_TIME_FACTOR = 2.0
# Arm joints of a recording's first frame from those of its scene, rad: gravity alone moves them.
_SAME_START_RAD = 0.1

# Joint positions [T, J] to follow and their confidence, by the frames of a chunk.
Read = Callable[[NDArray[np.int_]], tuple[NDArray[np.float64], float]]


@dataclass(frozen=True)
class Recording:
    """A recorded episode of the simulated robot, and the scene it starts from."""

    episode: Episode
    scene: Scene


@dataclass(frozen=True)
class Job:
    """A recording to follow.

    Attributes:
        checkpoint: Folder of the IDM.
        robot: Name or file of the robot.
        view: Name or file of the view; None for the robot's.
    """

    checkpoint: Path
    robot: str
    view: str | None
    recording: Recording


@dataclass(frozen=True)
class Outcome:
    """Whether a task was done by following the video, and by following the recorded joints."""

    task: str
    by_video: bool
    by_joints: bool


def replays(jobs: Sequence[Job], workers: int) -> Iterator[Outcome]:
    """Follow recordings, with progress on stderr, and yield each outcome as it is known.

    Args:
        jobs: Recordings to follow.
        workers: Number of processes.

    Raises:
        UserError: The checkpoint does not fit, or a recording does not start in its scene.
    """
    for job in jobs:
        _check_start(job, load_robot(job.robot))
    yield from spread(
        _run, jobs, workers, what='replays', report=sys.stderr, initializer=_one_thread
    )


def summary(outcomes: Sequence[Outcome]) -> dict:
    """Return episodes and successes as `eva idm evaluate --replay --json` prints them."""
    tasks = sorted({outcome.task for outcome in outcomes})
    by_task = {name: [o.by_video for o in outcomes if o.task == name] for name in tasks}
    return {
        **_count([outcome.by_video for outcome in outcomes]),
        'recorded_joints': _count([outcome.by_joints for outcome in outcomes]),
        'tasks': {name: _count(won) for name, won in by_task.items()},
    }


def _count(won: Sequence[bool]) -> dict:
    interval = wilson_interval(sum(won), len(won))
    return {'episodes': len(won), 'successes': sum(won), 'interval': list(interval)}


def table(counts: dict) -> str:
    """Return the counts as lines for a terminal."""
    lines = ['solved of what the expert solved, by following (95 % Wilson intervals)']
    rows = {'the video, read by the IDM': counts, 'recorded joints': counts['recorded_joints']}
    rows |= {f'the video, {name}': count for name, count in counts['tasks'].items()}
    for name, count in rows.items():
        low, high = count['interval']
        won = f'{count["successes"]}/{count["episodes"]}'
        rate = count['successes'] / count['episodes']
        lines.append(f'{name:32} {won:>8} = {rate:.1%} ({low:.1%} to {high:.1%})')
    return '\n'.join(lines)


def chunks(count: int, length: int) -> list[NDArray[np.int_]]:
    """Return the frames of consecutive rollouts, each starting where the previous one ends.

    The last one is continued by its last frame.

    Args:
        count: Number of frames of the recording.
        length: Number of frames of a rollout.
    """
    starts = range(0, max(count - 1, 1), length - 1)
    return [np.minimum(np.arange(start, start + length), count - 1) for start in starts]


def follow(
    sim: SimRobot, recording: Recording, read: Read, robot: Robot, view: ViewSpec
) -> EpisodeResult:
    """Follow a recording from the start of its scene; at its end the arms hold their pose.

    Args:
        sim: Simulated robot.
        recording: Recording and its scene.
        read: Source of the joint positions.
        robot: Description of the robot.
        view: View of the recording; a chunk is as long as its rollouts.
    """
    episode = recording.episode
    paths = [read(frames) for frames in chunks(len(episode), view.frames)]
    last = np.repeat(paths[-1][0][-1:], view.frames, axis=0)
    upcoming = iter(paths)

    def plan(observation: Observation) -> Plan:
        positions, confidence = next(upcoming, (last, 1.0))
        return Plan(robot.gripping(positions), 1 / view.rate_hz, confidence)

    sim.reset(episode.task, 0, recording.scene)
    limit_s = max(TIME_LIMIT_S, _TIME_FACTOR * len(episode) / view.rate_hz)
    loop = LoopSettings(time_limit_s=limit_s, think_times_s=(0.0,))
    gate = load_gate_settings(robot.name)
    return run_episode(sim, episode.instruction, plan, robot, view, gate, loop)


def _run(job: Job) -> Outcome:
    robot, view, idm, sim = _world(job.checkpoint, job.robot, job.view)
    episode = job.recording.episode

    def by_video(frames: NDArray[np.int_]) -> tuple[NDArray[np.float64], float]:
        reading = read_rollout(idm, np.asarray(episode.frames[frames]))
        return reading.smoothed, reading.confidence

    def by_joints(frames: NDArray[np.int_]) -> tuple[NDArray[np.float64], float]:
        return episode.joints[frames], 1.0

    won = [follow(sim, job.recording, read, robot, view).success for read in (by_video, by_joints)]
    return Outcome(episode.task, *won)


@lru_cache(maxsize=1)
def _world(
    checkpoint: Path, robot_name: str, view_name: str | None
) -> tuple[Robot, ViewSpec, InverseDynamics, SimRobot]:
    """Return what every replay of this process needs; loading takes as long as a replay."""
    robot = load_robot(robot_name)
    view = view_of(robot, view_name)
    return robot, view, load_idm(checkpoint, robot, view), SimRobot('reach_left', 0)


def _check_start(job: Job, robot: Robot) -> None:
    episode, arms = job.recording.episode, ~robot.gripper_mask
    off = np.abs(episode.joints[0] - job.recording.scene.joints)[arms].max()
    if off > _SAME_START_RAD:
        raise UserError(
            f'{episode.source} starts {off:.2f} rad away from the scene that its metadata '
            'describe: record it again with this version (`eva sim record`).'
        )


def _one_thread() -> None:
    """Limit each process to one thread."""
    import torch

    torch.set_num_threads(1)
