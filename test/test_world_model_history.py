"""History: what was observed before tells a dream how fast the arms move."""

from dataclasses import replace
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file
from safetensors.torch import save_file
import torch

from eva_ros.cli.main import main
from eva_ros.errors import UserError
from eva_ros.evaluation.variants import dreaming
from eva_ros.training.manifest import FILE
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import World
from eva_ros.training.manifest import write_manifest
from eva_ros.world_model import training_run
from eva_ros.world_model.adapters import load_adapter
from eva_ros.world_model.build import build_world_model
from eva_ros.world_model.build import trained_before
from eva_ros.world_model.checkpoint import load_world_model
from eva_ros.world_model.checkpoint import save_world_model
from eva_ros.world_model.clips import Clip
from eva_ros.world_model.rollout import to_uint8
from eva_ros.world_model.rollout import WorldSettings
from eva_ros.world_model.train import flow_loss
from eva_ros.world_model.training_run import check
from eva_ros.world_model.training_run import clip_sampler
from eva_ros.world_model.training_run import RunOptions

FRAMES, HISTORY = 5, 4
VIEW = SimpleNamespace(name='tiny', height=32, width=32, rate_hz=10.0, frames=FRAMES, cameras=[])
ROBOT = SimpleNamespace(name='aloha_sim', joint_names=())
SETTINGS = WorldSettings('tiny', 'aloha_sim', 'tiny', 32, 32, 10.0, FRAMES, steps=1)
TOLD = 'move the left square'


def moving_square(seed: int, speed: int) -> SimpleNamespace:
    """Return an episode in which a square falls by `speed` pixels a frame, then rests."""
    place = np.random.default_rng(seed).integers(0, 24)
    rows = np.clip(speed * (np.arange(30) - 4), 0, 24)
    video = np.full((30, 32, 32, 3), 40, np.uint8)
    for frame, row in zip(video, rows):
        frame[row : row + 8, place : place + 8] = 220
    joints = np.repeat(0.05 * rows[:, None], 14, 1)
    return SimpleNamespace(frames=video, joints=joints, instruction=TOLD, rows=rows)


@pytest.fixture(scope='module')
def episodes():
    return [moving_square(seed, speed) for seed in range(6) for speed in (1, 3)]


@pytest.fixture(scope='module')
def base(episodes, tmp_path_factory):
    """Return the folder of a model without history."""
    sampler = clip_sampler(episodes, VIEW, seed=0, mirror=False)
    model = build_world_model(SETTINGS, sampler, [TOLD], seed=0, channels=32, width=64, layers=1)
    torch.nn.init.normal_(model.transformer.proj_out.weight, std=0.02)
    folder = tmp_path_factory.mktemp('base')
    save_world_model(model, folder)
    return folder


