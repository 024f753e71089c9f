"""FollowJointTrajectory servers for the arms; stand-ins for message packages that are missing.

The wheels have neither control_msgs nor tf2_msgs. For these tests alone packages of those names
are built into a temporary folder, from definitions that hold the public fields which the nodes
use; where the real package is installed, it is taken.
"""

from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
import ctypes
import importlib
import importlib.util
import os
from pathlib import Path
import shutil
import subprocess
import sys
import threading

import pytest
from rclpy.action import ActionServer
from rclpy.action import CancelResponse
from rclpy.action import GoalResponse
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from ros_harness import TIMEOUT_S

ACTION = 'control_msgs/action/FollowJointTrajectory'
GOAL = """trajectory_msgs/JointTrajectory trajectory
---
int32 SUCCESSFUL=0
int32 INVALID_GOAL=-1
int32 PATH_TOLERANCE_VIOLATED=-4
int32 error_code
string error_string
---
"""
STATE = """std_msgs/Header header
string[] joint_names
trajectory_msgs/JointTrajectoryPoint reference
trajectory_msgs/JointTrajectoryPoint feedback
trajectory_msgs/JointTrajectoryPoint error
trajectory_msgs/JointTrajectoryPoint output
"""
STAND_INS = {
    'control_msgs': (
        ('std_msgs', 'trajectory_msgs'),
        {
            'action/FollowJointTrajectory.action': GOAL,
            'msg/JointTrajectoryControllerState.msg': STATE,
        },
    ),
    'tf2_msgs': (
        ('geometry_msgs',),
        {'msg/TFMessage.msg': 'geometry_msgs/TransformStamped[] transforms\n'},
    ),
}  # fmt: skip
CMAKE = """cmake_minimum_required(VERSION 3.8)
project({name})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
{find}
rosidl_generate_interfaces(${{PROJECT_NAME}} {files} DEPENDENCIES {needs})
ament_package()
"""
PACKAGE = """<?xml version="1.0"?>
<package format="3">
  <name>{name}</name>
  <version>0.0.0</version>
  <description>A stand-in for the tests of eva_ros; not for use.</description>
  <maintainer email="maintainers@eva-ros.invalid">EVA for ROS 2 maintainers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>action_msgs</depend>
  {depends}
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""


@contextmanager
def follow_joint_trajectory(folder: Path) -> Iterator[type]:
    """Give the action: of the real package, or of a stand-in that is gone again afterwards."""
    with message_packages(folder, ['control_msgs']):
        yield importlib.import_module('control_msgs.action').FollowJointTrajectory


@contextmanager
def message_packages(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Let packages be imported: the real ones, or stand-ins that are gone again afterwards."""
    names = [name for name in names if importlib.util.find_spec(name) is None]
    if not names:
        yield
        return
    path, environment = list(sys.path), dict(os.environ)
    _import_from(_build(folder, names), names)
    try:
        yield
    finally:
        sys.path[:] = path
        for module in [name for name in sys.modules if name.partition('.')[0] in names]:
            del sys.modules[module]
        for name in ('LD_LIBRARY_PATH', 'AMENT_PREFIX_PATH'):
            os.environ.pop(name)
            os.environ.update({key: environment[key] for key in {name} & set(environment)})
        importlib.invalidate_caches()


def _write(source: Path, name: str) -> None:
    needs, files = STAND_INS[name]
    for file, text in files.items():
        path = source / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    find = '\n'.join(f'find_package({need} REQUIRED)' for need in needs)
    quoted = ' '.join(f'"{file}"' for file in files)
    cmake = CMAKE.format(name=name, find=find, files=quoted, needs=' '.join(needs))
    (source / name / 'CMakeLists.txt').write_text(cmake)
    depends = ''.join(f'<depend>{need}</depend>' for need in needs)
    (source / name / 'package.xml').write_text(PACKAGE.format(name=name, depends=depends))


