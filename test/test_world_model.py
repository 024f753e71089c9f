"""The world model: its codec, transformer, sampler, words, checkpoints and training."""

from copy import deepcopy
from dataclasses import replace
import io
from itertools import pairwise
import json
import logging
import math
import shutil
from types import SimpleNamespace

from diffusers import FlowMatchEulerDiscreteScheduler
import numpy as np
from PIL import Image
import pytest
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import torch

from eva_ros.errors import NotFiniteError
from eva_ros.errors import UserError
from eva_ros.training.finite import require_finite
from eva_ros.training.run_state import read_tensors
from eva_ros.training.run_state import STATE
from eva_ros.world_model import training_run
from eva_ros.world_model import transformer
from eva_ros.world_model.build import build_world_model
from eva_ros.world_model.checkpoint import load_world_model
from eva_ros.world_model.checkpoint import save_world_model
from eva_ros.world_model.clips import ClipSampler
from eva_ros.world_model.clips import ClipSettings
from eva_ros.world_model.clips import find_clips
from eva_ros.world_model.clips import mirror_instruction
from eva_ros.world_model.codec import CodecConfig
from eva_ros.world_model.codec import LinearCodec
from eva_ros.world_model.rollout import to_uint8
from eva_ros.world_model.rollout import WorldSettings
from eva_ros.world_model.sampler import euler_step
from eva_ros.world_model.sampler import noise_levels
from eva_ros.world_model.sampler import sde_moments
from eva_ros.world_model.sampler import sde_step
from eva_ros.world_model.train import averaged_model
from eva_ros.world_model.train import training_loop
from eva_ros.world_model.train import TrainSettings
from eva_ros.world_model.training_run import RunOptions
from eva_ros.world_model.transformer import small_wan
from eva_ros.world_model.transformer import wan_forward
from eva_ros.world_model.transformer import with_context

SETTINGS = WorldSettings('tiny', 'aloha_sim', 'tiny', 32, 32, 10.0, 9, steps=3)
VIEW = SimpleNamespace(name='tiny', height=32, width=32, rate_hz=10.0, frames=9, cameras=[])
ROBOT = SimpleNamespace(name='aloha_sim', joint_names=())


def moving_square(seed: int, frames: int = 24) -> SimpleNamespace:
    """Return an episode in which a bright square crosses the picture from rest to rest."""
    rng = np.random.default_rng(seed)
    place = rng.integers(0, 16)
    video = np.full((frames, 32, 32, 3), 40, np.uint8)
    joints = np.zeros((frames, 14))
    for t in range(frames):
        x = int(np.clip(2 * (t - 4), 0, 24))
        video[t, place : place + 6, x : x + 6] = 220
        joints[t] = 0.05 * x
    side = 'left' if seed % 2 else 'right'
    return SimpleNamespace(frames=video, joints=joints, instruction=f'move the {side} square')


@pytest.fixture(scope='module')
def episodes():
    return [moving_square(seed) for seed in range(6)]


@pytest.fixture(scope='module')
def sampler(episodes):
    clips = find_clips([e.joints for e in episodes], 0.1, ClipSettings(SETTINGS.frames))
    return ClipSampler(episodes, clips, seed=0)


def tiny_model(sampler, episodes, seed=0):
    model = build_world_model(
        SETTINGS,
        sampler,
        [e.instruction for e in episodes],
        seed=seed,
        channels=16,
        width=64,
        layers=2,
    )
    torch.nn.init.normal_(model.transformer.proj_out.weight, std=0.02)
    return model


@pytest.fixture(scope='module')
def model(sampler, episodes):
    return tiny_model(sampler, episodes).eval()


def test_codec_says_zero_when_nothing_moves_and_keeps_the_first_frame(model):
    still = torch.rand(1, 1, 3, 32, 32).expand(1, 9, 3, 32, 32)
    latents = model.codec.encode_changes(still)
    assert latents.abs().max() == 0
    torch.testing.assert_close(model.codec.decode(latents, still[:, 0]), still)


def test_codec_is_exact_with_all_channels(sampler):
    frames, _ = sampler.batch(0, 4)
    full = LinearCodec(CodecConfig(32, 32, block=4, group=4, channels=192)).fit([frames])
    decoded = full.decode(full.encode_changes(frames), frames[:, 0])
    torch.testing.assert_close(decoded, frames, atol=2e-4, rtol=0)


