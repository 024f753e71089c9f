"""The simulated robot does what the gate sends: commanded to a thousandth, measured at the end."""

import numpy as np
import pytest

from eva_ros.control.chunk import Chunk
from eva_ros.control.gate import check_chunk
from eva_ros.control.settings import load_gate_settings
from eva_ros.robot.motion import minimum_jerk
from eva_ros.robot.spec import load_robot
from eva_ros.sim.robot import SimRobot
from eva_ros.sim.robot import TrajectoryCommand

ROBOT = load_robot('aloha_sim')


@pytest.mark.parametrize('splice', [False, True])
def test_arms_end_where_they_were_sent(splice):
    sim = SimRobot('reach_left', 3, splice=splice)
    sim.cameras_on = False
    try:
        sim.advance(0.5)
        settings = load_gate_settings('aloha_sim')
        begin = sim.commanded()
        rng = np.random.default_rng(0)
        # Up and away from the table.
        goal = begin + np.tile([0.3, 0.2, -0.3, 0.3, 0.2, 0.3, 0.0], 2)
        steps = minimum_jerk(begin, goal, 17)
        steps[1:] += 0.01 * rng.normal(size=(16, 14)) * ~ROBOT.gripper_mask
        chunk = Chunk(0, 1, ROBOT.joint_names, 0.1, steps, begin)
        verdict = check_chunk(chunk, begin, ROBOT, settings, 0, commanded=begin)
        assert verdict.accepted, verdict.detail
        for arm, trajectory in verdict.command.items():
            assert sim.send(arm, TrajectoryCommand(0, **vars(trajectory))) is None
        begun_ns, lag = sim.time_ns, 0.0
        while sim.time_ns < begun_ns + verdict.duration_s * 1e9:
            commanded = sim.commanded()
            planned = verdict.path.sample((sim.time_ns - begun_ns) * 1e-9)[0]
            assert np.abs(commanded - planned).max() < 1e-3
            sim.advance(0.01)
            arms = (sim.world.joints - commanded)[~ROBOT.gripper_mask]
            lag = max(lag, float(np.abs(arms).max()))
        sim.advance(0.5)
        end = np.abs(sim.world.joints - verdict.path.positions[-1])[~ROBOT.gripper_mask]
        print(f'lag in motion {lag:.3f} rad, at the end {end.max():.4f} rad')
        assert end.max() < 0.02
        assert lag < settings.max_tracking_error
    finally:
        sim.close()