def _build(folder: Path, names: Sequence[str]) -> Path:
    if shutil.which('colcon', path=_environment()['PATH']) is None:
        pytest.skip(f'neither {names[0]} nor colcon is installed')
    source = folder / 'src'
    for name in names:
        _write(source, name)
    command = [
        'colcon', '--log-base', folder / 'log', 'build', '--base-paths', source, '--build-base',
        folder / 'build', '--merge-install', '--install-base', folder / 'install',
        '--cmake-args', f'-DPython3_EXECUTABLE={sys.executable}', '-DBUILD_TESTING=OFF',
    ]  # fmt: skip
    done = subprocess.run(
        command, env=_environment(), cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder / 'install'


def _environment() -> dict[str, str]:
    own = Path(sys.executable).parent
    environment = {**os.environ, 'COLCON_DEFAULTS_FILE': os.devnull, 'MAKEFLAGS': '-j2'}
    environment['PATH'] = f'{own}{os.pathsep}{environment["PATH"]}'
    if 'ROS_DISTRO' not in environment or (own / 'colcon').exists():
        environment.setdefault('AMENT_PREFIX_PATH', str(own.parent))
        environment.setdefault('CMAKE_PREFIX_PATH', str(own.parent))
        environment['VIRTUAL_ENV'] = str(own.parent)
    return environment


def _import_from(prefix: Path, names: Sequence[str]) -> None:
    """Make packages importable in this process, which has started without them."""
    (packages,) = prefix.glob('lib/python3*/site-packages')
    sys.path.append(str(packages))
    for name, where in (('LD_LIBRARY_PATH', prefix / 'lib'), ('AMENT_PREFIX_PATH', prefix)):
        os.environ[name] = os.pathsep.join(filter(None, [str(where), os.environ.get(name)]))
    left = sorted(path for name in names for path in (prefix / 'lib').glob(f'lib{name}*.so'))
    while left:
        waiting = [path for path in left if not _loaded(path)]
        assert len(waiting) < len(left), f'cannot be loaded: {waiting}'
        left = waiting


def _loaded(path: Path) -> bool:
    try:
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


class ArmServers:
    """A server for each arm, which takes a goal, lets it run and says how it ended.

    Args:
        graph: in whose context.
        action: the type.
        names: of the servers, by arm.
        take: is called with arm and trajectory of each goal that is accepted.

    Attributes:
        rejects: arms that reject every goal from now on.
    """

    def __init__(self, graph, action, names, take):
        self._action, self._take = action, take
        self.rejects = set()
        self._running = {}
        self._node = Node('controllers', context=graph.context)
        self._servers = [
            ActionServer(
                self._node, action, name,
                execute_callback=lambda handle, arm=arm: self._execute(arm, handle),
                goal_callback=lambda _goal, arm=arm: (
                    GoalResponse.REJECT if arm in self.rejects else GoalResponse.ACCEPT
                ),
                cancel_callback=lambda _handle: CancelResponse.ACCEPT,
            )
            for arm, name in names.items()
        ]  # fmt: skip
        self._executor = MultiThreadedExecutor(8, context=graph.context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def end(self, arm, code, text=''):
        """Let the goal that an arm executes end with a code."""
        done, how = self._running[arm]
        how.update(code=code, text=text)
        done.set()

    def close(self):
        """Let every goal end, and the servers."""
        for arm in self._running:
            self.end(arm, 0)
        self._executor.shutdown(5.0)
        self._thread.join(5.0)
        for server in self._servers:
            server.destroy()
        self._node.destroy_node()

    def _execute(self, arm, handle):
        done, how = threading.Event(), {}
        if arm in self._running:
            # A new goal takes the place of the old one, which is aborted.
            self.end(arm, -1, 'preempted')
        self._running[arm] = done, how
        self._take(arm, handle.request.trajectory)
        assert done.wait(TIMEOUT_S)
        result = self._action.Result(error_code=how['code'], error_string=how['text'])
        if how['code']:
            handle.abort()
        else:
            handle.succeed()
        return result