def test_forward_equals_the_diffusers_transformer_with_a_timestep_for_every_token():
    torch.manual_seed(0)
    wan = small_wan(8, 32, width=64, layers=2).eval()
    latents = with_context(torch.randn(2, 8, 3, 4, 6))
    sigmas = torch.tensor([[0.0, 0.7, 0.7], [0.0, 1.0, 1.0]])
    text = torch.randn(2, 5, 32)
    tokens = (sigmas * 1000).repeat_interleave(2 * 3, 1)
    with torch.no_grad():
        expected = wan(latents, tokens, text, return_dict=False)[0]
        torch.testing.assert_close(wan_forward(wan, latents, sigmas, text), expected)


def test_step_without_noise_is_that_of_the_diffusers_scheduler():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    levels = noise_levels(scheduler, 7)
    assert levels[0] == 1.0 and levels[-1] == 0.0
    x = mine = torch.randn(2, 4, 3)
    for k, time in enumerate(scheduler.timesteps):
        velocity = torch.sin(x) + k
        assert torch.equal(x, mine)
        mine = euler_step(mine, velocity, levels[k], levels[k + 1])
        x = scheduler.step(velocity, time, x, return_dict=False)[0]
        torch.testing.assert_close(mine, x)
        mine = x


def test_dream_equals_the_loop_of_a_diffusers_pipeline_on_the_same_weights(model, sampler):
    frames, texts = sampler.batch(1, 2)
    condition = model.condition(frames[:, 0], texts)
    noise = model.noise(2, torch.Generator().manual_seed(3))
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(model.scheduler.config)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 4, 4))
    x = noise
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        for sigma, time in zip(scheduler.sigmas, scheduler.timesteps):
            latents = with_context(torch.cat((condition.first, x), 2))
            steps = torch.full((2, 3), float(time))
            steps[:, 0] = 0
            tokens = steps.repeat_interleave(4, 1)
            words = model.text(condition.tokens)
            clean = model.transformer(latents, tokens, words, return_dict=False)[0][:, :, 1:]
            velocity = (x - clean.float()) / sigma
            x = scheduler.step(velocity, time, x, return_dict=False)[0]
    torch.testing.assert_close(model.sample(condition, noise, steps=4), x, atol=0.05, rtol=0.05)


def test_stochastic_step_without_noise_is_the_euler_step():
    x, velocity = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    mean, std = sde_moments(x, velocity, 0.8, 0.6, eta=0.0)
    assert std == 0
    torch.testing.assert_close(mean, euler_step(x, velocity, 0.8, 0.6))


def test_log_probability_is_that_of_the_normal_distribution():
    step = sde_step(torch.randn(2, 50), torch.randn(2, 50), 0.9, 0.7, eta=0.7)
    off = (step.sample - step.mean) / step.std
    by_hand = -(off**2) / 2 - math.log(step.std) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(step.log_prob, by_hand.mean(1))


@pytest.mark.parametrize(('steps', 'expected'), [(10, 0.25437), (16, 0.25969), (40, 0.28140)])
def test_stochastic_sampling_keeps_the_spread_of_a_known_distribution(steps, expected):
    """Data N(1, 0.3^2), exact velocity, shift 3, Flow-SDE 0.7: eva.md section 3.1."""
    levels = noise_levels(FlowMatchEulerDiscreteScheduler(shift=3.0), steps)
    variance = 1.0
    for sigma, below in pairwise(levels):
        spread = (1 - sigma) ** 2 * 0.09 + sigma**2
        slope = torch.tensor([(sigma - (1 - sigma) * 0.09) / spread])
        gain, std = sde_moments(torch.ones(1), slope, sigma, below, eta=0.7)
        variance = variance * float(gain) ** 2 + std**2
    assert math.sqrt(variance) == pytest.approx(expected, abs=1e-4)


def test_unknown_words_are_refused_with_the_list(model):
    with pytest.raises(UserError, match=r'\(banana\).*left, move, right, square, the'):
        model.check_instruction('move the banana')
    with pytest.raises(UserError, match='empty'):
        model.check_instruction('  ')


