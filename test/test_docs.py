"""The README and the pages in docs/ name files, headings and commands that exist."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

from eva_ros.control.settings import GateSettings

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def check_docs():
    """Return scripts/check_docs.py as a module."""
    spec = importlib.util.spec_from_file_location('check_docs', ROOT / 'scripts/check_docs.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_ships_is_right(check_docs, capsys):
    assert check_docs.main() == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    'path', sorted((ROOT / 'docs/results').rglob('*.json')), ids=lambda path: path.stem
)
def test_a_result_says_the_command_commit_and_hardware_it_comes_from(path):
    told = json.loads(path.read_text())
    assert all(told[key] for key in ('command', 'commit', 'hardware'))


def test_a_wrong_page_is_noticed(check_docs, tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(
        '# A heading\n[ok](#a-heading) [no anchor](#nope) [no file](no.md)\n'
        '`eva no-such-command`, `make no-such-target`, `make test ARGS=-x`\n'
        '```sh\n$ eva evaluate --jsonn \\\n  --json  # a comment\n```\n'
    )
    assert [sentence.split()[0] for sentence in check_docs.broken_links(page)] == [
        '#nope:',
        'no.md',
    ]
    assert sorted(check_docs.wrong_commands(page)) == [
        '`eva evaluate` has no option --jsonn',
        '`eva no-such-command` does not exist',
        '`make no-such-target` does not exist',
    ]


def test_the_page_on_safety_names_every_setting_with_its_default(repository):
    page = (repository / 'docs' / 'safety.md').read_text()
    shipped = yaml.safe_load((repository / 'config' / 'gate.yaml').read_text())['gate']
    for name, field in GateSettings.model_fields.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f'| `{name}` |')]
        value = str(shipped.get(name, field.default))
        assert f'| {value.lower() if value in ("True", "False") else value}' in row, row
    assert set(shipped) <= set(GateSettings.model_fields)
