"""The progress critic: learned from recordings alone, it knows which of two frames is later."""

import json
from types import SimpleNamespace

import probe_world
import pytest
import torch

from eva_ros.alignment.critic import load_critic
from eva_ros.alignment.critic_training import CriticSettings
from eva_ros.alignment.critic_training import CriticTask
from eva_ros.alignment.critic_training import order_accuracy
from eva_ros.alignment.critic_training import train_critic
from eva_ros.errors import UserError
from eva_ros.training.frames import frames_to_tensor
from eva_ros.training.loop import Budget
from eva_ros.training.loop import TrainingLoop
from eva_ros.training.manifest import World

VIEW = SimpleNamespace(name='columns', height=16, width=16, rate_hz=10.0, cameras=[])
SETTINGS = CriticSettings(steps=120, learning_rate=5e-3)


def demonstrations(count, first=0):
    """Return reaches that always open the same way: late frames look like late frames."""
    made = []
    for i in range(count):
        task = ('left', 'right')[i % 2]
        made.append(probe_world.episode(first + i, task, goal=0.6))
    return made


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('critic')
    held_out = demonstrations(8, first=100)
    world = World.of(None, VIEW)
    critic = train_critic(demonstrations(16), folder, SETTINGS, world=world, held_out=held_out)
    return folder, critic


def clips(episodes):
    frames = torch.stack([frames_to_tensor(e.frames) for e in episodes])
    return frames, [e.instruction for e in episodes]


def test_held_out_frames_are_put_in_the_right_order(trained):
    folder, critic = trained
    assert order_accuracy(critic, demonstrations(8, first=200), seed=1) > 0.9
    told = json.loads((folder / 'eva.json').read_text())['training']
    assert told['held_out_accuracy'] > 0.9


def test_a_finished_attempt_has_made_more_progress_than_one_that_stopped_early(trained):
    frames, texts = clips(demonstrations(8, first=300))
    half = [
        probe_world.episode(300 + i, ('left', 'right')[i % 2], goal=0.6, share=0.3)
        for i in range(8)
    ]
    done, failed = (trained[1].progress(f, texts) for f in (frames, clips(half)[0]))
    assert (done > failed).float().mean() > 0.8


def test_a_still_dream_makes_no_progress_and_a_reversed_one_the_opposite(trained):
    frames, texts = clips(demonstrations(4, first=400))
    progress = trained[1].progress(frames, texts)
    still = frames[:, :1].expand_as(frames)
    assert trained[1].progress(still, texts).abs().max() == 0
    torch.testing.assert_close(trained[1].progress(frames.flip(1), texts), -progress)


def test_the_motion_of_another_task_is_less_progress(trained):
    frames, texts = clips(demonstrations(8, first=500))
    swapped = [texts[i ^ 1] for i in range(8)]
    own, other = (trained[1].progress(frames, asked) for asked in (texts, swapped))
    assert own.mean() > other.mean() + 0.3


def test_a_loaded_checkpoint_judges_alike_and_belongs_to_its_view(trained):
    folder, critic = trained
    loaded = load_critic(folder, view=VIEW)
    frames, texts = clips(demonstrations(4, first=600))
    torch.testing.assert_close(loaded.progress(frames, texts), critic.progress(frames, texts))
    other = SimpleNamespace(**vars(VIEW) | {'rate_hz': 5.0})
    with pytest.raises(UserError, match='progress critic trained at 10 Hz'):
        load_critic(folder, view=other)


def loop(folder):
    return TrainingLoop(CriticTask(demonstrations(6), SETTINGS), folder, Budget(6))


def test_a_killed_training_resumes_exactly(tmp_path):
    whole, killed = loop(tmp_path / 'whole'), loop(tmp_path / 'parts')
    whole.run()
    for _ in range(3):
        killed.run_step()
    killed.save()
    resumed = loop(tmp_path / 'parts')
    assert resumed.resume()
    resumed.run()
    assert resumed.step == whole.step == 6
    for name, weight in whole.weights.items():
        assert torch.equal(resumed.weights[name], weight)


def test_failed_attempts_teach_nothing(tmp_path):
    failed = [probe_world.episode(i, success=False) for i in range(3)]
    with pytest.raises(UserError, match='nothing to learn from'):
        train_critic(failed, tmp_path, SETTINGS)