def test_an_instruction_that_is_far_too_long_is_refused_for_its_length(model):
    for text in ('x' * 10_000, 'banana ' * 1429, ' '.join(['banana'] * 17)):
        with pytest.raises(UserError, match=r'10000 char|10003 char|17 words') as caught:
            model.check_instruction(text)
        assert 'shorten it to 16' in str(caught.value)
        assert len(str(caught.value)) < 200


def test_view_of_another_size_is_refused(model):
    with pytest.raises(UserError, match='32x32x3'):
        model.dream(np.zeros((30, 32, 3), np.uint8), 'move the left square', seed=0)


def test_a_model_made_for_dreaming_alone_dreams_the_same(model, episodes):
    view = episodes[0].frames[0]
    ready = deepcopy(model).for_dreaming()
    assert ready.transformer.proj_out.weight.dtype == torch.bfloat16
    dreams = [m.dream(view, 'move the left square', seed=4).frames for m in (model, ready)]
    assert np.array_equal(*dreams)


def test_dream_starts_with_the_observed_frame_and_repeats_with_its_seed(model, episodes):
    view = episodes[0].frames[0]
    seen = []
    first = model.dream(view, 'move the left square', seed=4, on_step=lambda k, n: seen.append(k))
    again = model.dream(view, 'move the left square', seed=4)
    assert np.array_equal(first.frames[0], view)
    assert np.array_equal(first.frames, again.frames)
    assert first.frames.shape == (9, 32, 32, 3)
    assert seen == [1, 2, 3]


def test_candidates_of_a_view_are_the_dreams_of_their_seeds(model, episodes):
    view, words = episodes[0].frames[0], 'move the left square'
    rollouts = model.candidates(view, words, [4, 5])
    for rollout, seed in zip(rollouts, (4, 5)):
        alone = model.dream(view, words, seed=seed)
        assert rollout.seed == seed
        assert np.abs(rollout.frames.astype(int) - alone.frames).max() <= 2
    assert (rollouts[0].frames != rollouts[1].frames).any()


def test_latents_of_the_small_model_come_by_the_entry_of_all_families(model, sampler):
    frames, texts = sampler.batch(1, 2)
    noise = model.noise(2, torch.Generator().manual_seed(3))
    latents = model.sample_latents(frames[:, 0], texts, noise, steps=4)
    expected = model.sample(model.condition(frames[:, 0], texts), noise, steps=4)
    assert torch.equal(latents, expected)
    other = model.sample_latents(frames[:, 0], texts, noise, steps=4, sampler='unipc')
    assert 0 < (other - latents).abs().mean() < 0.3 * latents.abs().mean()
    for options, sentence in (
        ({'guidance_scale': 2.0}, 'cannot be guided: use a guidance scale of 1'),
        ({'history_scale': 2.0}, 'trained without history, .*: use a history scale of 1'),
        ({'history': frames}, 'was trained without history: leave it out'),
    ):
        with pytest.raises(UserError, match=sentence):
            model.sample_latents(frames[:, 0], texts, noise, steps=4, **options)
    with pytest.raises(UserError, match=r'takes noise of \[16, 2, 4, 4\]'):
        model.sample_latents(frames[:, 0], texts, noise[:, :, :1], steps=4)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_no_picture_is_made_of_what_is_not_finite(value):
    video = torch.zeros(9, 3, 32, 32)
    video[4, 1, 2, 3] = value
    with pytest.raises(NotFiniteError, match="1 of 27648 values of 'frames' is not finite"):
        to_uint8(video)


def test_finite_values_whose_sum_is_not_are_finite():
    require_finite({'frames': torch.full((9,), 3e38)}, 'A dream', 'no picture is made of it')


@pytest.mark.parametrize('scale', [math.nan, 3e38])
def test_a_dream_that_is_not_finite_is_not_given_out(model, episodes, scale):
    # 3e38 is finite: the picture decoded with it is not.
    broken = deepcopy(model)
    broken.codec.change_scale.fill_(scale)
    broken.transformer.proj_out.weight.data.mul_(1e3)
    with pytest.raises(NotFiniteError, match=r'A dream of the world model tiny: .* not finite'):
        broken.dream(episodes[0].frames[0], 'move the left square', seed=3)


