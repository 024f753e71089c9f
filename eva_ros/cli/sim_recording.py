"""Drive a scripted expert through the simulated robot, and record it as a bag."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eva_ros.episodes.bag_writer import EpisodeBagWriter
from eva_ros.robot.spec import load_robot
from eva_ros.sim.experts import astray
from eva_ros.sim.experts import DT
from eva_ros.sim.experts import expert_stretches
from eva_ros.sim.experts import ExpertSettings
from eva_ros.sim.robot import CameraImage
from eva_ros.sim.robot import SimRobot
from eva_ros.sim.robot import TrajectoryCommand
from eva_ros.sim.tasks import find_task

_POINT_EVERY = 5


@dataclass(frozen=True)
class Job:
    """One episode to record."""

    task: str
    seed: int
    index: int
    path: Path
    version: str
    settings: ExpertSettings


def episode_rng(task: str, seed: int, index: int) -> np.random.Generator:
    """Return the randomness of one episode, the same whoever records it."""
    return np.random.default_rng([seed, index, *task.encode()])


def run_expert(
    sim: SimRobot, task_name: str, rng: np.random.Generator, settings: ExpertSettings,
    writer: EpisodeBagWriter | None = None,
) -> bool:
    """Let the expert do the task in a drawn scene, and record it if a writer is given.

    Returns:
        Whether the judge saw it done.
    """
    task = find_task(task_name)
    sim.reset(task_name, int(rng.integers(2**31)))
    if task.kind != 'transfer' and rng.random() < settings.astray_chance:
        sim.reset(task_name, 0, astray(task, sim.scene, rng, settings))
    instruction = str(rng.choice(task.training_phrasings))
    sim.cameras_on = writer is not None
    if writer is not None:
        writer.write_episode(sim.time_ns, start=True, task=task_name, instruction=instruction)
    for path in expert_stretches(task, sim.scene, rng, settings):
        _send(sim, path, writer)
        _record(sim, len(path) * DT, writer)
    if writer is not None:
        writer.write_episode(
            sim.time_ns, start=False, task=task_name, instruction=instruction,
            success=sim.success(),
        )
    return sim.success()


def _send(sim: SimRobot, path: NDArray, writer: EpisodeBagWriter | None) -> None:
    robot = load_robot('aloha_sim')
    kept = np.append(np.arange(_POINT_EVERY, len(path) - 1, _POINT_EVERY), len(path) - 1)
    rates = np.gradient(path, DT, axis=0)
    rates[-1] = 0
    for arm, spec in robot.arms.items():
        names, positions = robot.arm_command(arm, path[kept])
        _, zero = robot.arm_command(arm, np.zeros_like(path[kept]))
        velocities = robot.arm_command(arm, rates[kept])[1] - zero
        command = TrajectoryCommand(0, names, kept * DT, positions, velocities)
        rejection = sim.send(arm, command)
        if rejection is not None:
            raise RuntimeError(f'the {arm} controller rejects the expert: {rejection}')
        if writer is not None:
            writer.write_trajectory(
                '/' + spec.controller.topic, sim.time_ns, names, kept * DT, positions, velocities
            )


def _record(sim: SimRobot, seconds: float, writer: EpisodeBagWriter | None) -> None:
    for event in sim.advance(seconds):
        if writer is None:
            continue
        if isinstance(event, CameraImage):
            writer.write_image(
                f'/{event.camera}/image_raw/compressed', event.stamp_ns,
                f'{event.camera}_optical_frame', event.data,
            )
        else:
            writer.write_joint_state(
                '/joint_states', event.stamp_ns, event.names, event.positions, event.velocities
            )


_SIM: list[SimRobot] = []


def record(job: Job) -> tuple[int, bool, float]:
    """Record one episode (in a worker process) and return index, success and seconds."""
    import cv2

    cv2.setNumThreads(1)
    if not _SIM:
        _SIM.append(SimRobot(job.task, 0))
    sim = _SIM[0]
    facts = {
        'eva.task': job.task, 'eva.seed': str(job.seed), 'eva.episode': str(job.index),
        'eva.version': job.version, 'eva.settings': repr(job.settings),
    }
    writer = EpisodeBagWriter(job.path, 'aloha_sim', facts)
    before = sim.time_ns
    try:
        rng = episode_rng(job.task, job.seed, job.index)
        success = run_expert(sim, job.task, rng, job.settings, writer)
    except BaseException:
        writer.abort()
        raise
    writer.close()
    return job.index, success, (sim.time_ns - before) * 1e-9
