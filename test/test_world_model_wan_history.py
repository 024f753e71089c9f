"""Wan dreams of moving arms: observed frames before the first are known, and guided by."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from wan_folders import FAMILIES
from wan_folders import FRAMES
from wan_folders import HEIGHT
from wan_folders import INSTRUCTION
from wan_folders import picture
from wan_folders import scheduler
from wan_folders import wan_pipeline
from wan_folders import WIDTH

from eva_ros.errors import NotFiniteError
from eva_ros.errors import UserError
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import World
from eva_ros.training.manifest import write_manifest
from eva_ros.world_model import load_world_model
from eva_ros.world_model.info import info

TI2V, A14B = 'wan2.2-ti2v', 'wan2.2-a14b'
HISTORY, STEPS = 8, 3
LATENTS, BEFORE = (FRAMES - 1) // 4 + 1, HISTORY // 4
SIZES = {'wan2.1-i2v': (4, 8), TI2V: (8, 16), A14B: (4, 8)}
VIEW = SimpleNamespace(
    name='tiny', height=HEIGHT, width=WIDTH, rate_hz=10.0, frames=FRAMES, cameras=[]
)


def written(folder, **settings):
    """Write an eva.json that says what the checkpoint takes, and return the folder."""
    known = {'name': folder.name, 'frames': FRAMES, 'steps': STEPS, **settings}
    write_manifest(folder, Manifest('world_model', World.of(None, VIEW), {'settings': known}))
    return folder


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Return a pipeline of each family, and its folder with an eva.json that names a history."""
    place = tmp_path_factory.mktemp('wan')
    found = {}
    for family in FAMILIES:
        pipeline = wan_pipeline(family)
        pipeline.save_pretrained(place / family)
        found[family] = (pipeline, written(place / family, history=HISTORY))
    return found


def noise(family, count=1):
    channels, size = SIZES[family]
    shape = (count, channels, LATENTS, HEIGHT // size, WIDTH // size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def observed(seed=0, count=HISTORY + 1):
    """Return observed frames [1, K + 1, 3, H, W] in 0..1, the view last."""
    pictures = np.stack([picture(seed + k) for k in range(count)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)[None] / 255.0


def dreamed(model, family, frames, **options):
    history = frames[:, :-1] if frames.shape[1] > 1 else None
    return model.sample_latents(
        frames[:, -1], [INSTRUCTION] * len(frames), noise(family, len(frames)),
        steps=STEPS, history=history, **options,
    )  # fmt: skip


def encoded(pipeline, frames):
    """Return the normalised latents of frames [1, T, 3, H, W], by diffusers' own VAE."""
    config = pipeline.vae.config
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1, 1)
        for values in (config.latents_mean, config.latents_std)
    )
    latents = pipeline.vae.encode(2.0 * frames.transpose(1, 2) - 1.0).latent_dist.mode()
    return (latents - mean) / std