def test_a_checkpoint_that_is_not_finite_is_not_written(model, tmp_path):
    save_world_model(model, tmp_path)
    before = (tmp_path / 'text' / 'text.safetensors').read_bytes()
    broken = deepcopy(model)
    with torch.no_grad():
        broken.text.position[0, 0] = math.nan
        broken.transformer.proj_out.bias[0] = 1.0
    with pytest.raises(NotFiniteError, match=r"text: 1 of .* 'position' is not finite"):
        save_world_model(broken, tmp_path)
    assert (tmp_path / 'text' / 'text.safetensors').read_bytes() == before
    assert not load_world_model(tmp_path).transformer.proj_out.bias.any()


def test_checkpoint_comes_back_and_knows_its_world(model, episodes, tmp_path):
    save_world_model(model, tmp_path / 'wm', dtype=torch.float32)
    again = load_world_model(tmp_path / 'wm', robot=ROBOT)
    view = episodes[0].frames[0]
    assert np.array_equal(
        model.dream(view, 'move the left square', seed=1).frames,
        again.dream(view, 'move the left square', seed=1).frames,
    )
    with pytest.raises(UserError, match="trained on robot 'aloha_sim', not on 'piper_dual'"):
        load_world_model(tmp_path / 'wm', robot=SimpleNamespace(name='piper_dual', joint_names=()))
    other = SimpleNamespace(**{**vars(VIEW), 'rate_hz': 20.0})
    with pytest.raises(UserError, match=r'10 Hz.*20 Hz'):
        load_world_model(tmp_path / 'wm', view=other)
    with pytest.raises(UserError, match='does not hold a world model'):
        load_world_model(tmp_path)
    shutil.rmtree(tmp_path / 'wm' / 'scheduler')
    with pytest.raises(UserError, match=r'^\S+ lacks scheduler/scheduler_config\.json: copy it'):
        load_world_model(tmp_path / 'wm')


def test_whoever_may_enter_a_checkpoint_may_read_its_weights(model, tmp_path):
    save_world_model(model, tmp_path)
    weights = list(tmp_path.rglob('*.safetensors'))
    assert len(weights) == 3
    assert {oct(path.stat().st_mode & 0o777) for path in weights} == {'0o644'}


def test_a_checkpoint_is_written_and_read_without_a_warning(model, tmp_path, caplog):
    logger = logging.getLogger('diffusers')
    logger.addHandler(caplog.handler)
    try:
        save_world_model(model, tmp_path)
        load_world_model(tmp_path)
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.records


def test_checkpoint_with_an_unknown_key_is_refused(model, tmp_path):
    save_world_model(model, tmp_path)
    meta = json.loads((tmp_path / 'eva.json').read_text())
    meta['settings']['colour'] = 'red'
    (tmp_path / 'eva.json').write_text(json.dumps(meta))
    with pytest.raises(UserError, match='colour'):
        load_world_model(tmp_path)


def test_clips_begin_at_rest_and_skip_pauses(episodes):
    path = np.concatenate((episodes[0].joints, episodes[0].joints[-1] + episodes[0].joints))
    clips = find_clips([path], 0.1, ClipSettings(9, moving_weight=0.0, end_weight=0.0))
    moving = np.append(np.abs(np.diff(path, axis=0)).max(1) / 0.1 > 0.08, False)
    assert clips
    for clip in clips:
        first = clip.frames[0]
        assert first == 0 or not moving[first - 1] or not moving[first]
        inside = clip.frames[2:][np.diff(clip.frames[1:]) > 0]
        assert moving[inside].mean() > 0.5
    assert sum(clip.weight for clip in clips) == pytest.approx(1.0)


def test_mirrored_instructions_exchange_the_side():
    assert mirror_instruction('move the left arm') == 'move the right arm'
    assert mirror_instruction('pass it from right to left') is None
    assert mirror_instruction('pass it on') is None