@pytest.fixture(scope='module')
def trained(base):
    """Return a model that has learnt two motions which begin with the same picture."""
    model = trained_before(base, ROBOT, VIEW, name='tiny', history=HISTORY).train()
    model.transformer.requires_grad_()
    clips = torch.stack([in_motion(1), in_motion(3)])
    optimizer = torch.optim.AdamW(model.transformer.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        noise = model.noise(2, generator)
        loss = flow_loss(model, clips, [TOLD] * 2, torch.ones(2), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(requires_grad=False)


def in_motion(speed: int) -> torch.Tensor:
    """Return frames [K + T, 3, H, W] of a square that is in the same row at any speed."""
    start = 4 + 6 // speed
    frames = moving_square(0, speed).frames[start - HISTORY : start + FRAMES]
    return torch.from_numpy(frames).permute(0, 3, 1, 2) / 255


def fallen(model, speed: int, *, given: bool) -> float:
    """Return how many pixels the square falls in three frames of a dream from mid-motion."""
    views = list(to_uint8(in_motion(speed))[: HISTORY + 1])
    dream = model.dream(views[-1], TOLD, seed=0, before=views[:-1] if given else []).frames

    def row(frame):
        bright = np.clip(frame[..., 0].astype(float) - 60, 0, None).sum(1)
        return (bright * np.arange(32)).sum() / bright.sum()

    return row(dream[3]) - row(dream[0])


def test_a_dream_goes_on_at_the_speed_that_was_observed(trained):
    slow, fast = (fallen(trained, speed, given=True) for speed in (1, 3))
    assert slow == pytest.approx(3, abs=0.8)
    assert fast == pytest.approx(9, abs=0.8)
    # Without it, the speed cannot be known: the picture is the same.
    assert fallen(trained, 1, given=False) == fallen(trained, 3, given=False)


def test_from_rest_a_history_of_the_same_view_says_the_same_as_none(trained, episodes):
    view = episodes[0].frames[0]
    alone = trained.dream(view, TOLD, seed=1).frames
    np.testing.assert_array_equal(
        trained.dream(view, TOLD, seed=1, before=[view] * HISTORY).frames, alone
    )


def test_more_views_than_the_model_takes_are_left_out_the_oldest_first(trained, episodes):
    views = list(episodes[0].frames[4:12])
    exact, more = (
        trained.dream(views[-1], TOLD, seed=0, before=before).frames
        for before in (views[-5:-1], views[:-1])
    )
    np.testing.assert_array_equal(exact, more)


def test_a_model_without_history_dreams_as_from_rest(base, episodes):
    model, views = load_world_model(base), list(episodes[0].frames[4:9])
    np.testing.assert_array_equal(
        model.dream(views[-1], TOLD, seed=0, before=views[:-1]).frames,
        model.dream(views[-1], TOLD, seed=0).frames,
    )


def test_a_model_that_learns_history_begins_with_the_dreams_of_its_base(base, episodes, tmp_path):
    options = RunOptions('tiny', steps=1, learning_rate=1e-9, base=base, history=HISTORY)
    training_run.train(episodes, ROBOT, VIEW, tmp_path, options)
    start = load_world_model(tmp_path / 'run' / 'start')
    view, before = episodes[0].frames[8], list(episodes[0].frames[4:8])
    expected = load_world_model(base).dream(view, TOLD, seed=0).frames
    np.testing.assert_array_equal(start.dream(view, TOLD, seed=0).frames, expected)
    np.testing.assert_array_equal(start.dream(view, TOLD, seed=0, before=before).frames, expected)


def test_a_history_that_is_added_leaves_dreams_from_rest_as_they_were(base, episodes, tmp_path):
    options = RunOptions('tiny', steps=40, learning_rate=1e-2, base=base, history=HISTORY)
    training_run.train(episodes, ROBOT, VIEW, tmp_path, options)
    old, new = load_world_model(base), load_world_model(tmp_path)
    before, after = (model.transformer.state_dict() for model in (old, new))
    read = after['patch_embedding.weight'][:, before['patch_embedding.weight'].shape[1] :]
    assert read.abs().max() > 0
    after['patch_embedding.weight'] = after['patch_embedding.weight'][:, : -read.shape[1]]
    for name, weight in before.items():
        assert torch.equal(after[name], weight), name
    for episode in episodes[:3]:
        expected = old.dream(episode.frames[0], TOLD, seed=0).frames
        dream = new.dream(episode.frames[0], TOLD, seed=0).frames
        np.testing.assert_array_equal(dream, expected)
    errors = []
    for model in (load_world_model(tmp_path / 'run' / 'start'), new):
        clips = torch.stack([in_motion(1), in_motion(3)])
        noise = model.noise(2, torch.Generator().manual_seed(0))
        errors.append(flow_loss(model, clips, [TOLD] * 2, torch.ones(2), noise).item())
    assert errors[1] < 0.97 * errors[0]


def test_a_history_learns_from_clips_after_motion_alone(episodes):
    given = clip_sampler(episodes, VIEW, seed=0, mirror=False, history=HISTORY, after_motion_in=4)
    frames, _ = given.batch(0, 32)
    changes = (frames[:, :HISTORY] - frames[:, HISTORY : HISTORY + 1]).abs()
    assert (changes.flatten(1).amax(1) > 0).all()


def test_a_history_is_not_added_to_weights_that_fsdp_splits(base, episodes, tmp_path, monkeypatch):
    monkeypatch.setenv('ACCELERATE_USE_FSDP', 'true')
    options = RunOptions('tiny', steps=1, base=base, history=HISTORY)
    with pytest.raises(UserError, match='which FSDP splits: add a history without FSDP'):
        training_run.train(episodes, ROBOT, VIEW, tmp_path, options)


def test_a_model_that_has_a_history_learns_on_whole(trained, episodes, tmp_path):
    save_world_model(trained, tmp_path / 'trained')
    options = RunOptions('tiny', steps=1, base=tmp_path / 'trained', history=HISTORY)
    training_run.train(episodes, ROBOT, VIEW, tmp_path / 'out', options)
    weight = load_world_model(tmp_path / 'out').transformer.proj_out.weight
    assert not torch.equal(
        weight, load_world_model(tmp_path / 'trained').transformer.proj_out.weight
    )


def test_without_history_a_small_model_is_fine_tuned_as_it_is(base, episodes, tmp_path):
    options = RunOptions('again', steps=2, base=base)
    assert training_run.train(episodes, ROBOT, VIEW, tmp_path, options)
    assert load_world_model(tmp_path).settings.steps == load_world_model(base).settings.steps
    # How many steps a dream takes can be chosen afterwards, too.
    options = replace(options, dream_steps=2)
    assert training_run.train(episodes, ROBOT, VIEW, tmp_path, options)
    model = load_world_model(tmp_path)
    assert model.settings.steps == 2
    before = load_world_model(base)
    assert (model.settings.name, model.settings.history) == ('again', 0)
    assert torch.equal(model.codec.frame_basis, before.codec.frame_basis)
    assert not torch.equal(model.transformer.proj_out.weight, before.transformer.proj_out.weight)
    facts = json.loads((tmp_path / FILE).read_text())['training']
    assert facts['options']['base'].startswith(base.name)
    assert facts['before'] == json.loads((base / FILE).read_text())['training']
    assert str(base) not in (tmp_path / FILE).read_text()


def test_frames_before_a_clip_are_those_that_a_camera_saw(episodes):
    assert Clip(0, np.array([10, 11, 12]), 1.0).before(4).tolist() == [6, 7, 8, 9]
    assert Clip(0, np.array([2, 3, 4]), 1.0).before(4).tolist() == [0, 0, 0, 1]
    plain, known = (
        clip_sampler(episodes, VIEW, seed=0, mirror=False, history=history)
        for history in (0, HISTORY)
    )
    clips, told = plain.batch(3, 8)
    longer, also_told = known.batch(3, 8)
    assert told == also_told and longer.shape[1] == HISTORY + FRAMES
    torch.testing.assert_close(longer[:, HISTORY:], clips)


def test_too_few_views_before_and_ones_of_another_size_are_refused(trained, episodes):
    views = list(episodes[0].frames[4:9])
    with pytest.raises(UserError, match='from the 4 views before, and only 3 were observed'):
        trained.dream(views[-1], TOLD, seed=0, before=views[:3])
    with pytest.raises(UserError, match='dreams views of 32x32x3'):
        trained.dream(views[-1], TOLD, seed=0, before=[*views[:3], views[3][:16]])


def test_history_of_latents_must_fit(trained, base):
    frames, noise = torch.rand(2, 3, 32, 32), torch.randn(2, *trained.latent_shape)
    told = {'instructions': [TOLD] * 2, 'noise': noise, 'steps': 1}
    still = frames[:, None].expand(2, HISTORY, 3, 32, 32)
    torch.testing.assert_close(
        trained.sample_latents(frames, history=still, **told),
        trained.sample_latents(frames, **told),
    )
    with pytest.raises(UserError, match=r'takes the 4 frames before .* \[2, 4, 3, 32, 32\]'):
        trained.sample_latents(frames, history=still[:, :3], **told)
    with pytest.raises(UserError, match="of 'history' are not finite"):
        trained.sample_latents(frames, history=still * float('nan'), **told)
    with pytest.raises(UserError, match='was trained without history'):
        load_world_model(base).sample_latents(frames, history=still, **told)


def test_without_its_history_a_small_model_knows_rest_so_it_is_not_guided_by_it(trained):
    views, noise = torch.rand(1, 3, 32, 32), torch.randn(1, *trained.latent_shape)
    history = torch.rand(1, HISTORY, 3, 32, 32)
    sentence = 'takes a missing history for arms at rest, .*: use a history scale of 1'
    with pytest.raises(UserError, match=sentence):
        trained.sample_latents(views, [TOLD], noise, steps=1, history=history, history_scale=1.5)


def test_an_adapter_for_another_history_than_the_models_is_refused(trained, tmp_path):
    world = World(robot='aloha_sim', view='tiny')
    details = {'world_model': 'tiny', 'history': 8}
    write_manifest(tmp_path, Manifest('adapter', world, details))
    with pytest.raises(UserError, match='takes 4 frames before the first, not 8: use an adapter'):
        load_adapter(trained, tmp_path)


def test_a_checkpoint_whose_parts_disagree_about_its_history_is_refused(trained, tmp_path):
    save_world_model(trained, tmp_path)
    assert load_world_model(tmp_path).settings.history == HISTORY
    about = json.loads((tmp_path / FILE).read_text())
    del about['settings']['history']
    (tmp_path / FILE).write_text(json.dumps(about))
    with pytest.raises(UserError, match='takes 0 frames before the first one'):
        load_world_model(tmp_path)


def test_what_cannot_go_on_is_refused(base, trained, episodes, tmp_path):
    def check(**changes):
        options = replace(RunOptions('tiny', steps=1, base=base), **changes)
        training_run.check(episodes, ROBOT, VIEW, tmp_path / 'out', options)

    with pytest.raises(UserError, match='--history is 5 and must be a multiple of 4 frames'):
        check(history=5)
    save_world_model(trained, tmp_path / 'trained')
    with pytest.raises(UserError, match='trained with a history of 4 frames: leave out'):
        check(base=tmp_path / 'trained', history=8)
    other = [SimpleNamespace(**vars(episodes[0]) | {'instruction': 'push the square'})]
    with pytest.raises(UserError, match='push'):
        training_run.check(
            other, ROBOT, VIEW, tmp_path / 'out', RunOptions('tiny', steps=1, base=base)
        )


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (['--lora', '4'], 'An adapter needs a checkpoint that it is for: give --from CKPT too.'),
        (['--from', 'BASE', '--width', '128'], 'keeps its own width: leave out --width.'),
        (['--from', 'BASE', '--text-encoder', 'x'], 'keeps its own text encoder: leave out'),
        (['--from', 'nowhere'], 'does not hold a world model'),
    ],
)
def test_options_that_do_not_go_together_are_refused(base, capsys, options, said):
    options = [str(base) if option == 'BASE' else option for option in options]
    assert main(['world-model', 'train', '--bags', 'bags', '--out', 'new', *options]) == 2
    assert said in capsys.readouterr().err.replace('\n', ' ')


