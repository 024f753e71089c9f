"""Seconds of each stage of a turn on this machine: observe, dream, decode, check.

    python benchmarks/stages.py [--turns 20] [--seed 0] [--models FOLDER]

Prints median, 95th percentile and the bootstrap interval of the mean, over scenes of all tasks.
"""

import argparse
import os
from pathlib import Path
import platform
import time

import numpy as np

from eva_ros.control.command_supervisor import CommandSupervisor
from eva_ros.control.settings import load_gate_settings
from eva_ros.evaluation.closed_loop import make_chunk
from eva_ros.evaluation.closed_loop import Plan
from eva_ros.evaluation.run import median_and_p95
from eva_ros.evaluation.statistics import bootstrap_interval
from eva_ros.evaluation.variants import World
from eva_ros.idm.reading import read_rollout
from eva_ros.observations.ingest import Observation
from eva_ros.observations.ingest import ObservationBuilder
from eva_ros.observations.views import load_view
from eva_ros.robot.paths import checkpoint_dir
from eva_ros.robot.spec import load_robot
from eva_ros.robot.spec import Robot
from eva_ros.sim.robot import CameraImage
from eva_ros.sim.robot import SimRobot
from eva_ros.sim.tasks import TASKS


def observe(sim: SimRobot, builder: ObservationBuilder) -> tuple[Observation, float]:
    """Return the observation of a scene at rest, and the seconds to build it."""
    for event in sim.advance(0.5):
        if isinstance(event, CameraImage):
            builder.add_image(event.camera, event.stamp_ns, event.data, 'jpeg')
        else:
            builder.add_joint_state(event.stamp_ns, event.names, event.positions, event.velocities)
    started = time.perf_counter()
    return builder.latest(sim.time_ns), time.perf_counter() - started


def turn(world: World, model, sim: SimRobot, instruction: str, seed: int) -> dict[str, float]:
    """Return the seconds of each stage of one turn."""
    observation, observe_s = observe(sim, ObservationBuilder(world.robot, world.view))
    marks = [time.perf_counter()]
    rollout = model.dream(observation.view, instruction, seed=seed)
    marks.append(time.perf_counter())
    path = read_rollout(world.idm, rollout.frames).smoothed
    marks.append(time.perf_counter())
    check(world.robot, instruction, observation, Plan(path, rollout.dt))
    marks.append(time.perf_counter())
    dream_s, decode_s, check_s = np.diff(marks)
    return {'observe': observe_s, 'dream': dream_s, 'decode': decode_s, 'check': check_s}


def check(robot: Robot, instruction: str, observation: Observation, plan: Plan) -> None:
    """Judge a plan as the node does."""
    chunk = make_chunk(robot, instruction, observation, plan, 1)
    now_ns = observation.stamp_ns
    supervisor = CommandSupervisor(
        robot, load_gate_settings(robot.name), dry_run=True, now_ns=now_ns
    )
    supervisor.judge(chunk, observation.joint_positions, now_ns, now_ns)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--turns', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--models', type=Path, default=checkpoint_dir())
    args = parser.parse_args()
    world = World(load_robot('aloha_sim'), load_view('aloha_sim'), args.models)
    model, tasks = world.world_model(lora=None), [t for t in TASKS.values() if t.shipped_phrasings]
    sim = SimRobot(tasks[0].name, args.seed)
    seconds: dict[str, list[float]] = {}
    for number in range(args.turns + 1):
        task = tasks[number % len(tasks)]
        sim.reset(task.name, args.seed + number)
        measured = turn(world, model, sim, task.shipped_phrasings[0], number)
        if number:  # the first one warms up
            for stage, value in measured.items():
                seconds.setdefault(stage, []).append(value)
    sim.close()
    print(f'{args.turns} turns on {os.cpu_count()} cores, {platform.machine()}, seed {args.seed}')
    for stage, values in seconds.items():
        median, p95 = median_and_p95(np.array(values))
        low, high = bootstrap_interval(values, args.seed)
        mean = np.mean(values)
        print(f'{stage:8} median {median:.4f} s, 95 % {p95:.4f} s, '
              f'mean {mean:.4f} [{low:.4f}, {high:.4f}] s')  # fmt: skip


if __name__ == '__main__':
    main()