def test_frames_held_on_the_device_give_the_same_batches(episodes, monkeypatch):
    clips = find_clips([e.joints for e in episodes], 0.1, ClipSettings(9))
    reading = ClipSampler(episodes, clips, seed=3, mirror=True)
    holding = ClipSampler(episodes, clips, seed=3, mirror=True)
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda _device: (10**9, 10**9))
    holding._held = holding._hold()
    share = slice(1, None, 2)
    for index in (0, 7):
        (frames, texts), (held, words) = (
            reading.batch(index, 8, share),
            holding.batch(index, 8, share),
        )
        assert torch.equal(frames, held)
        assert texts == words
        assert len(texts) == 4
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda _device: (10**5, 10**9))
    assert holding._hold() is None


def test_rotation_by_cosines_and_sines_is_the_complex_one():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 12, 3, 8, generator=generator)
    angle = torch.randn(1, 12, 1, 4, generator=generator)
    cos, sin = angle.cos(), angle.sin()
    turned = transformer._rotate(x, torch.stack((cos, sin)))
    assert torch.allclose(turned, transformer._rotate(x, torch.complex(cos, sin)), atol=1e-6)


def test_compiled_training_learns_the_same_and_leaves_a_plain_model(
    sampler, episodes, tmp_path, monkeypatch
):
    compiled = []
    monkeypatch.setattr(torch, 'compile', lambda function: compiled.append(1) or function)
    weights = []
    for turn in range(2):
        loop = training_loop(
            tiny_model(sampler, episodes), sampler, TrainSettings(3), tmp_path / str(turn)
        )
        if turn:
            loop.task.compile()
        loop.run()
        model = averaged_model(loop)
        assert 'clean' not in model.__dict__
        weights.append(model.transformer.state_dict())
    assert compiled == [1]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
def test_a_gpu_learns_and_gives_back_a_model_of_the_cpu(episodes, tmp_path):
    options = RunOptions('tiny', steps=40, batch=16, width=64, layers=2)
    assert training_run.train(episodes, ROBOT, VIEW, tmp_path, options)
    model = load_world_model(tmp_path)
    assert model.device.type == 'cpu'
    model.dream(episodes[0].frames[0], episodes[0].instruction, seed=0)


def test_the_options_of_a_run_are_those_that_it_trains_with():
    options = RunOptions('tiny', steps=7, batch=3, learning_rate=3e-4, seed=5)
    settings = training_run._settings(options)
    assert (settings.steps, settings.batch) == (7, 3)
    assert (settings.learning_rate, settings.seed) == (3e-4, 5)


def test_a_state_that_is_not_finite_or_cut_off_is_not_resumed(sampler, episodes, tmp_path):
    settings = TrainSettings(steps=1, batch=2)

    def loop():
        return training_loop(tiny_model(sampler, episodes), sampler, settings, tmp_path)

    loop().run()
    path = tmp_path / STATE
    whole = path.read_bytes()
    tensors, facts = read_tensors(path)
    tensors['average/text.position'][0, 0] = math.nan
    save_file(tensors, path, {'facts': json.dumps(facts)})
    with pytest.raises(
        UserError, match=rf"{STATE}: 1 of .* 'average/text\.position' is not finite"
    ):
        loop().resume()
    path.write_bytes(whole[:1000])
    with pytest.raises(UserError, match=rf'{STATE} cannot be read'):
        loop().resume()


def test_one_arms_task_alone_can_be_trained_mirrored(tmp_path):
    told = [moving_square(seed) for seed in range(4)]
    for episode in told:
        episode.instruction = 'move the left square'
    options = RunOptions(name='tiny', steps=2, batch=4, width=64, layers=1, mirror=True)
    assert training_run.train(told, ROBOT, VIEW, tmp_path, options)
    load_world_model(tmp_path).check_instruction('move the right square')
    plain = replace(options, mirror=False)
    assert training_run.train(told, ROBOT, VIEW, tmp_path / 'plain', plain)
    with pytest.raises(UserError, match='unknown words'):
        load_world_model(tmp_path / 'plain').check_instruction('move the right square')


def test_killed_training_resumes_exactly(sampler, episodes, tmp_path):
    settings = TrainSettings(steps=4, batch=2, warmup=2)

    def loop(folder):
        return training_loop(tiny_model(sampler, episodes), sampler, settings, folder)

    whole = loop(tmp_path / 'whole')
    whole.run()
    killed = loop(tmp_path / 'killed')
    killed.run(max_seconds=0)
    assert killed.resume()
    for _ in range(2):
        killed.run_step()
    killed.save()
    resumed = loop(tmp_path / 'killed')
    assert resumed.resume()
    resumed.run()
    for name, value in whole.averages.items():
        assert torch.equal(value, resumed.averages[name]), name


