"""How long the command gate takes, as a multiple of one np.diff-and-compare pass; and a profile.

    python benchmarks/gate.py [--repeats 30] [--chunks CHUNKS.npz]

CHUNKS.npz holds decoded chunks, `positions` [N, T, J] and `observed` [N, J]: for these, and for
smooth moves with 0.01 and 0.02 rad of jitter, it prints the stretch of the time law beside that of
one uniform stretch of the same path.
"""

import argparse
import cProfile
from pathlib import Path
import pstats
import time

import numpy as np

from eva_ros.control import gate
from eva_ros.control.chunk import Chunk
from eva_ros.control.path import keep_inside
from eva_ros.control.path import smooth_path
from eva_ros.control.path import Start
from eva_ros.control.settings import load_gate_settings
from eva_ros.control.time_scaling import keep_limits
from eva_ros.robot.motion import minimum_jerk_fraction
from eva_ros.robot.spec import load_robot
from eva_ros.robot.splines import stretch_needed

DT = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--repeats', type=int, default=30)
    parser.add_argument('--chunks', type=Path)
    args = parser.parse_args()
    robot = load_robot('aloha_sim')
    settings = load_gate_settings('aloha_sim').model_copy(update={'execute_steps': 48})
    durations(robot, settings, args.repeats)
    stretches(robot, load_gate_settings('aloha_sim'), args.chunks)


def move(robot, seed: int, noise: float, steps: int = 17) -> np.ndarray:
    """Return a smooth move of all arm joints with jitter [T, J]."""
    rng = np.random.default_rng(seed)
    t = np.arange(steps)[:, None] * DT
    part = minimum_jerk_fraction(t / ((steps - 1) * DT))
    path = robot.home + part * rng.uniform(-0.5, 0.5, 14) * ~robot.gripper_mask
    return path + noise * rng.normal(size=path.shape) * ~robot.gripper_mask


def durations(robot, settings, repeats: int) -> None:
    """Print CPU time of a 49-step chunk with and without the collision check."""
    limits = robot.limits
    chunks = [move(robot, seed, 0.01, 49) for seed in range(repeats)]

    def compare(q):
        rate = q
        for bound in (limits.max_velocity, limits.max_acceleration, limits.max_jerk):
            rate = np.diff(rate, axis=0) / DT
            (np.abs(rate) > bound).any()

    def check(q, with_collisions):
        chosen = settings.model_copy(update={'check_collisions': with_collisions})
        chunk = Chunk(0, 1, robot.joint_names, DT, q, robot.home)
        return gate.check_chunk(chunk, robot.home, robot, chosen, 0)

    bare = median_s(compare, chunks)
    print(f'one np.diff-and-compare pass over 49 x 14: {bare * 1e6:.0f} us')
    for name, flag in (('without', False), ('with', True)):
        for q in chunks:
            check(q, flag)
        taken = median_s(lambda q, flag=flag: check(q, flag), chunks)
        print(f'gate {name} collision check: {taken * 1e3:.1f} ms, {taken / bare:.0f} passes')
    profile = cProfile.Profile()
    profile.enable()
    for q in chunks:
        check(q, True)
    profile.disable()
    pstats.Stats(profile).strip_dirs().sort_stats('tottime').print_stats(8)


def median_s(function, arguments) -> float:
    taken = []
    for argument in arguments:
        begun = time.process_time_ns()
        function(argument)
        taken.append(time.process_time_ns() - begun)
    return float(np.median(taken)) * 1e-9


def stretches(robot, settings, path: Path | None) -> None:
    """Print mean and largest stretch of the time law and of a uniform one."""
    sets = {
        f'smooth, {noise:g} rad of jitter': [
            (move(robot, seed, noise), robot.home) for seed in range(100)
        ]
        for noise in (0.0, 0.01, 0.02)
    }
    if path is not None:
        with np.load(path) as content:
            sets['decoded chunks'] = list(zip(content['positions'], content['observed']))
    print(f'{"chunks":28} {"n":>4} {"time law":>18} {"uniform":>18}   mean, largest')
    for name, chunks in sets.items():
        laws = np.array([pair for q, now in chunks if (pair := stretch(robot, settings, q, now))])
        mean, most = laws.mean(axis=0), laws.max(axis=0)
        print(
            f'{name:28} {len(laws):4} {mean[0]:9.3f} {most[0]:8.3f} {mean[1]:9.3f} {most[1]:8.3f}'
        )


def stretch(robot, settings, q, now) -> tuple[float, float]:
    """Return the stretch of the time law and the uniform one of the same path."""
    mask = robot.gripper_mask
    low, high = robot.limits.min_position + 0.01 * ~mask, robot.limits.max_position - 0.01 * ~mask
    steps = np.clip(q, low, high)
    fraction = minimum_jerk_fraction(np.arange(1, len(q)) / settings.start_blend_steps)[:, None]
    steps = steps[1:] - (1.0 - fraction) * (steps[0] - now)
    tolerance = np.where(mask, settings.path_tolerance_gripper, settings.path_tolerance)
    path = smooth_path(
        Start.at_rest(now), steps[: settings.execute_steps + 1], DT, robot.limits, tolerance,
        settings.stop_steps,
    )  # fmt: skip
    path = keep_inside(path, low, high, robot.limits)
    motion = keep_limits(path, robot.limits, moving=False)
    uniform = max(1.0, float(stretch_needed(path.bounds, robot.limits).max()))
    return motion.duration / path.duration, uniform


if __name__ == '__main__':
    main()
