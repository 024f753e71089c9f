"""Scripted experts: smooth paths that do a task, with human-like pauses.

An expert knows the scene. It plans segments of motion between rests; recordings hold the camera
images and measured joints, not the plan.
"""

from dataclasses import dataclass
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eva_ros.robot.motion import minimum_jerk_fraction
from eva_ros.sim.geometry import inverse_kinematics
from eva_ros.sim.scenes import CLEAN
from eva_ros.sim.scenes import Scenes
from eva_ros.sim.tasks import draw_scene
from eva_ros.sim.tasks import Scene
from eva_ros.sim.tasks import Task
from eva_ros.sim.world import SIDES

DT = 0.02
# Below 1.03 rad, where the level-keeping wrist cameras of gym-aloha turn their picture over.
PITCH = 0.8
# of the joints of an arm, a hair inside
_RANGES = np.array([(-3.1, -1.84, -1.75, -3.1, -1.86, -3.1), (3.1, 1.25, 1.6, 3.1, 2.2, 3.1)])
_ABOVE = np.array([0.0, 0.0, 0.07])
_RAISE = np.array([0.0, 0.0, 0.10])
# the cube keeps the fingers this far from closed
_GRASP = 0.0
# wait until the fingers have closed
_SQUEEZE = (None, None)
# from the middle of the bar to where a hand takes it
_GRIP_M = 0.12
_MEETING = np.array([0.0, 0.5, 0.28])


@dataclass(frozen=True)
class ExpertSettings:
    """Settings of an expert.

    Attributes:
        speed_rad_s: Mean speed of the joint that moves farthest.
        pause_chance: Probability of a pause in the middle of a long segment.
        pause_s: Shortest and longest pause.
        hold_s: Rest at the end.
        astray_chance: Probability that the working arm starts at a wrong position near the cube
            instead of at home, as after a bad dream.
        astray_m: Half the size of the box of wrong positions.
        phrasings: Group of RECORDED_PHRASINGS that instructions are drawn from.
    """

    speed_rad_s: float = 0.9
    pause_chance: float = 0.3
    pause_s: tuple[float, float] = (0.2, 1.0)
    hold_s: float = 1.5
    astray_chance: float = 0.0
    astray_m: tuple[float, float, float] = (0.08, 0.08, 0.07)
    phrasings: str = 'shipped'


@dataclass(frozen=True)
class Plan:
    """Plan of an expert for an episode.

    Attributes:
        scene: Start of the episode.
        instruction: One that the task is recorded with.
        stretches: Commanded paths, see expert_stretches.
    """

    scene: Scene
    instruction: str
    stretches: list[NDArray]


def plan_episode(
    task: Task, rng: np.random.Generator, settings: ExpertSettings, scenes: Scenes = CLEAN
) -> Plan:
    """Sample a scene and an instruction, and plan the expert's motion."""
    scene = draw_scene(task, int(rng.integers(2**31)), scenes)
    if task.kind in ('reach', 'lift') and rng.random() < settings.astray_chance:
        scene = astray(task, scene, rng, settings)
    instruction = str(rng.choice(task.recorded(settings.phrasings)))
    if task.kind == 'explore':
        return Plan(scene, instruction, exploration(scene, rng, settings))
    return Plan(scene, instruction, expert_stretches(task, scene, rng, settings))


def exploration(scene: Scene, rng: np.random.Generator, settings: ExpertSettings) -> list[NDArray]:
    """Return segments [N, 14] in which the arms in turn move to random positions.

    Half of the positions lie low above the table, where tasks are done and where an arm ends up
    that missed its cube; the cube is only an obstacle.
    """
    stretches: list[NDArray] = []
    joints = scene.joints
    for _ in range(7):
        side = SIDES[int(rng.integers(2))]
        height = rng.uniform(0.015, 0.06) if rng.random() < 0.5 else rng.uniform(0.06, 0.3)
        place = [rng.uniform(-0.15, 0.15), rng.uniform(0.35, 0.65), height]
        try:
            arm = inverse_kinematics(side, place, PITCH + 0.2 * rng.normal())
        except ValueError:
            continue
        arm[[3, 5]] += 0.1 * rng.normal(size=2)
        arm = np.clip(arm, *_RANGES)
        target = _put(joints, side, arm, rng.uniform(0.0, 1.0))
        # the other arm makes room
        other = SIDES[1 - SIDES.index(side)]
        home = scene.joints.reshape(2, 7)[SIDES.index(other)]
        away = np.clip(home[:6] + 0.1 * rng.normal(size=6), *_RANGES)
        target = _put(target, other, away, home[6])
        stretches.append(_stretch(joints, target, None, 1.3 * settings.speed_rad_s))
        joints = target
    stretches.append(_wait(joints, 0.3))
    return stretches


def expert_stretches(
    task: Task, scene: Scene, rng: np.random.Generator, settings: ExpertSettings
) -> list[NDArray]:
    """Return the expert's commands: paths [N, 14] at 50 Hz, each from rest to rest.

    Each segment starts where the previous one ends.
    """
    plan = {'reach': _reach, 'lift': _lift, 'transfer': _transfer, 'lift_bar': _lift_bar}[
        task.kind
    ]
    stretches: list[NDArray] = []
    joints = scene.joints
    for target, via in plan(task.side, scene):
        if target is None:
            stretches.append(_wait(joints, 0.3))
            continue
        path = _stretch(joints, target(joints), via and via(joints), settings.speed_rad_s)
        stretches += _with_pause(path, rng, settings)
        joints = path[-1]
    stretches.append(_wait(joints, settings.hold_s))
    return stretches


