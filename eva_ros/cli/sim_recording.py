"""Run a scripted expert on the simulated robot, and record it as a bag."""

import ast
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eva_ros.cli.sim import CAMERA_HZ
from eva_ros.errors import UserError
from eva_ros.recordings.bag_files import METADATA
from eva_ros.recordings.bag_files import read_metadata
from eva_ros.recordings.bag_writer import EpisodeBagWriter
from eva_ros.robot.paths import SIM_ROBOT
from eva_ros.robot.spec import load_robot
from eva_ros.robot.spec import Robot
from eva_ros.sim.experts import DT
from eva_ros.sim.experts import ExpertSettings
from eva_ros.sim.experts import plan_episode
from eva_ros.sim.robot import CameraImage
from eva_ros.sim.robot import SimRobot
from eva_ros.sim.robot import TrajectoryCommand
from eva_ros.sim.scenes import CLEAN
from eva_ros.sim.scenes import parse_scenes
from eva_ros.sim.scenes import Scenes
from eva_ros.sim.tasks import find_task
from eva_ros.sim.tasks import Scene

_POINT_EVERY = 5


@dataclass(frozen=True)
class Job:
    """One episode to record.

    Attributes:
        task: Name of the task.
        seed: Seed of the recording session.
        index: Number of the episode within the session.
        path: Folder of the bag.
        version: Version of this package.
        settings: Settings of the expert.
        scenes: Whether scenes are clean or randomised.
        camera_hz: Images per second, one of CAMERA_HZ.
    """

    task: str
    seed: int
    index: int
    path: Path
    version: str
    settings: ExpertSettings
    scenes: Scenes = CLEAN
    camera_hz: int = CAMERA_HZ[0]


@dataclass(frozen=True)
class Attempt:
    """One episode to run without recording it."""

    task: str
    seed: int
    index: int
    settings: ExpertSettings
    scenes: Scenes = CLEAN


def episode_rng(task: str, seed: int, index: int) -> np.random.Generator:
    """Return the random generator of one episode."""
    return np.random.default_rng([seed, index, *task.encode()])


def is_recorded(job: Job) -> bool:
    """Return whether the complete bag of a job already exists.

    Raises:
        UserError: It was made by an expert with other settings, in other scenes, or by cameras of
            another rate.
    """
    if not (job.path / METADATA).is_file():
        return False
    about, fault = read_metadata(job.path)
    if fault:
        raise UserError(f'{fault}: remove {job.path}, or give another --out.')
    facts = about.get('custom_data') or {}
    # Earlier bags do not say their cameras' rate.
    facts = {'eva.camera_hz': str(CAMERA_HZ[0]), **facts}
    asked = _settings_facts(job)
    if {name: facts.get(name) for name in asked} != asked:
        raise UserError(
            f'{job.path} was recorded with other settings (--astray, --pauses, --phrasings, '
            '--scenes, --camera-rate): give those, or another --out.'
        )
    return True


def _settings_facts(job: Job) -> dict[str, str]:
    """Return what a bag says of the settings that it was recorded with."""
    return {
        'eva.settings': repr(job.settings),
        'eva.scenes': str(job.scenes),
        'eva.camera_hz': str(job.camera_hz),
    }


def recorded_scene(bag: Path) -> Scene:
    """Return the scene that a bag of `eva sim record` starts from, drawn again from its metadata.

    Raises:
        UserError: The bag was not recorded by `eva sim record`.
    """
    about, fault = read_metadata(bag)
    facts = about.get('custom_data') or {}
    try:
        settings = _parse_settings(facts['eva.settings'])
        rng = episode_rng(facts['eva.task'], int(facts['eva.seed']), int(facts['eva.episode']))
        task, scenes = find_task(facts['eva.task']), parse_scenes(facts['eva.scenes'])
    except (KeyError, TypeError, ValueError, SyntaxError, AttributeError) as error:
        raise UserError(
            f'{bag} does not say which scene it shows{f" ({fault})" if fault else ""}: give bags '
            'that `eva sim record` recorded.'
        ) from error
    return plan_episode(task, rng, settings, scenes).scene


