"""What all tests share: where ROS is not installed, its tests are left out."""

from collections.abc import Iterator
import importlib.util
from pathlib import Path

import pytest

collect_ignore_glob = []
if importlib.util.find_spec('rclpy') is None:
    collect_ignore_glob = ['test_ros_*.py', 'test_nodes_*.py', 'test_launch_*.py']


@pytest.fixture
def graph() -> Iterator[object]:
    """Give a ROS graph of the test's own (see ros_harness.Graph)."""
    from ros_harness import ros_graph

    with ros_graph() as made:
        yield made


@pytest.fixture(scope='session')
def repository() -> Path:
    """Return the root of the checkout under test."""
    return Path(__file__).resolve().parents[1]
