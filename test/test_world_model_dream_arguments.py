"""What the Python entry of a world model refuses, whatever the family, in one sentence."""

import math

import numpy as np
import pytest
from small_models import INSTRUCTION
from small_models import small_world_model
from small_models import VIEW
import torch
from wan_folders import HEIGHT
from wan_folders import INSTRUCTION as WAN_INSTRUCTION
from wan_folders import wan_pipeline
from wan_folders import WIDTH

from eva_ros.errors import UserError
from eva_ros.world_model import load_world_model


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    model = load_world_model(small_world_model(tmp_path_factory.mktemp('small')))
    return model, INSTRUCTION, torch.full((2, 3, VIEW.height, VIEW.width), 0.5)


@pytest.fixture(scope='module')
def wan(tmp_path_factory):
    folder = tmp_path_factory.mktemp('wan')
    wan_pipeline('wan2.2-ti2v').save_pretrained(folder)
    return load_world_model(folder), WAN_INSTRUCTION, torch.full((2, 3, HEIGHT, WIDTH), 0.5)


@pytest.fixture(params=['small', 'wan'])
def asked(request):
    """Return a model, and arguments that it takes."""
    model, told, frames = request.getfixturevalue(request.param)
    channels, _, *grid = model.latent_shape
    rows, columns = grid if request.param == 'small' else (HEIGHT // 16, WIDTH // 16)
    count = model.latent_shape[1] if request.param == 'small' else 3
    return model, {
        'first_frames': frames,
        'instructions': [told, told],
        'noise': torch.randn(2, channels, count, rows, columns),
        'steps': 1,
    }


@pytest.mark.parametrize('scale', ['guidance_scale', 'history_scale'])
@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, -1.0, None, '2'])
def test_a_scale_that_is_no_weight_is_refused(asked, scale, value):
    model, arguments = asked
    sentence = f'takes a finite {scale.replace("_", " ")} of 0 or more, not .*{value}'
    with pytest.raises(UserError, match=sentence):
        model.sample_latents(**arguments, **{scale: value})


@pytest.mark.parametrize('steps', [0, -1, 1.5, True, '4', math.nan])
def test_steps_that_are_no_count_are_refused_by_every_entry(asked, steps):
    model, arguments = asked
    sentence = f'dreams in a whole number of denoising steps, 1 or more, not .*{steps}'
    told, settings = arguments['instructions'][0], model.settings
    view = np.zeros((settings.height, settings.width, 3), np.uint8)
    with pytest.raises(UserError, match=sentence):
        model.sample_latents(**{**arguments, 'steps': steps})
    with pytest.raises(UserError, match=sentence):
        model.sample(None, arguments['noise'], steps=steps)
    with pytest.raises(UserError, match=sentence):
        model.dream(view, told, seed=0, steps=steps)
    with pytest.raises(UserError, match=sentence):
        model.candidates(view, told, [0, 1], steps=steps)


def test_frames_outside_0_to_1_are_refused_and_rounding_is_not(asked):
    model, arguments = asked
    frames = arguments['first_frames']
    for wrong, sentence in (
        ((255 * frames).to(torch.uint8), 'first frames as numbers in 0..1, not uint8: divide'),
        (255 * frames, 'first frames in 0..1, and these range from 127.5 to 127.5: scale'),
        (frames - 1.0, 'first frames in 0..1, and these range from -0.5 to -0.5: scale'),
    ):
        with pytest.raises(UserError, match=sentence):
            model.sample_latents(**{**arguments, 'first_frames': wrong})
    for fitting in (2 * frames + 1e-4, 0 * frames - 1e-4, frames.double(), frames.bfloat16()):
        latents = model.sample_latents(**{**arguments, 'first_frames': fitting})
        assert latents.shape == arguments['noise'].shape


@pytest.mark.parametrize(
    ('instructions', 'sentence'),
    [
        ([None, None], 'instruction 0 is of type NoneType: give a str'),
        ([INSTRUCTION, b'touch'], 'instruction 1 is of type bytes: give a str'),
        (None, 'takes a list of instructions, one for each frame, not NoneType'),
        ('ab', 'takes a list of instructions, one for each frame, not str'),
    ],
)
def test_instructions_that_are_no_texts_are_refused(asked, instructions, sentence):
    model, arguments = asked
    with pytest.raises(UserError, match=sentence):
        model.sample_latents(**{**arguments, 'instructions': instructions})


def test_a_dream_needs_an_instruction_and_a_seed(small):
    model, told, _ = small
    view = np.zeros((VIEW.height, VIEW.width, 3), np.uint8)
    with pytest.raises(UserError, match='instruction 0 is of type NoneType'):
        model.dream(view, None, seed=0)
    with pytest.raises(UserError, match='was given no seeds: give one for each dream'):
        model.candidates(view, told, [])


def test_a_batch_of_nothing_is_refused(asked):
    model, arguments = asked
    nothing = {
        'first_frames': arguments['first_frames'][:0],
        'instructions': [],
        'noise': arguments['noise'][:0],
    }
    with pytest.raises(UserError, match='was given no frames: give at least one'):
        model.sample_latents(**{**arguments, **nothing})


def test_frames_of_another_size_than_the_small_models_are_refused(small):
    model, told, frames = small
    noise = torch.randn(2, *model.latent_shape)
    sentence = (
        f'dreams views of {VIEW.height}x{VIEW.width}, and these frames have '
        f'{VIEW.height - 8}x{VIEW.width}: resize them'
    )
    with pytest.raises(UserError, match=sentence):
        model.sample_latents(frames[:, :, 8:], [told, told], noise, steps=1)
