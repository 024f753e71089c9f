"""Controls repeat what was recorded, of the right task, and know their world."""

from types import SimpleNamespace

import numpy as np
import pytest

from eva_ros.errors import UserError
from eva_ros.evaluation import controls
from eva_ros.training.manifest import World

ROBOT = SimpleNamespace(name='aloha_sim', joint_names=('waist', 'elbow'))
VIEW = SimpleNamespace(name='aloha_sim', height=144, width=128, rate_hz=10.0, cameras=[])


def recorded(task, level, end, steps=20, success=True):
    """Return an episode of one grey level whose joints go from 0 to `end`."""
    frames = np.full((steps, 144, 128, 3), level, dtype=np.uint8)
    joints = np.linspace(0.0, end, steps)[:, None].repeat(14, axis=1)
    return SimpleNamespace(task=task, frames=frames, joints=joints, success=success)


def prepared():
    return controls.prepare(
        [
            recorded('a', 10, 1.0),
            recorded('a', 100, 3.0),
            recorded('a', 200, 99.0, success=False),
            recorded('b', 10, -1.0, steps=30),
        ],
        World.of(ROBOT, VIEW),
    )


def view(level):
    return np.full((144, 128, 3), level, dtype=np.uint8)


def look(level, joints=0.0):
    return SimpleNamespace(view=view(level), joint_positions=np.full(14, joints))


def test_the_nearest_start_is_found_among_successes():
    motions = prepared().of('a')
    assert motions.nearest(view(12))[-1] == pytest.approx(1.0)
    assert motions.nearest(view(220))[-1] == pytest.approx(3.0)


def test_the_mean_is_over_the_tasks_own_episodes():
    made = prepared()
    assert made.of('a').mean()[-1] == pytest.approx(2.0)
    assert made.of('b').mean()[-1] == pytest.approx(-1.0)
    with pytest.raises(UserError, match='no recorded motion of c'):
        made.of('c')


def test_chunks_follow_the_motion_from_where_the_joints_are():
    planner = controls.nearest_start(prepared().of('b'), 0.1, 17)
    first = planner(look(10, joints=0.2)).positions
    assert first[0] == pytest.approx(0.2)
    assert first[-1] == pytest.approx(-16 / 29)
    second = planner(look(99, joints=-0.5)).positions
    assert second[0] == pytest.approx(-0.5)
    assert second[-1] == pytest.approx(-1.0)
    assert planner(look(0, joints=-1.0)).positions == pytest.approx(-1.0)


def test_controls_survive_the_disk_and_refuse_another_world(tmp_path):
    made = prepared()
    controls.save(made, tmp_path)
    loaded = controls.load(tmp_path, ROBOT, VIEW)
    assert loaded.dt == made.dt and set(loaded.tasks) == {'a', 'b'}
    for task in loaded.tasks:
        assert np.array_equal(loaded.of(task).motions, made.of(task).motions)
        assert np.array_equal(loaded.of(task).starts, made.of(task).starts)
    with pytest.raises(UserError, match="trained on robot 'aloha_sim', not on 'other'"):
        controls.load(tmp_path, SimpleNamespace(**{**vars(ROBOT), 'name': 'other'}), VIEW)
    with pytest.raises(UserError, match='prepare-controls'):
        controls.load(tmp_path / 'nothing', ROBOT, VIEW)
