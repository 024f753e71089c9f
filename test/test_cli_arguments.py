"""Numbers and places that no command can use are refused before the work begins."""

import argparse
import ast
from pathlib import Path

from hypothesis import given
from hypothesis import strategies
import pytest

from eva_ros.cli import arguments
from eva_ros.cli.main import build_parser
from eva_ros.cli.main import main
from eva_ros.cli.main import subcommands

ROOT = Path(__file__).resolve().parents[1]
BAGS = ('--bags', 'bags')
MODELS = ('--world-model', 'models/world_model', '--idm', 'models/idm')
RECORD = ('sim', 'record', '--task', 'reach_left', '--episodes', '1', '--out', 'new')
TRAIN = ('world-model', 'train', *BAGS, '--out', 'new')
SHOW = ('world-model', 'show', *BAGS)


@pytest.mark.parametrize(
    ('command', 'option', 'value'),
    [
        (RECORD, '--seed', '-1'),
        (('sim', 'evaluate-expert'), '--workers', '0'),
        (TRAIN, '--steps', '0'),
        (TRAIN, '--batch', '-8'),
        (TRAIN, '--minutes', 'nan'),
        (('world-model', 'evaluate', *BAGS), '--clips', '0'),
        (('idm', 'train', *BAGS, '--out', 'new', '--steps', '9'), '--learning-rate', '-1'),
        (('idm', 'train', *BAGS, '--out', 'new'), '--minutes', '0'),
        (('idm', 'evaluate', *BAGS, '--checkpoint', 'models/idm'), '--held-out', '1.5'),
        (('align', *BAGS, *MODELS, '--out', 'new'), '--iterations', '-1'),
        (('align', *BAGS, *MODELS, '--out', 'new'), '--gradient-steps', '0'),
        (('align', 'evaluate', *BAGS, *MODELS, '--lora', 'models/aligned'), '--views', '0'),
        (('evaluate',), '--seed', '-1'),
        (('demo',), '--max-duration', 'inf'),
        (('bags', 'import', 'data', '--out', 'new'), '--rate', '0'),
        (('bags', 'export', 'bags', '--out', 'new'), '--workers', '0'),
    ],
)
def test_a_number_that_cannot_be_is_one_sentence(
    command, option, value, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    refused(command, (option, value), capsys, words=(option, value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'command',
    [RECORD[:-2], TRAIN[:-2], SHOW, ('idm', 'train', *BAGS, '--steps', '1'),
     ('align', *BAGS, *MODELS, '--iterations', '1'), ('evaluate',), ('demo',),
     ('bags', 'view', 'bags'), ('bags', 'import', 'data'), ('bags', 'export', 'bags')],
)  # fmt: skip
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').write_text('')
    refused(command, ('--out', 'file/below'), capsys, words=('--out', 'file is a file'))


def refused(command, wrong, capsys, words):
    with pytest.raises(SystemExit) as end:
        raise SystemExit(main([*command, *wrong]))
    said = capsys.readouterr()
    assert end.value.code == 2
    assert said.out == ''
    (line,) = said.err.splitlines()
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ('command', 'option', 'value'),
    [
        (('evaluate',), '--model', 'models'),
        (('sim', 'evaluate-expert'), '--seeds', '3'),
        (('world-model', 'evaluate', *BAGS), '--clip', '2'),
        (('align', 'evaluate', *BAGS, *MODELS, '--lora', 'models/aligned'), '--view-', '3'),
        (('up',), '--rob', 'mine'),
    ],
)
def test_an_option_is_never_taken_for_another(command, option, value, capsys):
    refused(command, (option, value), capsys, words=('unrecognized arguments', option))


def parsers(parser):
    """Return a parser and all below it."""
    below = [action for action in parser._actions if isinstance(action.choices, dict)]
    found = [each for action in below for each in action.choices.values()]
    return [parser, *(each for child in found for each in parsers(child))]


@pytest.mark.parametrize('name', subcommands())
def test_no_parser_of_a_sub_command_takes_abbreviated_options(name):
    found = parsers(build_parser(name))
    assert len(found) > len(subcommands())
    assert [parser.prog for parser in found if parser.allow_abbrev] == []


def test_no_script_takes_abbreviated_options():
    found = {}
    for folder in ('scripts', 'benchmarks', 'eva_ros', 'test'):
        for path in (ROOT / folder).rglob('*.py'):
            for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                    'ArgumentParser'
                ):
                    words = {word.arg: ast.unparse(word.value) for word in node.keywords}
                    found[f'{path.name}:{node.lineno}'] = words.get('allow_abbrev')
    assert found and {place for place, value in found.items() if value != 'False'} == set()


@pytest.mark.parametrize(
    'command',
    [
        ('align', '--seed', '7', 'evaluate', *BAGS, *MODELS, '--lora', 'models/aligned'),
        ('evaluate', '--robot', 'mine', 'prepare-controls', *BAGS),
    ],
)
def test_an_option_before_an_inner_command_is_not_lost_without_a_word(command, capsys):
    refused(command, (), capsys, words=(command[1], f"after '{command[3]}'"))


@given(strategies.text() | strategies.floats().map(str) | strategies.integers().map(str))
def test_whatever_is_taken_is_within_its_bounds(text):
    bounds = {
        arguments.count: lambda n: n >= 1,
        arguments.seed: lambda n: 0 <= n < 2**32,
        arguments.above_zero: lambda n: 0 < n < float('inf'),
        arguments.rate_hz: lambda n: 0.1 <= n <= 1000,
        arguments.zero_or_more: lambda n: 0 <= n < float('inf'),
        arguments.share: lambda n: 0 <= n <= 1,
    }
    for kind, holds in bounds.items():
        try:
            assert holds(kind(text))
        except argparse.ArgumentTypeError as error:
            assert '\n' not in str(error) or '\n' in text
