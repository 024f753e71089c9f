"""In an ordinary colcon workspace, built as the README says, the nodes start or say what lacks."""

import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
# Enough of the checkout to build it; the interfaces are built by `make setup` all the time.
TREES = ('eva_ros', 'config', 'launch', 'requirements', 'resource')
FILES = ('package.xml', 'setup.py', 'setup.cfg', 'colcon_defaults.yaml', 'eva_msgs/package.xml')
CMAKE = """cmake_minimum_required(VERSION 3.8)
project(eva_msgs)
find_package(ament_cmake REQUIRED)
ament_package()
"""
NODES = ('camera_ingest', 'arm_trajectory_publisher', 'composed')


def readme_line(start):
    """Return the words of the README's line of code that begins like this."""
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    (line,) = re.findall(rf'^{start} .*--base-paths.*$|^{start} .*--from-paths.*$', readme, re.M)
    return line.split()


def without(package, folder):
    """Return an environment in which a Python package cannot be imported."""
    folder.mkdir(exist_ok=True)
    error = f'ModuleNotFoundError("No module named {package!r}", name={package!r})'
    (folder / f'{package}.py').write_text(f'raise {error}\n')
    return {**os.environ, 'PYTHONPATH': str(folder)}


def run(*command, **options):
    return subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=240, **options
    )


def sentence(result):
    """Return the one line that a program which refused to start left on stderr."""
    assert result.returncode == 2, result.stdout + result.stderr
    (line,) = result.stderr.strip().splitlines()
    return line


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """Return a workspace with the checkout in src/eva_ros, built by the README's line."""
    folder = tmp_path_factory.mktemp('ws')
    checkout = folder / 'src' / 'eva_ros'
    ignore = shutil.ignore_patterns('__pycache__', '*.egg-info')
    for name in TREES:
        shutil.copytree(ROOT / name, checkout / name, ignore=ignore)
    (checkout / 'eva_msgs').mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, checkout / name)
    (checkout / 'eva_msgs' / 'CMakeLists.txt').write_text(CMAKE)
    environment = {**os.environ, 'AMENT_PREFIX_PATH': sys.prefix, 'CMAKE_PREFIX_PATH': sys.prefix}
    colcon, *arguments = readme_line('colcon build')
    built = run(BIN / colcon, *arguments, cwd=folder, env=environment)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.mark.slow
def test_the_readmes_line_builds_both_packages(workspace):
    for package in ('eva_msgs', 'eva_ros'):
        manifest = workspace / 'install' / package / 'share' / package / 'package.xml'
        assert manifest.is_file(), package
    assert (workspace / 'install' / 'setup.bash').is_file()


def test_rosdep_is_told_of_both_packages():
    from catkin_pkg.packages import find_packages

    line = readme_line('rosdep install')
    folders = line[line.index('--from-paths') + 1 : line.index('--ignore-src')]
    # rosdep looks for packages as catkin_pkg does, from each folder on.
    assert folders == ['src', 'src/eva_ros/eva_msgs']
    assert [p.name for p in find_packages(str(ROOT)).values()] == ['eva_ros']
    assert [p.name for p in find_packages(str(ROOT / 'eva_msgs')).values()] == ['eva_msgs']


@pytest.mark.slow
def test_executables_run_on_the_python_of_the_active_environment(workspace, tmp_path):
    python = tmp_path / 'python3'
    python.write_text('#!/bin/sh\necho "the active python3 runs $1"\n')
    python.chmod(0o755)
    environment = {**os.environ, 'PATH': f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'}
    scripts = sorted((workspace / 'install/eva_ros/lib/eva_ros').iterdir())
    assert {'eva', *NODES} <= {script.name for script in scripts}
    for script in scripts:
        assert run(script, env=environment).stdout == f'the active python3 runs {script}\n'


@pytest.mark.slow
def test_an_executable_of_a_workspace_without_eva_msgs_says_so(workspace, tmp_path):
    # What bare `colcon build` leaves: eva_ros alone.
    environment = without('eva_msgs', tmp_path / 'hidden')
    installed = next((workspace / 'install/eva_ros/lib').glob('python3*/site-packages'))
    environment['PYTHONPATH'] += f'{os.pathsep}{installed}'
    for name in NODES:
        script = workspace / 'install/eva_ros/lib/eva_ros' / name
        said = sentence(run(sys.executable, script, env=environment))
        assert said.startswith(f'{name}: eva_msgs is not installed here: build it')
        assert '`colcon build --base-paths src src/eva_ros/eva_msgs`' in said


def test_eva_up_and_demo_without_eva_msgs_say_so(tmp_path):
    environment = without('eva_msgs', tmp_path / 'hidden')
    for command in (['up', '--sim'], ['demo', '--domain-id', '17']):
        result = run(BIN / 'eva', *command, cwd=tmp_path, env=environment)
        assert sentence(result).startswith('eva: eva_msgs is not installed here: build it')


def test_the_sources_of_eva_msgs_are_not_taken_for_the_package(tmp_path):
    without('rclpy', tmp_path)
    (tmp_path / 'rclpy.py').write_text('')
    program = (
        f'import sys; sys.path[:0] = [{str(ROOT)!r}, {str(tmp_path)!r}]; '
        'from eva_ros.ros.installed import check_ros; check_ros()'
    )
    result = run(sys.executable, '-I', '-S', '-c', program)
    assert 'UserError: eva_msgs is not installed here' in result.stderr


@pytest.mark.parametrize(
    'node, package, words',
    [
        ('rollout_generator', 'torch', 'activate the virtual environment that has it'),
        ('camera_ingest', 'sensor_msgs', 'let rosdep install it'),
        ('sim_robot', 'rclpy', 'source a ROS 2 installation'),
    ],
)
def test_a_node_without_what_it_needs_says_so(tmp_path, node, package, words):
    environment = without(package, tmp_path / 'hidden')
    said = sentence(run(sys.executable, '-m', 'eva_ros.nodes', node, env=environment))
    assert said.startswith(f'{node}: ')
    assert package in said
    assert words in said


def test_a_node_that_is_interrupted_while_it_imports_leaves_no_traceback(tmp_path):
    (tmp_path / 'eva_msgs.py').write_text('raise KeyboardInterrupt\n')
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    command = [sys.executable, '-m', 'eva_ros.nodes', 'camera_ingest']
    result = run(*command, env=environment)
    assert (result.returncode, result.stderr) == (130, '')


def test_ros2_on_the_systems_python_finds_what_the_launch_files_import(tmp_path):
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    (line,) = re.findall(r'^export PYTHONPATH=.*$', readme, re.M)
    python = Path(sys.base_prefix) / 'bin' / 'python3'
    program = (
        'import pydantic; from eva_ros.robot.spec import load_robot; '
        'from eva_ros.ros import bringup; print(pydantic.__file__)'
    )
    # What setup.bash leaves, and the active environment.
    path = os.pathsep.join([str(BIN), os.environ['PATH']])
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'PATH': path}
    script = f'{line}; {python} -c "{program}"'
    result = run('bash', '-c', script, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    # The system's own is not taken before it.
    assert Path(result.stdout).is_relative_to(sys.prefix)
