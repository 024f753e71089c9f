"""Small world models read instructions by any text encoder of transformers."""

import json
from pathlib import Path
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file
from safetensors.torch import save_file
import small_models
from text_encoders import encoder_folder
from text_encoders import ENCODERS
from text_encoders import WIDTH
import torch

from eva_ros.cli.main import main
from eva_ros.errors import UserError
from eva_ros.world_model import training_run
from eva_ros.world_model.checkpoint import load_world_model
from eva_ros.world_model.checkpoint import save_world_model
from eva_ros.world_model.text_encoder import TextEncoder
from eva_ros.world_model.training_run import RunOptions
from eva_ros.world_model.transformer import small_wan

VIEW = SimpleNamespace(name='tiny', height=32, width=32, rate_hz=10.0, frames=9, cameras=[])
ROBOT = SimpleNamespace(name='aloha_sim', joint_names=())
PICTURE = np.random.default_rng(0).integers(0, 256, (144, 128, 3), dtype=np.uint8)
LEFT, RIGHT = (f'move the cube with the {side} arm' for side in ('left', 'right'))
MODEL = 'model.safetensors'


def world_model_folder(folder, encoder):
    """Write a world model that reads instructions by an encoder, and return its folder."""
    model = load_world_model(small_models.lively_world_model(folder))
    shutil.rmtree(folder)
    model.text = TextEncoder.load(encoder)
    model.transformer = small_wan(8, WIDTH, width=64, layers=1)
    torch.nn.init.normal_(model.transformer.proj_out.weight, std=0.05)
    save_world_model(model, folder)
    return folder


def recordings():
    """Return episodes in which a bright square crosses the picture."""
    episodes = []
    for side in ('left', 'right'):
        video, joints = np.full((24, 32, 32, 3), 40, np.uint8), np.zeros((24, 14))
        for t in range(24):
            x = int(np.clip(2 * (t - 4), 0, 24))
            video[t, 8:14, x : x + 6] = 220
            joints[t] = 0.05 * x
        told = f'move the {side} square'
        episodes.append(SimpleNamespace(frames=video, joints=joints, instruction=told))
    return episodes


@pytest.mark.parametrize('beside', [False, True])
@pytest.mark.parametrize('kind', ENCODERS)
def test_any_encoder_that_transformers_loads_says_what_is_dreamed(tmp_path, kind, beside):
    encoder = encoder_folder(tmp_path / 'any' / 'encoder', kind, beside)
    model = load_world_model(world_model_folder(tmp_path / 'world_model', encoder))
    left, again, right = (model.dream(PICTURE, told, seed=0) for told in (LEFT, LEFT, RIGHT))
    np.testing.assert_array_equal(left.frames, again.frames)
    assert (left.frames != right.frames).any()
    frames = torch.from_numpy(PICTURE).permute(2, 0, 1)[None] / 255
    together = model.condition(frames.repeat(3, 1, 1, 1), [RIGHT, LEFT, RIGHT]).words
    alone = [model.condition(frames, [told]).words for told in (RIGHT, LEFT, RIGHT)]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize('kind', ENCODERS)
def test_training_leaves_the_encoder_as_it_was(tmp_path, kind, capfd):
    encoder = encoder_folder(tmp_path / 'encoder', kind)
    options = RunOptions('tiny', steps=2, batch=2, width=64, layers=1, text_encoder=encoder)
    out = tmp_path / 'out'
    assert training_run.train(recordings(), ROBOT, VIEW, out, options)
    trained = load_world_model(out)
    assert trained.transformer.config.text_dim == WIDTH
    start = load_world_model(out / 'run' / 'start')
    before, after = start.transformer.state_dict(), trained.transformer.state_dict()
    assert any((before[name] != after[name]).any() for name in before)
    given, kept = load_file(encoder / MODEL), load_file(out / 'text_encoder' / MODEL)
    assert given.keys() == kept.keys()
    assert all(torch.equal(given[name], kept[name]) for name in given)
    about = (out / 'eva.json').read_text()
    # It can be written over itself.
    save_world_model(load_world_model(out), out)
    load_world_model(out)
    # What is written names the encoder, and no folder of this machine.
    said = capfd.readouterr()
    assert 'LOAD REPORT' not in said.err + said.out
    assert 'Loading weights' not in said.err
    assert json.loads(about)['training']['options']['text_encoder'].startswith('encoder@')
    for written in (*out.glob('*.json'), *out.glob('t*/*.json')):
        assert str(tmp_path) not in written.read_text()


