#!/usr/bin/env python3
"""Record simulated attempts of the shipped models as bags, for `eva align probe --attempts`.

Cameras stay on while the arms move, as on a robot; otherwise an attempt is that of
`eva evaluate` on the same scene. Existing bags are kept.
"""

import argparse
from pathlib import Path
import sys

import torch

from eva_ros.control.settings import load_gate_settings
from eva_ros.evaluation.closed_loop import LoopSettings
from eva_ros.evaluation.closed_loop import run_episode
from eva_ros.evaluation.comparison import Comparison
from eva_ros.evaluation.comparison import Job
from eva_ros.evaluation.comparison import jobs
from eva_ros.evaluation.variants import Attempt
from eva_ros.evaluation.variants import Driver
from eva_ros.evaluation.variants import load_driver
from eva_ros.evaluation.variants import World
from eva_ros.observations.views import view_of
from eva_ros.recordings.bag_writer import EpisodeBagWriter
from eva_ros.robot.paths import checkpoint_dir
from eva_ros.robot.paths import SIM_ROBOT
from eva_ros.robot.spec import load_robot
from eva_ros.sim.robot import CameraImage
from eva_ros.sim.robot import JointState
from eva_ros.sim.robot import SimRobot


class RecordedSim(SimRobot):
    """A simulated robot whose messages are written to a bag; its cameras never rest."""

    writer: EpisodeBagWriter | None = None

    @property
    def cameras_on(self) -> bool:
        """Return that images are always made."""
        return True

    @cameras_on.setter
    def cameras_on(self, value: bool) -> None:
        """Ignore who saves rendering time."""

    def advance(self, duration_s: float) -> list[CameraImage | JointState]:
        """Advance time and write what the robot published meanwhile."""
        events = super().advance(duration_s)
        for event in events if self.writer else ():
            if isinstance(event, CameraImage):
                self.writer.write_image(
                    f'/{event.camera}/image_raw/compressed',
                    event.stamp_ns,
                    f'{event.camera}_optical_frame',
                    event.data,
                )
            else:
                self.writer.write_joint_state(
                    '/joint_states', event.stamp_ns, event.names, event.positions, event.velocities
                )
        return events


def record(job: Job, driver: Driver, world: World, path: Path) -> bool:
    """Record one attempt; return whether it succeeded."""
    sim = RecordedSim(job.task, job.scene)
    sim.writer = EpisodeBagWriter(path, SIM_ROBOT, {'eva.scene': str(job.scene)}, job.scene)
    about = {'task': job.task, 'instruction': job.instruction}
    try:
        sim.writer.write_episode(sim.time_ns, start=True, **about)
        planner = driver(Attempt(job.task, job.instruction, job.scene * 1000))
        gate = load_gate_settings(world.robot.name)
        result = run_episode(
            sim, job.instruction, planner, world.robot, world.view, gate, LoopSettings()
        )
        sim.writer.write_episode(sim.time_ns, start=False, success=result.success, **about)
    except BaseException:
        sim.writer.abort()
        raise
    finally:
        sim.close()
    sim.writer.close()
    return result.success


def main() -> int:
    """Record all attempts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--out', type=Path, required=True, help='folder of the bags')
    parser.add_argument('--tasks', nargs='+', required=True)
    parser.add_argument('--episodes', type=int, required=True, help='scenes per task')
    parser.add_argument('--seed', type=int, default=20000, help='first scene (%(default)s)')
    parser.add_argument('--variant', default='unaligned', help='(%(default)s)')
    args = parser.parse_args()
    torch.set_num_threads(1)
    robot = load_robot(SIM_ROBOT)
    world = World(robot, view_of(robot), checkpoint_dir())
    driver = load_driver(args.variant, world)
    wanted = Comparison(
        robot=SIM_ROBOT,
        view=None,
        models=checkpoint_dir(),
        tasks=tuple(args.tasks),
        variants=(args.variant,),
        episodes=args.episodes,
        seed=args.seed,
        loop=LoopSettings(),
    )
    for job in jobs(wanted):
        path = args.out / f'{job.task}-{job.scene:05d}'
        if not path.exists():
            success = record(job, driver, world, path)
            print(f'{path.name}: {"success" if success else "failure"}', file=sys.stderr)
    return 0


if __name__ == '__main__':
    sys.exit(main())