def test_videos_of_dreams_go_to_tensorboard_and_change_no_weight(
    sampler, episodes, tmp_path, monkeypatch
):
    monkeypatch.setattr('eva_ros.training.loop.SHOW_EVERY_S', 0.0)
    learnt, states = [], []
    for folder in ('with', 'without'):
        torch.manual_seed(3)
        settings = TrainSettings(steps=3, batch=2, warmup=1)
        loop = training_loop(tiny_model(sampler, episodes), sampler, settings, tmp_path / folder)
        if folder == 'without':
            loop.task.videos = dict
        torch.manual_seed(4)
        loop.run()
        learnt.append(loop.averages)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    for name, value in learnt[0].items():
        assert torch.equal(value, learnt[1][name]), name
    videos = videos_in(tmp_path / 'with')
    assert not videos_in(tmp_path / 'without')
    texts = [text for _, text in sampler.samples(2)]
    assert list(videos) == [f'recorded, dreamed/{n}: {text}' for n, text in enumerate(texts)]
    for (_, shown), (frames, _) in zip(videos.items(), sampler.samples(2)):
        assert [event.step for event in shown] == [1, 3]
        film = Image.open(io.BytesIO(shown[-1].encoded_image_string))
        assert (film.n_frames, film.size) == (SETTINGS.frames, (64, 32))
        assert film.info['duration'] == 100
        first = np.asarray(film.convert('RGB')).astype(int)
        for half in (first[:, :32], first[:, 32:]):
            assert np.abs(half - frames[0]).max() < 60


def videos_in(folder):
    """Return the image events of a run by their names."""
    (events,) = {path.parent for path in folder.rglob('events.out.tfevents.*')}
    found = EventAccumulator(str(events), size_guidance={'images': 0}).Reload()
    return {name: found.Images(name) for name in found.Tags()['images']}


def test_a_run_is_resumed_with_its_own_episodes_and_settings_alone(episodes, tmp_path):
    options = RunOptions(name='tiny', steps=1, batch=1, width=64, layers=1)
    assert training_run.train(episodes, ROBOT, VIEW, tmp_path, options)
    training_run.check(episodes, ROBOT, VIEW, tmp_path, replace(options, steps=9, max_seconds=1.0))
    for change in (
        {'batch': 2},
        {'learning_rate': 1e-3},
        {'width': 128},
        {'seed': 1},
        {'mirror': True},
    ):
        with pytest.raises(UserError, match=f'another {next(iter(change))}: repeat'):
            training_run.check(episodes, ROBOT, VIEW, tmp_path, replace(options, **change))
    with pytest.raises(UserError, match='another bags'):
        training_run.check(episodes[1:], ROBOT, VIEW, tmp_path, options)


def test_what_cannot_be_trained_is_refused_before_any_process_starts(episodes, tmp_path):
    options = RunOptions(name='tiny', steps=1, width=100)
    with pytest.raises(UserError, match='width is 100 and must be a multiple of 64'):
        training_run.check(episodes, ROBOT, VIEW, tmp_path, options)
    untold = [SimpleNamespace(instruction='', joints=e.joints) for e in episodes]
    with pytest.raises(UserError, match='nothing to learn from'):
        training_run.check(untold, ROBOT, VIEW, tmp_path, replace(options, width=64))


def test_training_learns_to_foresee_better_than_nothing_moves(sampler, episodes, tmp_path):
    settings = TrainSettings(steps=150, batch=8, warmup=10, learning_rate=4e-3, ema=0.9)
    loop = training_loop(tiny_model(sampler, episodes), sampler, settings, tmp_path)
    loop.run()
    frames, texts = sampler.batch(10**6, 16)
    learned = averaged_model(loop)
    condition = learned.condition(frames[:, 0], texts)
    target = learned.codec.encode_changes(frames)
    dreamed = learned.sample(condition, learned.noise(16, torch.Generator().manual_seed(0)))
    assert (dreamed - target).square().mean() < 0.7 * target.square().mean()
