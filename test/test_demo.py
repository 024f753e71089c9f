"""`eva demo`: it moves both arms over ROS topics and leaves what it promises, or says why not."""

import json
import os
from pathlib import Path
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from eva_ros.cli.main import main

pytest.importorskip('rclpy')

import ros_harness
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from eva_ros.robot.spec import load_robot
from eva_ros.ros import qos

ROBOT = load_robot('aloha_sim')


@pytest.fixture
def unused_domain(monkeypatch):
    """Let the test have a domain in which no node of earlier tests is still known."""
    monkeypatch.setenv('ROS_DOMAIN_ID', str(ros_harness.own_domain()))


def start_demo(*arguments):
    """Start `eva demo` on this test's own domain."""
    command = [sys.executable, '-m', 'eva_ros.cli.main', 'demo', *arguments]
    command += ['--domain-id', os.environ['ROS_DOMAIN_ID']]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures('unused_domain')
def test_demo_moves_both_arms_and_leaves_a_bag_and_a_report(tmp_path):
    demo = start_demo(
        *('--tasks', 'reach_left', 'reach_right', 'lift_left', '--max-duration', '8'),
        *('--out', str(tmp_path)),
    )
    try:
        # The demo shares its domain with nobody; once its nodes start, listening is fine.
        deadline = time.monotonic() + ros_harness.TIMEOUT_S
        while not list(tmp_path.glob('*/nodes.log')):
            assert demo.poll() is None and time.monotonic() < deadline, demo.communicate()
            time.sleep(0.1)
        with ros_harness.ros_graph() as graph:
            heard = {
                arm: graph.collect(JointTrajectory, spec.controller.topic, qos.COMMAND)
                for arm, spec in ROBOT.arms.items()
            }
            states = graph.collect(JointState, 'joint_states', qos.SENSOR_OUTPUT)
            out, errors = demo.communicate(timeout=800)
    finally:
        demo.kill()
    assert demo.returncode == 0, errors
    assert all(len(found) >= 3 for found in heard.values())
    joints = np.array([ROBOT.from_joint_state(s.name, s.position) for s in states])
    for arm in ROBOT.arms:
        assert np.ptp(joints[:, ROBOT.arm_indices(arm)], axis=0).max() > 0.1
    check_what_is_left(next(tmp_path.iterdir()), out)


def check_what_is_left(folder: Path, out: str):
    about = json.loads((folder / 'run.json').read_text())
    assert [attempt['task'] for attempt in about['attempts']] == [
        'reach_left', 'reach_right', 'lift_left'
    ]  # fmt: skip
    for word in ('Tasks', 'Seconds a stage', 'median', 'stood still', 'executability', 'report'):
        assert word in out
    page = (folder / 'report.html').read_text()
    # Nothing is fetched; the letters may turn up in a picture.
    text = re.sub(r'data:[\w/+;,=-]+', '', page)
    assert 'http' not in text.replace('http-equiv', '') and page.count('class="joints"') == 3
    assert page.count('What the cameras saw before the dream') >= 3
    assert (folder / 'bag' / 'metadata.yaml').is_file() and list(folder.glob('bag/*.mcap'))


@pytest.mark.usefixtures('unused_domain')
def test_a_domain_in_use_is_refused_in_a_sentence(graph, tmp_path):
    demo = start_demo('--out', str(tmp_path))
    out, errors = demo.communicate(timeout=ros_harness.TIMEOUT_S)
    assert demo.returncode == 2
    assert 'is taken on this machine by the node probe' in errors and '--domain-id' in errors
    assert errors.count('\n') == 1 and list(tmp_path.iterdir()) == []


def test_a_missing_gl_library_is_named_with_its_remedy(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr('ctypes.util.find_library', lambda name: None)
    monkeypatch.delenv('MUJOCO_GL', raising=False)
    assert main(['demo', '--out', str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert 'apt-get install libegl1' in errors and errors.count('\n') == 1


@pytest.mark.parametrize('distro, localhost_only', [('humble', '1'), ('jazzy', None)])
def test_the_demo_stays_on_this_machine_by_the_variables_of_the_distribution(
    monkeypatch, tmp_path, distro, localhost_only
):
    for name in ('ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'ROS_LOCALHOST_ONLY'):
        monkeypatch.setenv(name, '0')
    monkeypatch.setenv('ROS_DISTRO', distro)
    # It ends where it first needs ROS; by then the variables are set.
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    monkeypatch.delitem(sys.modules, 'eva_ros.ros.demo_client', raising=False)
    assert main(['demo', '--out', str(tmp_path)]) == 2
    assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert os.environ.get('ROS_LOCALHOST_ONLY') == localhost_only


def test_wrong_use_is_refused_before_anything_starts(capsys, tmp_path):
    for wrong, word in (
        (('--tasks', 'juggle'), 'juggle'),
        (('--domain-id', '500'), '0 to 101'),
        (('--report', str(tmp_path / 'nothing')), 'no recorded run'),
    ):
        assert main(['demo', '--out', str(tmp_path), *wrong]) == 2
        assert word in capsys.readouterr().err