def test_the_closed_loop_tells_a_dream_what_was_seen_before():
    class Seen(Exception):
        pass

    class Model:
        settings = SETTINGS

        def dream(self, view, instruction, **options):
            raise Seen(view, instruction, options['before'])

    before = tuple(SimpleNamespace(view=np.full((2, 2, 3), shade)) for shade in range(HISTORY))
    observation = SimpleNamespace(view=np.full((2, 2, 3), 9), before=before)
    plan = dreaming(Model(), None, None)(SimpleNamespace(seed=0, instruction=TOLD))
    with pytest.raises(Seen) as seen:
        plan(observation)
    view, told, views = seen.value.args
    assert (view[0, 0, 0], told) == (9, TOLD)
    assert [earlier[0, 0, 0] for earlier in views] == list(range(HISTORY))


def test_a_training_is_checked_without_the_weights_of_its_base(base, episodes, tmp_path):
    folder = shutil.copytree(base, tmp_path / 'base')
    for path in (folder / 'transformer').glob('*.safetensors'):
        # Loading these weights would fail.
        save_file({n: torch.full_like(t, torch.nan) for n, t in load_file(path).items()}, path)
    options = RunOptions('new', 1, base=folder, history=HISTORY)
    check(episodes, ROBOT, VIEW, tmp_path / 'out', options)
    with pytest.raises(UserError, match='never heard'):
        told = [SimpleNamespace(**{**vars(e), 'instruction': 'never heard'}) for e in episodes]
        check(told, ROBOT, VIEW, tmp_path / 'out', options)