class Reference:
    """The loop of `WanImageToVideoPipeline`, with more known frames than its first."""

    def __init__(self, pipeline, family, frames, prompt=INSTRUCTION):
        self.pipeline, self.family = pipeline, family
        grey = torch.full((1, FRAMES - 1, *frames.shape[2:]), 0.5)
        self.known = encoded(pipeline, frames)
        self.filled = encoded(pipeline, torch.cat((frames, grey), 1))
        options = {'do_classifier_free_guidance': False, 'max_sequence_length': 512}
        self.words = pipeline.encode_prompt(prompt, **options)[0]
        self.picture = None
        if family == 'wan2.1-i2v':
            view = (frames[0, -1].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
            self.picture = pipeline.encode_image([view], 'cpu')

    def velocity(self, x, sigma):
        """Return the velocity of x [1, C, F, h, w]."""
        count, model = self.known.shape[2], self.pipeline.transformer
        before = self.known[:, :, : count - 1]
        if self.family == TI2V:
            inputs = torch.cat((self.known, x[:, :, 1:]), 2)
            times = torch.full((inputs.shape[2],), 1000.0 * float(sigma))
            times[:count] = 0.0
            grid = (x.shape[3] // 2) * (x.shape[4] // 2)
            times = times.repeat_interleave(grid)[None]
        else:
            same = torch.randn(before.shape[1:], generator=torch.Generator().manual_seed(0))
            inputs = torch.cat(((1 - sigma) * before + sigma * same, x), 2)
            mask = torch.zeros(1, 4, *inputs.shape[2:])
            mask[:, :, :count] = 1.0
            inputs = torch.cat((inputs, mask, self.filled), 1)
            times = torch.full((1,), 1000.0 * float(sigma))
            if self.family == A14B and sigma < self.pipeline.config.boundary_ratio:
                model = self.pipeline.transformer_2
        return model(
            hidden_states=inputs,
            timestep=times,
            encoder_hidden_states=self.words,
            encoder_hidden_states_image=self.picture,
            return_dict=False,
        )[0][:, :, count - 1 :]


@torch.no_grad()
def reference_latents(pipeline, family, frames, guidance, history):
    """Return what the reference dreams, with both kinds of guidance."""
    knows = Reference(pipeline, family, frames)
    told_less = Reference(pipeline, family, frames, prompt='')
    saw_less = Reference(pipeline, family, frames[:, -1:])
    schedule, x = scheduler('euler'), noise(family)
    schedule.set_timesteps(STEPS)
    for sigma, time in zip(schedule.sigmas, schedule.timesteps):
        v = knows.velocity(x, sigma)
        guided = v + (guidance - 1) * (v - told_less.velocity(x, sigma))
        guided = guided + (history - 1) * (v - saw_less.velocity(x, sigma))
        x = schedule.step(guided, time, x, return_dict=False)[0]
    return torch.cat((knows.known[:, :, -1:], x[:, :, 1:]), 2) if family == TI2V else x


def assert_same(latents, expected):
    scale = float(expected.max() - expected.min())
    assert scale > 0.5
    assert float((latents - expected).abs().max()) < 1e-4 * scale


@pytest.mark.parametrize(('guidance', 'history'), [(1.0, 1.0), (2.0, 2.5)])
@pytest.mark.parametrize('family', FAMILIES)
def test_a_dream_in_motion_is_that_of_diffusers_parts_with_more_known_frames(
    folders, family, guidance, history
):
    pipeline, folder = folders[family]
    model = load_world_model(folder, VIEW)
    latents = dreamed(
        model, family, observed(), guidance_scale=guidance, history_scale=history
    )  # fmt: skip
    assert_same(latents, reference_latents(pipeline, family, observed(), guidance, history))


@pytest.mark.parametrize('family', FAMILIES)
def test_history_changes_the_dream_and_rest_is_as_without_it(folders, family):
    model = load_world_model(folders[family][1], VIEW)
    rest = dreamed(model, family, observed()[:, -1:], history_scale=3.0)
    assert torch.equal(rest, dreamed(model, family, observed()[:, -1:]))
    moving = dreamed(model, family, observed())
    scale = float(rest.max() - rest.min())
    assert float((moving - rest).abs().max()) > 0.01 * scale
    assert moving.shape == rest.shape == noise(family).shape


@pytest.mark.parametrize('family', FAMILIES)
def test_histories_of_a_batch_may_differ(folders, family):
    model = load_world_model(folders[family][1], VIEW)
    same_view = torch.cat((observed(seed=20)[:, :-1], observed()[:, -1:]), 1)
    frames = torch.cat((observed(), same_view))
    options = {'guidance_scale': 2.0, 'history_scale': 2.0}
    both = dreamed(model, family, frames, **options)
    for i in range(2):
        alone = model.sample_latents(
            frames[i : i + 1, -1], [INSTRUCTION], noise(family, 2)[i : i + 1],
            steps=STEPS, history=frames[i : i + 1, :-1], **options,
        )  # fmt: skip
        assert_same(both[i : i + 1], alone)


@pytest.mark.parametrize('family', FAMILIES)
def test_frames_of_a_dream_in_motion_begin_with_the_view(folders, family):
    pipeline, folder = folders[family]
    model = load_world_model(folder, VIEW)
    frames = observed()
    condition = model.condition(frames[:, -1], [INSTRUCTION], history=frames[:, :-1])
    latents = dreamed(model, family, frames)
    with torch.no_grad():
        found = model.decode(latents, condition)
        known = encoded(pipeline, frames)[:, :, :BEFORE]
        whole = torch.cat((known, latents), 2) / model.latents_scale + model.latents_mean
        video = pipeline.vae.decode(whole, return_dict=False)[0].transpose(1, 2) / 2 + 0.5
    assert found.shape == (1, FRAMES, 3, HEIGHT, WIDTH)
    assert torch.equal(found[:, 0], frames[:, -1])
    torch.testing.assert_close(found[:, 1:], video[:, HISTORY + 1 :], atol=1e-5, rtol=0)


@pytest.mark.parametrize('family', FAMILIES)
def test_latents_to_learn_from_are_those_of_the_video_with_its_history(folders, family):
    pipeline, folder = folders[family]
    frames = observed(count=HISTORY + FRAMES)
    found = load_world_model(folder, VIEW).encode(frames[:, HISTORY:], frames[:, :HISTORY])
    with torch.no_grad():
        assert_same(found, encoded(pipeline, frames)[:, :, BEFORE:])


@pytest.mark.parametrize('family', FAMILIES)
def test_candidates_of_moving_arms_are_those_of_their_seeds(folders, family):
    model = load_world_model(folders[family][1], VIEW)
    before = [picture(k) for k in range(HISTORY + 3)]
    both = model.candidates(picture(30), INSTRUCTION, [3, 4], before=before)
    assert (both[0].frames != both[1].frames).any()
    for rollout in both:
        alone = model.dream(picture(30), INSTRUCTION, seed=rollout.seed, before=before[3:])
        assert rollout.frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
        assert (rollout.frames[0] == picture(30)).all()
        assert abs(rollout.frames.astype(int) - alone.frames).max() <= 1


@pytest.mark.parametrize('family', FAMILIES)
def test_the_memory_of_a_dream_in_motion_is_counted(folders, family, tmp_path):
    needed = []
    for history in (0, HISTORY):
        copy = shutil.copytree(folders[family][1], tmp_path / str(history) / family)
        needed.append(info(written(copy, history=history), None, VIEW)['memory_bytes'])
    assert all(needed[1][use] > needed[0][use] for use in ('inference', 'lora', 'full'))


def test_eva_json_says_how_much_dreams_are_guided_by_their_history(folders):
    _, folder = folders[TI2V]
    before, view = [picture(k) for k in range(HISTORY)], picture(HISTORY)
    plain = load_world_model(folder, VIEW).dream(view, INSTRUCTION, seed=0, before=before)
    written(folder, history=HISTORY, history_scale=4.0)
    try:
        guided = load_world_model(folder, VIEW)
    finally:
        written(folder, history=HISTORY)
    assert guided.settings.history_scale == 4.0
    moving = guided.dream(view, INSTRUCTION, seed=0, before=before)
    assert (moving.frames[1:] != plain.frames[1:]).any()


@pytest.mark.parametrize(
    ('history', 'sentence'),
    [
        (observed()[:, :4], r'takes the 8 frames before each view as history, .*not \[1, 4, 3'),
        (observed()[:, :8, :, :16], r'\[1, 8, 3, 32, 64\], not \[1, 8, 3, 16, 64\]'),
        (observed()[:, :8].repeat(2, 1, 1, 1, 1), r'\[1, 8, 3, 32, 64\], not \[2, 8, 3, 32, 64\]'),
        (torch.zeros(3), r'\[1, 8, 3, 32, 64\], not \[3\]'),
    ],
)
def test_a_history_that_does_not_fit_is_refused(folders, history, sentence):
    model = load_world_model(folders[TI2V][1], VIEW)
    with pytest.raises(UserError, match=sentence) as caught:
        model.sample_latents(
            observed()[:, -1], [INSTRUCTION], noise(TI2V), steps=1, history=history
        )
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_history_that_is_not_finite_is_refused(folders, value):
    model = load_world_model(folders[TI2V][1], VIEW)
    frames = observed()
    frames[0, 2, 1, 0, 0] = value
    with pytest.raises(NotFiniteError, match=r"1 of .* values of 'history' is not finite"):
        dreamed(model, TI2V, frames)


def test_views_before_that_are_too_few_or_of_another_size_are_refused(folders):
    model = load_world_model(folders[TI2V][1], VIEW)
    few = [picture(k) for k in range(3)]
    with pytest.raises(UserError, match='from the 8 views before, and only 3 were observed: wait'):
        model.dream(picture(9), INSTRUCTION, seed=0, before=few)
    other = [picture(k, height=16) for k in range(HISTORY)]
    with pytest.raises(UserError, match=r'The view is uint8 \(16, 64, 3\), but'):
        model.dream(picture(9), INSTRUCTION, seed=0, before=other)