def test_training_refuses_what_the_encoder_cannot_read_before_it_starts(tmp_path):
    encoder = encoder_folder(tmp_path / 'encoder', 'bert')
    episodes = recordings()
    episodes[0].instruction = 'push the square'
    options = RunOptions('tiny', steps=2, width=64, layers=1, text_encoder=encoder)
    with pytest.raises(UserError, match="has 'push', which the text encoder of tiny has no token"):
        training_run.check(episodes, ROBOT, VIEW, tmp_path / 'out', options)
    with pytest.raises(UserError, match='lacks text_encoder/'):
        training_run.check(
            episodes,
            ROBOT,
            VIEW,
            tmp_path,
            RunOptions('tiny', 2, text_encoder=tmp_path / 'text_encoder'),
        )


@pytest.mark.parametrize('kind', ENCODERS)
def test_info_names_the_encoder_as_a_part(tmp_path, kind, capsys):
    encoder = encoder_folder(tmp_path / 'encoder', kind)
    folder = world_model_folder(tmp_path / 'world_model', encoder)
    assert main(['world-model', 'info', str(folder), '--json']) == 0
    part = json.loads(capsys.readouterr().out)['parts']['text_encoder']
    assert part['class'] == {'bert': 'BertModel', 'umt5': 'UMT5EncoderModel'}[kind]
    assert part['bytes'] == 4 * part['parameters'] > 0


@pytest.mark.parametrize(
    ('instruction', 'sentence'),
    [
        ('', 'The instruction is empty: say what the robot has to do'),
        (' \n', 'The instruction is empty'),
        ('move the arm  ' * 800, r'11200 characters, which are 2401 tokens: shorten it to 64'),
        (
            'move the 立方体',
            "has '立方体', which the text encoder of small has no tokens for: say",
        ),
        ('x' * 10_000, r'The instruction has 10000 characters: shorten it to 64 tokens'),
        ('make me a coffee', "has 'make', 'me', 'a', 'coffee', which"),
    ],
)
def test_an_instruction_that_cannot_be_encoded_is_refused(tmp_path, instruction, sentence):
    encoder = encoder_folder(tmp_path / 'encoder', 'umt5')
    model = load_world_model(world_model_folder(tmp_path / 'world_model', encoder))
    frames = torch.zeros(1, 3, 144, 128)
    for refuse in (
        lambda: model.check_instruction(instruction),
        lambda: model.condition(frames, [instruction]),
        lambda: model.dream(PICTURE, instruction, seed=0),
    ):
        with pytest.raises(UserError, match=sentence) as caught:
            refuse()
        assert '\n' not in str(caught.value)


def damage(folder: Path, what: str) -> None:
    encoder = folder / 'text_encoder'
    weights = encoder / MODEL
    tensors = {name: weight.clone() for name, weight in load_file(weights).items()}
    if what == 'no encoder':
        shutil.rmtree(encoder)
    elif what == 'no tokenizer':
        shutil.rmtree(folder / 'tokenizer')
    elif what == 'no weights':
        weights.unlink()
    elif what == 'pickle':
        weights.unlink()
        torch.save(tensors, encoder / 'pytorch_model.bin')
    elif what == 'pickle by another name':
        torch.save(tensors, weights)
    elif what == 'code of its own':
        config = json.loads((encoder / 'config.json').read_text())
        config |= {'model_type': 'own', 'auto_map': {'AutoConfig': 'own.Own', 'AutoModel': 'o.O'}}
        (encoder / 'config.json').write_text(json.dumps(config))
    elif what == 'not finite':
        tensors[min(tensors)].view(-1)[0] = float('nan')
        save_file(tensors, weights, {'format': 'pt'})
    elif what == 'a weight less':
        del tensors['encoder.layer.0.output.dense.bias']
        save_file(tensors, weights, {'format': 'pt'})
    elif what == 'width':
        shutil.rmtree(folder / 'transformer')
        small_wan(8, 2 * WIDTH, width=64, layers=1).save_pretrained(folder / 'transformer')


@pytest.mark.parametrize(
    ('what', 'sentence'),
    [
        ('no encoder', r'lacks text_encoder/'),
        ('no tokenizer', r'lacks tokenizer/tokenizer_config\.json: copy it again'),
        ('no weights', r'text_encoder holds no weights \(\*\.safetensors\) of a text encoder'),
        ('pickle', r'text_encoder holds pickled weights \(pytorch_model\.bin\), which can run'),
        ('pickle by another name', r'model\.safetensors cannot be read as safetensors'),
        ('code of its own', r'The text encoder in .* cannot be read'),
        ('not finite', r'1 of .* values of .* is not finite'),
        ('a weight less', r"lacks weights \('encoder\.layer\.0\.output\.dense\.bias', 1 in all\)"),
        ('width', r'gives 24 features a token, and its transformer takes 48'),
    ],
)
def test_a_damaged_encoder_is_refused_with_one_sentence(tmp_path, what, sentence):
    encoder = encoder_folder(tmp_path / 'encoder', 'bert')
    folder = world_model_folder(tmp_path / 'world_model', encoder)
    damage(folder, what)
    with pytest.raises(UserError, match=sentence) as caught:
        load_world_model(folder)
    assert '\n' not in str(caught.value)
