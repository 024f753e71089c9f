"""Print the accelerations and jerks of the scripted experts, which fix the simulator's limits.

    python benchmarks/expert_limits.py [--episodes 100] [--seed 0]

The limits in config/robots/aloha_sim.yaml are 1.5 times the 99.9th percentile over what the
experts of all tasks command at 50 Hz, wherever a joint moves. The six joints of an arm share one
value, since which of them moves most is a matter of the tasks, not of the arm.
"""

import argparse
import sys

import numpy as np
from numpy.typing import NDArray

from eva_ros.cli.sim_recording import episode_rng
from eva_ros.robot.motion import differences
from eva_ros.robot.spec import load_robot
from eva_ros.robot.spec import Robot
from eva_ros.sim.experts import DT
from eva_ros.sim.experts import ExpertSettings
from eva_ros.sim.experts import plan_episode
from eva_ros.sim.tasks import Task
from eva_ros.sim.tasks import TASKS

FACTOR = 1.5
QUANTILE = 0.999
RESAMPLES = 200
QUANTITIES = ('velocity', 'acceleration', 'jerk')
# joints that the two arms share, in the order of a robot's arm
JOINTS = ('waist', 'shoulder', 'elbow', 'forearm_roll', 'wrist_angle', 'wrist_rotate', 'gripper')


def main(arguments: list[str] | None = None) -> int:
    """Plan episodes of all tasks and print quantiles, limits and how sure they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--episodes', type=int, default=100, help='of each task (100)')
    parser.add_argument('--seed', type=int, default=0, help='of the episodes (0)')
    args = parser.parse_args(arguments)
    episodes = [
        _rates(task, args.seed, index) for task in TASKS.values() for index in range(args.episodes)
    ]
    print(f'{len(TASKS)} tasks x {args.episodes} episodes, seed {args.seed}')
    _print_joints(episodes)
    for name, columns in (('arm joints', range(6)), ('grippers', range(6, 7))):
        for k, quantity in enumerate(QUANTITIES):
            values = [np.concatenate([e[k][:, c] for c in columns]) for e in episodes]
            _print_limit(name, quantity, [v[v > 1e-9] for v in values], args.seed)
    _print_share_inside(episodes, load_robot('aloha_sim'))
    return 0


def _rates(task: Task, seed: int, index: int) -> tuple[NDArray, ...]:
    """Return absolute velocity, acceleration and jerk [N, 7] of an episode, both arms in turn."""
    plan = plan_episode(
        task, episode_rng(task.name, seed, index), ExpertSettings(astray_chance=0.5)
    )
    # it stands still before and after every stretch, which shows in the jerk
    padded = [np.pad(path, ((3, 3), (0, 0)), mode='edge') for path in plan.stretches]
    parts = zip(*(differences(path, DT) for path in padded))
    return tuple(np.abs(np.concatenate(part)).reshape(-1, 7) for part in parts)


def _print_joints(episodes: list[tuple[NDArray, ...]]) -> None:
    print(f'{"99.9th percentile":18s}' + ''.join(f'{name:>14s}' for name in JOINTS))
    for k, quantity in enumerate(QUANTITIES):
        values = np.concatenate([episode[k] for episode in episodes])
        columns = [column[column > 1e-9] for column in values.T]
        print(f'{quantity:18s}' + ''.join(f'{np.quantile(c, QUANTILE):14.2f}' for c in columns))


def _print_limit(name: str, quantity: str, values: list[NDArray], seed: int) -> None:
    """Print a quantile with its interval (bootstrap over episodes) and the limit it gives."""
    rng = np.random.default_rng(seed)
    found = [
        np.quantile(np.concatenate([values[i] for i in chosen]), QUANTILE)
        for chosen in rng.integers(len(values), size=(RESAMPLES, len(values)))
    ]
    middle = np.quantile(np.concatenate(values), QUANTILE)
    low, high = np.quantile(found, (0.025, 0.975))
    print(
        f'{name:10s} {quantity:13s} {middle:8.2f}  [{low:.2f}, {high:.2f}]'
        f'   x {FACTOR} = {FACTOR * middle:.1f}'
    )


def _print_share_inside(episodes: list[tuple[NDArray, ...]], robot: Robot) -> None:
    limits = robot.limits
    for k, quantity in enumerate(QUANTITIES):
        limit = getattr(limits, f'max_{quantity}')[:7]
        share = np.mean([np.all(e[k] <= limit, axis=1).mean() for e in episodes])
        print(f'within the limits of {robot.name}: {quantity:13s} {share:.4%} of all steps')


if __name__ == '__main__':
    sys.exit(main())
