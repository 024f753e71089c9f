"""What all tests share: where ROS is not installed, its tests are left out."""

from collections.abc import Callable
from collections.abc import Iterator
import importlib.util
import io
from pathlib import Path
import sys

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


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Give what runs launch files without `launch` (see launch_stand_in.Launcher)."""
    from launch_stand_in import Launcher
    from launch_stand_in import modules

    run = Launcher(tmp_path / 'log')
    run.log_dir.mkdir()
    for name, module in modules(run).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, 'eva_ros.ros.launching', raising=False)
    yield run
    sys.modules.pop('eva_ros.ros.launching', None)


@pytest.fixture(scope='session')
def repository() -> Path:
    """Return the root of the checkout under test."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., tuple[list, str]]:
    """Give a function that loads bags with a cache of the test's own: episodes and report."""
    from eva_ros.episodes.dataset import load_episodes
    from eva_ros.observations.views import load_view
    from eva_ros.robot.spec import load_robot

    def run(*paths: Path, robot: object = None, **options: object) -> tuple[list, str]:
        view, report = load_view('aloha_sim'), io.StringIO()
        robot = robot or load_robot('aloha_sim')
        found = load_episodes(paths, robot, view, tmp_path / 'cache', report=report, **options)
        return found, report.getvalue()

    return run
