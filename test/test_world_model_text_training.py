"""The text encoder that is trained on text alone: the command, and the one that ships."""

import json
from pathlib import Path
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import small_models
import torch

from eva_ros.cli.main import main
from eva_ros.errors import UserError
from eva_ros.robot.paths import checkpoint_dir
from eva_ros.sim.constructions import CANONICAL
from eva_ros.sim.tasks import TASKS
from eva_ros.world_model.checkpoint import load_world_model
from eva_ros.world_model.clips import Clip
from eva_ros.world_model.clips import ClipSampler
from eva_ros.world_model.folder import base_fingerprint
from eva_ros.world_model.folder import read_folder
from eva_ros.world_model.text_encoder import TextEncoder
from eva_ros.world_model.train import training_loop
from eva_ros.world_model.train import TrainSettings

MODEL = 'model.safetensors'


@pytest.fixture(scope='module')
def shipped():
    return load_world_model(checkpoint_dir() / 'world_model')


def read(model, texts):
    """Return which task's canonical sentence each text is nearest to, among all of them."""
    known = model.text.embed(tuple(CANONICAL.values())).flatten(1)
    nearest = torch.cdist(model.text.embed(texts).flatten(1), known).argmin(1)
    return [list(CANONICAL)[i] for i in nearest]


@pytest.mark.parametrize('group', ['shipped', 'training', 'held_out'])
def test_the_shipped_encoder_reads_held_out_phrasings_right_and_accepts_them(shipped, group):
    right, accepted, total = 0, 0, 0
    for name, task in TASKS.items():
        if group == 'shipped' and not task.shipped.held_out:
            continue
        texts = task.told(group)
        right += sum(found == name for found in read(shipped, texts))
        accepted += sum(shipped.text.is_read(*texts))
        total += len(texts)
    assert right >= 0.97 * total
    assert accepted >= 0.97 * total


@pytest.mark.parametrize(
    ('instruction', 'sentence'),
    [
        ('', 'is empty'),
        ('lift the red cube with the left arm ' * 300, r'10800 characters, which are 2400 tokens'),
        ('抬起红色方块', 'has no tokens for'),
        ('make me a coffee', "has 'make', 'me', 'a', 'coffee', which the text encoder"),
        ('do not lift the red cube with the left arm', 'does not read as a task'),
        ('lift the red cube', 'does not read as a task'),
        ('over the table and up', 'does not read as a task'),
    ],
)
def test_the_shipped_encoder_refuses_what_is_none_of_its_tasks(shipped, instruction, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        shipped.check_instruction(instruction)
    assert '\n' not in str(caught.value)


def test_instructions_may_have_capitals_and_punctuation(shipped):
    shipped.check_instruction('Lift the red cube, with the left arm!')


def test_dreams_of_held_out_phrasings_end_like_those_of_their_task(tmp_path):
    out = tmp_path / 'readings.json'
    script = Path(__file__).parents[1] / 'scripts' / 'measure_readings.py'
    done = subprocess.run(
        [sys.executable, str(script), '--out', str(out), '--scenes', '1'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for group, asked in json.loads(out.read_text())['asked_and_read'].items():
        assert asked == {task: {task: 1} for task in asked}, group
        assert len(asked) == 5
        assert f'{group}: 5 of 5 read right: 100.0%' in done.stdout


def test_recordings_of_a_new_task_train_the_transformer_and_not_the_encoder(tmp_path):
    model = load_world_model(checkpoint_dir() / 'world_model')
    encoder = {n: w.clone() for n, w in model.text.state_dict().items()}
    before = model.transformer.proj_out.weight.clone()
    told = TASKS['lift_bar'].grammar.training[0]
    video = np.random.default_rng(0).integers(0, 256, (17, 144, 128, 3), dtype=np.uint8)
    episode = SimpleNamespace(frames=video, instruction=told)
    sampler = ClipSampler([episode], [Clip(0, np.arange(17), 1.0)], seed=0)
    loop = training_loop(model, sampler, TrainSettings(steps=1, batch=1, warmup=1), tmp_path)
    loop.run()
    assert (model.transformer.proj_out.weight != before).any()
    assert all(torch.equal(w, encoder[n]) for n, w in model.text.state_dict().items())


def test_the_command_changes_nothing_but_the_text_encoder_and_repeats(tmp_path, capsys):
    known = (text for task, text in CANONICAL.items() if task != 'lift_bar')
    words = sorted({'and', 'lift', *(word for text in known for word in text.split())})
    base = small_models.lively_world_model(tmp_path / 'base', words)
    command = ['world-model', 'text', '--from', str(base), '--steps', '2']
    made = {}
    for name, seed in (('one', 0), ('same', 0), ('other', 1)):
        made[name] = tmp_path / name
        assert main([*command, '--out', str(made[name]), '--seed', str(seed)]) == 0
    weights = {name: (out / 'text_encoder' / MODEL).read_bytes() for name, out in made.items()}
    assert weights['one'] == weights['same'] != weights['other']
    # The same command with more steps continues.
    more = ['world-model', 'text', '--from', str(base), '--out', str(made['other'])]
    assert main([*more, '--seed', '1', '--steps', '3']) == 0
    assert (made['other'] / 'text_encoder' / MODEL).read_bytes() != weights['other']
    kept = [p.relative_to(base) for p in base.rglob('*.safetensors') if p.parent.name != 'text']
    assert len(kept) == 2
    assert all((made['one'] / path).read_bytes() == (base / path).read_bytes() for path in kept)
    assert base_fingerprint(read_folder(made['one'])) == base_fingerprint(read_folder(base))
    model = load_world_model(made['one'])
    assert isinstance(model.text, TextEncoder)
    assert not (made['one'] / 'text').exists()
    capsys.readouterr()
    assert main(['world-model', 'info', str(made['one']), '--json']) == 0
    assert 'text_encoder' in json.loads(capsys.readouterr().out)['parts']
    assert main([*command, '--out', str(base)]) == 2
    assert 'is kept as it is: give another folder with --out' in capsys.readouterr().err
