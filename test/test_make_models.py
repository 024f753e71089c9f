"""One script makes every shipped checkpoint, its data included, by commands that `eva` knows."""

import importlib.util
from pathlib import Path
import shlex
import subprocess
import sys

import pytest

from eva_ros.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / 'scripts' / 'make_models.py'


@pytest.fixture(scope='module')
def script():
    """Return scripts/make_models.py as a module."""
    spec = importlib.util.spec_from_file_location('make_models', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def chain(script, out, size='cpu'):
    return {stage.name: stage for stage in script.stages(script.SIZES[size], out, 2)}


def echo(script, monkeypatch):
    """Let the script run a command that says what it was asked instead of `eva`; return these."""
    asked = []

    def run(words, **_):
        asked.append(words[3:])
        if 'fail' in words:
            raise subprocess.CalledProcessError(2, words)

    monkeypatch.setattr(script.subprocess, 'run', run)
    return asked


@pytest.mark.parametrize('size', ['gpu', 'cpu', 'tiny'])
def test_every_command_of_the_chain_is_one_that_eva_knows(script, tmp_path, size):
    for stage in chain(script, tmp_path, size).values():
        for command in stage.commands:
            words = list(command)
            assert build_parser(words[0]).parse_args(words).command == words[0]


def test_every_shipped_checkpoint_is_made_by_a_stage(script, tmp_path):
    made = {path for stage in chain(script, tmp_path).values() for path in stage.makes}
    shipped = {path.name for path in (ROOT / 'models').iterdir() if path.is_dir()}
    assert shipped == {path.name for path in made if path.parent == tmp_path / 'models'}


def test_what_a_command_reads_was_made_by_an_earlier_stage(script, tmp_path):
    made = set()
    for stage in chain(script, tmp_path).values():
        for command in stage.commands:
            read = [Path(w) for w in command if w.startswith(str(tmp_path))]
            for path in (p for p in read if p not in stage.makes):
                below = any(path.is_relative_to(place) for place in {*made, *stage.makes})
                holds = any(place.is_relative_to(path) for place in made)
                assert below or holds, (stage.name, path)
        made.update(stage.makes)


def test_a_dry_run_prints_every_command_and_runs_none(script, tmp_path):
    out = tmp_path / 'new'
    command = [sys.executable, str(SCRIPT), '--out', str(out), '--size', 'gpu', '--dry-run']
    options = ['--workers', '2']
    done = subprocess.run([*command, *options], text=True, stdout=subprocess.PIPE, check=True)
    expected = [
        shlex.join(('eva', *words))
        for stage in chain(script, out, 'gpu').values()
        for words in stage.commands
    ]
    assert [line for line in done.stdout.splitlines() if not line.startswith('#')] == expected
    assert not out.exists()


def test_finished_stages_are_left_out_and_one_that_failed_is_run_again(
    script, tmp_path, monkeypatch
):
    asked = echo(script, monkeypatch)
    good, bad = script.Stage('good', [('one',), ('two',)]), script.Stage('bad', [('fail',)])
    script.run(good, tmp_path)
    for _ in range(2):
        script.run(good, tmp_path)
        with pytest.raises(subprocess.CalledProcessError):
            script.run(bad, tmp_path)
    assert asked == [['one'], ['two'], ['fail'], ['fail']]
    script.run(script.Stage('good', [('one',), ('another',)]), tmp_path)
    assert asked[4:] == [['one'], ['another']]


def test_from_a_stage_on_what_was_made_is_removed_and_made_again(script, tmp_path, monkeypatch):
    asked = echo(script, monkeypatch)
    stages = list(chain(script, tmp_path, 'tiny').values())
    for stage in stages:
        script.run(stage, tmp_path)
        for path in stage.makes:
            (path / 'content').mkdir(parents=True)
    options = ['make_models', '--out', str(tmp_path), '--size', 'tiny', '--workers', '2']
    monkeypatch.setattr(sys, 'argv', [*options, '--from', 'align'])
    del asked[:]
    assert script.main() == 0
    again = [list(command) for stage in stages[-4:] for command in stage.commands]
    assert [stage.name for stage in stages[-4:]] == ['align', 'critic', 'controls', 'evaluate']
    assert asked == again
    assert (tmp_path / 'models' / 'world_model' / 'content').exists()
    assert not (tmp_path / 'models' / 'aligned').exists()