def astray(task: Task, scene: Scene, rng: np.random.Generator, settings: ExpertSettings) -> Scene:
    """Return the scene with the working arm at a wrong position near the cube."""
    size = np.asarray(settings.astray_m)
    offset = rng.uniform(-size, size) + [0, 0, size[2] + 0.02]
    arm = inverse_kinematics(task.side, scene.target + offset, PITCH + 0.1 * rng.normal())
    arm[[3, 5]] += 0.05 * rng.normal(size=2)
    return replace(scene, joints=_put(scene.joints, task.side, arm, rng.uniform(0.6, 1.0)))


def _put(joints: NDArray, side: str, arm: NDArray, opening: float) -> NDArray:
    result = joints.copy()
    result.reshape(2, 7)[SIDES.index(side)] = [*arm, opening]
    return result


def _reach(side: str, scene: Scene):
    goal = inverse_kinematics(side, scene.target, PITCH)
    above = inverse_kinematics(side, scene.target + _ABOVE, PITCH)
    yield lambda q: _put(q, side, goal, 1.0), lambda q: _put(q, side, above, 1.0)


def _lift(side: str, scene: Scene):
    yield from _reach(side, scene)
    goal = inverse_kinematics(side, scene.target, PITCH)
    yield lambda q: _put(q, side, goal, _GRASP), None
    yield _SQUEEZE
    high = inverse_kinematics(side, scene.target + _RAISE, PITCH)
    yield lambda q: _put(q, side, high, _GRASP), None


def _transfer(side: str, scene: Scene):
    yield from _reach('right', scene)
    goal = inverse_kinematics('right', scene.target, PITCH)
    yield lambda q: _put(q, 'right', goal, _GRASP), None
    yield _SQUEEZE
    meet = inverse_kinematics('right', _MEETING, 0.3)
    ready = inverse_kinematics('left', _MEETING - [0.12, 0, 0], 0.0, np.pi / 2)
    yield (lambda q: _put(_put(q, 'right', meet, _GRASP), 'left', ready, 1.0)), None
    take = inverse_kinematics('left', _MEETING - [0.005, 0, 0], 0.0, np.pi / 2)
    yield lambda q: _put(q, 'left', take, 1.0), None
    yield lambda q: _put(q, 'left', take, _GRASP), None
    # The left fingers press before this ends; a wait would leave too little time to hold.
    yield lambda q: _put(q, 'right', meet, 1.0), None


def _lift_bar(side: str, scene: Scene):
    grips = {'left': scene.target - [_GRIP_M, 0, 0], 'right': scene.target + [_GRIP_M, 0, 0]}

    def both(raised: NDArray, opening: float) -> NDArray:
        arms = [inverse_kinematics(side, grips[side] + raised, PITCH) for side in SIDES]
        return np.concatenate([[*arm, opening] for arm in arms])

    on_table = np.zeros(3)
    yield lambda q: both(on_table, 1.0), lambda q: both(_ABOVE, 1.0)
    yield lambda q: both(on_table, _GRASP), None
    yield _SQUEEZE
    yield lambda q: both(_RAISE, _GRASP), None


def _stretch(start: NDArray, goal: NDArray, via: NDArray | None, speed: float) -> NDArray:
    """Return a smooth path from rest to rest that passes near `via` without stopping."""
    middle = goal if via is None else via
    ways = (middle - start, goal - middle)
    farthest = sum(
        max(np.abs(way.reshape(2, 7)[:, :6]).max(), 0.7 * np.abs(way.reshape(2, 7)[:, 6]).max())
        for way in ways
    )
    duration = float(np.clip(farthest / speed, 0.8, 2.0))
    s = np.linspace(0, 1, round(duration / DT) + 1)[:, None]
    if via is None:
        return start + ways[0] * minimum_jerk_fraction(s)
    there = minimum_jerk_fraction(np.clip(s / 0.75, 0, 1))
    down = minimum_jerk_fraction(np.clip((s - 0.4) / 0.6, 0, 1))
    return start + ways[0] * there + ways[1] * down


def _with_pause(
    path: NDArray, rng: np.random.Generator, settings: ExpertSettings
) -> list[NDArray]:
    """Return the path, or two segments with a pause between them."""
    if len(path) < 45 or rng.random() >= settings.pause_chance:
        return [path]
    place = rng.uniform(0.3, 0.75)
    arc = np.concatenate(([0], np.abs(np.diff(path, axis=0)).sum(1).cumsum()))
    cut = int(np.searchsorted(arc, place * arc[-1]))
    parts = []
    for low, high in ((0, cut), (cut, len(path) - 1)):
        count = max(round(0.6 * len(path)), 30)
        along = arc[low] + minimum_jerk_fraction(np.linspace(0, 1, count)) * (arc[high] - arc[low])
        parts.append(np.stack([np.interp(along, arc, column) for column in path.T], 1))
    return [parts[0], _wait(parts[0][-1], rng.uniform(*settings.pause_s)), parts[1]]


def _wait(joints: NDArray, seconds: float) -> NDArray:
    return np.repeat(joints[None], max(round(seconds / DT), 2), 0)
