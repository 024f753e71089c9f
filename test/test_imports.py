"""Imports run one way: the contracts in pyproject.toml hold, and would notice if they did not."""

import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

VIOLATIONS = {
    'control/x.py': 'import torch',
    'robot/x.py': 'import eva_ros.episodes',
    'sim/x.py': 'import eva_ros.episodes',
    'episodes/x.py': 'from sensor_msgs.msg import Image',
    'training/x.py': 'import eva_ros.idm',
    'idm/x.py': 'import eva_ros.world_model',
    'world_model/x.py': 'import eva_ros.alignment',
    'alignment/x.py': 'import eva_ros.evaluation',
    'evaluation/x.py': 'import eva_ros.ros',
    'ros/x.py': 'import eva_ros.nodes',
    'cli/x.py': 'import rclpy',
}


def lint_imports(folder):
    """Run the contracts of a checkout on its own sources."""
    command = [Path(sys.executable).parent / 'lint-imports', '--no-cache']
    environment = {**os.environ, 'PYTHONPATH': str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope='module')
def copied(repository, tmp_path_factory):
    """Return a copy of what the contracts read."""
    folder = tmp_path_factory.mktemp('checkout')
    ignore = shutil.ignore_patterns('__pycache__')
    shutil.copytree(repository / 'eva_ros', folder / 'eva_ros', ignore=ignore)
    shutil.copy(repository / 'pyproject.toml', folder)
    return folder


def test_imports_run_one_way(repository):
    result = lint_imports(repository)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize('path', VIOLATIONS)
def test_an_import_the_wrong_way_is_noticed(copied, path):
    intruder = copied / 'eva_ros' / path
    intruder.write_text(VIOLATIONS[path] + '\n')
    try:
        result = lint_imports(copied)
    finally:
        intruder.unlink()
    module = 'eva_ros.' + path.removesuffix('.py').replace('/', '.')
    assert result.returncode != 0
    assert module in result.stdout, result.stdout + result.stderr
