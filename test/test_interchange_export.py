"""The check of an export notices whatever lerobot reads otherwise than the bags have it."""

import importlib.util
import sys

from episode_bags import record
import numpy as np
import pytest

from eva_ros.episodes.dataset import load_episodes
from eva_ros.observations.views import load_view
from eva_ros.robot.spec import load_robot

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
CAMERAS = [f'observation.images.{name}' for name in VIEW.camera_names]


@pytest.fixture(scope='module')
def script(repository):
    """Return scripts/check_lerobot_export.py as a module."""
    folder = repository / 'scripts'
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location('check', folder / 'check_lerobot_export.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(folder))


@pytest.fixture(scope='module')
def episodes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bags')
    bags = [record(folder / f'bag_{i}', duration_s=1.0 + i) for i in range(2)]
    return load_episodes(bags, ROBOT, VIEW, folder / 'cache', report=None)


def read(episodes):
    """Return what lerobot should read of these episodes."""
    states = [episode.joints.astype(np.float32) for episode in episodes]
    held = {
        'observation.state': np.concatenate(states),
        'action': np.concatenate([[*rows[1:], rows[-1]] for rows in states]),
        'timestamp': np.concatenate([np.arange(len(e), dtype=np.float32) / 10 for e in episodes]),
        'episode_index': np.repeat([0, 1], [len(e) for e in episodes]),
    }
    for name, key in zip(VIEW.camera_names, CAMERAS):
        pictures = np.concatenate([VIEW.untile(e.frames)[name] for e in episodes])
        held[key] = pictures.transpose(0, 3, 1, 2)
    counters = ['frame_index', 'index', 'task_index', 'task']
    about = {
        'frames': sum(map(len, episodes)), 'episodes': 2, 'fps': 10, 'keys': [*held, *counters],
        'names': list(ROBOT.joint_names), 'tasks': [e.instruction for e in episodes],
    }  # fmt: skip
    return about, held


def wrong(script, episodes, about, held):
    found = script.compare(about, held, episodes, ROBOT, VIEW)
    return [said for said, agrees in found.items() if not agrees]


def test_what_is_the_same_is_said_to_be(script, episodes):
    assert wrong(script, episodes, *read(episodes)) == []


@pytest.mark.parametrize('key', ['observation.state', 'action', 'timestamp', *CAMERAS])
def test_an_array_that_differs_is_named(script, episodes, key):
    about, held = read(episodes)
    changed = held[key].copy()
    if key in CAMERAS:
        changed = np.roll(changed, 1, axis=0)
    else:
        changed.flat[3] += np.float32(1e-3)
    assert len(wrong(script, episodes, about, {**held, key: changed})) == 1


@pytest.mark.parametrize(
    ('key', 'value'),
    [('frames', 30), ('names', ['a']), ('tasks', ['b', 'b']), ('keys', ['observation.state'])],
)
def test_a_description_that_differs_is_named(script, episodes, key, value):
    about, held = read(episodes)
    assert len(wrong(script, episodes, {**about, key: value}, held)) == 1


def test_episodes_of_other_lengths_are_named(script, episodes):
    about, held = read(episodes)
    held['episode_index'][len(episodes[0])] = 0
    assert len(wrong(script, episodes, about, held)) == 1