def _parse_settings(text: str) -> ExpertSettings:
    """Return the settings whose repr a bag holds; only literals are read, nothing is run."""
    call = ast.parse(text, mode='eval').body
    made = call.func if isinstance(call, ast.Call) else None
    if not isinstance(call, ast.Call) or getattr(made, 'id', '') != ExpertSettings.__name__:
        raise ValueError(text)
    given = {str(entry.arg): ast.literal_eval(entry.value) for entry in call.keywords}
    return ExpertSettings(**given)


def record(job: Job) -> tuple[bool, float]:
    """Record one episode (in a worker process); return its success and length in s."""
    import cv2

    cv2.setNumThreads(1)
    sim = _simulator(job.task)
    facts = {
        'eva.task': job.task,
        'eva.seed': str(job.seed),
        'eva.episode': str(job.index),
        'eva.version': job.version,
        **_settings_facts(job),
    }
    # Earlier episodes of this process must not affect the bag.
    sim.restart_clock()
    sim.camera_ns = 1_000_000_000 // job.camera_hz
    begin_ns = sim.time_ns
    writer = EpisodeBagWriter(job.path, SIM_ROBOT, facts, job.index)
    try:
        rng = episode_rng(job.task, job.seed, job.index)
        success = run_expert(sim, job.task, rng, job.settings, job.scenes, writer)
    except BaseException:
        writer.abort()
        raise
    writer.close()
    return success, (sim.time_ns - begin_ns) * 1e-9


def judge(attempt: Attempt) -> tuple[str, bool]:
    """Run one episode; return the task's name and its success."""
    rng = episode_rng(attempt.task, attempt.seed, attempt.index)
    sim = _simulator(attempt.task)
    return attempt.task, run_expert(sim, attempt.task, rng, attempt.settings, attempt.scenes)


def run_expert(
    sim: SimRobot,
    task_name: str,
    rng: np.random.Generator,
    settings: ExpertSettings,
    scenes: Scenes = CLEAN,
    writer: EpisodeBagWriter | None = None,
) -> bool:
    """Run the expert in a sampled scene, and record it if a writer is given.

    Returns:
        Whether the task was done in time.
    """
    robot = load_robot(SIM_ROBOT)
    plan = plan_episode(find_task(task_name), rng, settings, scenes)
    sim.reset(task_name, 0, plan.scene)
    sim.cameras_on = writer is not None
    if writer is not None:
        writer.write_episode(sim.time_ns, start=True, task=task_name, instruction=plan.instruction)
    for path in plan.stretches:
        _send(sim, robot, path, writer)
        _pass_time(sim, len(path) * DT, writer)
    if writer is not None:
        writer.write_episode(
            sim.time_ns,
            start=False,
            task=task_name,
            instruction=plan.instruction,
            success=sim.in_time(),
        )
    return sim.in_time()


def _send(sim: SimRobot, robot: Robot, path: NDArray, writer: EpisodeBagWriter | None) -> None:
    kept = np.append(np.arange(_POINT_EVERY, len(path) - 1, _POINT_EVERY), len(path) - 1)
    rates = np.gradient(path, DT, axis=0)
    rates[-1] = 0
    for arm, spec in robot.arms.items():
        names, positions = robot.arm_command(arm, path[kept])
        velocities = robot.arm_command_rates(arm, rates[kept])
        command = TrajectoryCommand(0, names, kept * DT, positions, velocities)
        rejection = sim.send(arm, command)
        if rejection is not None:
            raise RuntimeError(f'the {arm} controller rejects the expert: {rejection}')
        if writer is not None:
            writer.write_trajectory(
                '/' + spec.controller.topic, sim.time_ns, names, kept * DT, positions, velocities
            )


def _pass_time(sim: SimRobot, seconds: float, writer: EpisodeBagWriter | None) -> None:
    for event in sim.advance(seconds):
        if writer is None:
            continue
        if isinstance(event, CameraImage):
            writer.write_image(
                f'/{event.camera}/image_raw/compressed',
                event.stamp_ns,
                f'{event.camera}_optical_frame',
                event.data,
            )
        else:
            writer.write_joint_state(
                '/joint_states', event.stamp_ns, event.names, event.positions, event.velocities
            )


_SIMULATORS: list[SimRobot] = []


def _simulator(task: str) -> SimRobot:
    """Return this process's simulator; loading the model takes as long as an episode."""
    if not _SIMULATORS:
        _SIMULATORS.append(SimRobot(task, 0))
    return _SIMULATORS[0]
