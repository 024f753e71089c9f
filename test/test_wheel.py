"""A machine that has never heard of ROS gets everything offline from `pip install .`."""

import importlib.metadata
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import sysconfig
import venv

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ('eva_ros', 'config', 'launch', 'models', 'requirements', 'resource')
FILES = ('package.xml', 'pyproject.toml', 'setup.py', 'setup.cfg', 'LICENSE')
ROS_DISTRIBUTION = re.compile(r'^(ros[-_]|cv[-_]bridge|eva[-_]ros|colcon|catkin)')
# The sub-commands of eva_ros.cli are asked for their help instead; some need ROS to run.
ROS_EDGE = ('eva_ros.ros', 'eva_ros.nodes', 'eva_ros.cli.')

pytestmark = pytest.mark.skipif(
    'site-packages' not in sysconfig.get_path('purelib'),
    reason="the libraries to show to the wheel lie in a distribution's own folders",
)


def ros_names():
    """Return the names in site-packages that belong to ROS or to this package."""
    names = {'eva_msgs', 'ros_wheels_bootstrapper.pth'}
    for distribution in importlib.metadata.distributions():
        if ROS_DISTRIBUTION.match(distribution.metadata['Name'].lower()):
            names.update(path.parts[0] for path in distribution.files or ())
    return names


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Return the wheel, built from a copy so that nothing is left in the checkout."""
    copy = tmp_path_factory.mktemp('sources')
    ignore = shutil.ignore_patterns('__pycache__', '*.egg-info')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    options = ['--no-deps', '--no-build-isolation', '--quiet', '--wheel-dir', 'dist']
    command = [sys.executable, '-m', 'pip', 'wheel', *options, '.']
    subprocess.run(command, cwd=copy, check=True)
    (built,) = (copy / 'dist').glob('eva_ros-*.whl')
    return built


@pytest.fixture(scope='module')
def elsewhere(wheel, tmp_path_factory):
    """Return a function that runs a program where the wheel is and ROS is not."""
    folder = tmp_path_factory.mktemp('elsewhere')
    venv.create(folder / 'venv', with_pip=False, symlinks=True)
    packages = folder / 'venv' / 'lib' / f'python{sysconfig.get_python_version()}/site-packages'
    hidden = ros_names()
    for path in Path(sysconfig.get_path('purelib')).iterdir():
        if path.name not in hidden and not path.name.startswith('__editable__'):
            (packages / path.name).symlink_to(path)
    python = folder / 'venv' / 'bin' / 'python'
    options = ['--python', python, '--no-deps', '--no-index', '--quiet']
    uv = Path(sys.executable).parent / 'uv'
    subprocess.run([uv, 'pip', 'install', *options, wheel], check=True)
    ros_variables = ('AMENT_', 'COLCON_', 'CMAKE_PREFIX', 'ROS_', '_ROS_', 'PYTHON', 'LD_LIBRARY')
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ros_variables)}

    def run(program, *arguments):
        command = [folder / 'venv' / 'bin' / program, *arguments]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240
        )

    return run


def test_there_is_no_ros_package(elsewhere):
    for module in ('rclpy', 'sensor_msgs', 'eva_msgs', 'cv_bridge'):
        result = elsewhere('python', '-c', f'import {module}')
        assert 'ModuleNotFoundError' in result.stderr, module


def test_every_module_of_the_core_can_be_imported(elsewhere):
    program = f"""
import importlib, pkgutil, eva_ros
assert 'elsewhere' in eva_ros.__file__, eva_ros.__file__
names = [m.name for m in pkgutil.walk_packages(eva_ros.__path__, 'eva_ros.', onerror=print)
         if not m.name.startswith({ROS_EDGE!r})]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    result = elsewhere('python', '-c', program)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) > 10


def test_the_shared_files_travel_with_it(elsewhere):
    program = """
from eva_ros.resources import share_folder
from pathlib import Path
import eva_ros
root = share_folder()
print(*(path.relative_to(root) for path in root.rglob('*') if path.is_file()), sep='\\n')
print(*(Path(eva_ros.__file__).parent.rglob('*.msg')), sep='\\n')
"""
    result = elsewhere('python', '-c', program)
    assert result.returncode == 0, result.stderr
    listed = result.stdout.splitlines()
    for folder in ('config', 'launch', 'models'):
        for path in (ROOT / folder).rglob('*'):
            if path.is_file() and '__pycache__' not in path.parts:
                assert str(path.relative_to(ROOT)) in listed
    assert sum(line.endswith('.msg') for line in listed) == len(list(ROOT.glob('eva_msgs/msg/*')))


def test_the_eva_command_offers_what_works_without_ros(elsewhere):
    result = elsewhere('eva', '--help')
    assert result.returncode == 0, result.stderr
    for path in (ROOT / 'eva_ros' / 'cli').glob('*.py'):
        if '\nHELP' in path.read_text(encoding='utf-8'):
            name = path.stem.replace('_', '-')
            assert name in result.stdout
            assert elsewhere('eva', name, '--help').returncode == 0, name


def test_a_command_that_needs_ros_says_so_in_a_sentence(elsewhere):
    result = elsewhere('eva', 'up')
    assert result.returncode == 2
    assert 'Traceback' not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_it_records_a_bag_and_reads_it_back(elsewhere):
    record = ('record', '--task', 'reach_left', '--episodes', '1', '--seed', '3', '--workers', '1')
    result = elsewhere('eva', 'sim', *record, '--out', 'bags')
    assert result.returncode == 0, result.stderr
    program = """
from eva_ros.episodes.dataset import load_episodes
from eva_ros.observations.views import load_view
from eva_ros.robot.spec import load_robot
robot = load_robot('aloha_sim')
(episode,) = load_episodes(['bags'], robot, load_view('aloha_sim'), 'cache', 1, None)
print(episode.task, len(episode) > 10)
"""
    result = elsewhere('python', '-c', program)
    assert result.stdout == 'reach_left True\n', result.stderr
    result = elsewhere('eva', 'bags', 'view', 'bags', '--out', 'page.html')
    assert result.returncode == 0, result.stderr
