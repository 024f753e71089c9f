"""The nodes run on the rclpy of every ROS distribution that the README names."""

import os
from pathlib import Path
import subprocess
import sys

import pytest

HERE = Path(__file__).resolve().parent


@pytest.mark.slow
def test_the_gate_and_the_recorder_run_where_rclpy_is_humbles():
    tests = (
        'test_nodes_gate_stops.py::test_two_estop_publishers_are_not_armed_with_and_release_nothing',
        'test_nodes_episode_recorder.py'
        '::test_an_episode_is_one_bag_that_holds_every_message_and_says_what_it_is',
    )
    command = [
        sys.executable,
        '-m',
        'pytest',
        '-q',
        '-p',
        'humble_rclpy',
        '-p',
        'no:cacheprovider',
    ]
    environment = {**os.environ, 'PYTHONPATH': str(HERE)}
    done = subprocess.run(
        [*command, *tests], cwd=HERE, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '2 passed' in done.stdout
