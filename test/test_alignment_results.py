"""The tables of the alignments, from what was recorded of their attempts."""

import importlib
import json
from pathlib import Path
import sys

import pytest

SCRIPTS = Path(__file__).parents[1] / 'scripts'
RESULT = {
    'variants': ['unaligned', 'tuned_0', 'tuned_1', 'best_of_4'],
    'cells': {
        'lift, clean': {
            'seeds': [1, 2, 3, 4],
            'successes': {
                'unaligned': [0, 0, 1, 1],
                'tuned_0': [1, 0, 1, 1],
                'tuned_1': [1, 1, 1, 0],
                'best_of_4': [0, 0, 0, 1],
            },
        }
    },
}


@pytest.fixture
def results(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    sys.modules.pop('alignment_results', None)
    return importlib.import_module('alignment_results')


def rows(text):
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines()]
    return {row[0]: row[1:] for row in cells[2:]}


def test_training_seeds_get_a_row_of_their_mean(results):
    found = rows(results.table(RESULT))
    assert list(found) == [*(f'`{v}`' for v in RESULT['variants']), '`tuned`, mean of 2 seeds']
    share, gain, counts, p_value = found['`tuned`, mean of 2 seeds']
    assert share == '75%'
    assert gain.startswith('+25.0 (')
    assert counts == p_value == ''
    assert found['`tuned_0`'][2] == '1 / 0'


def test_variants_are_compared_with_any_of_them(results):
    found = rows(results.table(RESULT, 'tuned'))
    assert found['`unaligned`'][1].startswith('-25.0 (')
    assert found['`tuned`, mean of 2 seeds'][1] == ''
    with pytest.raises(SystemExit, match='unknown variant tund: choose from unaligned, tuned_0'):
        results.table(RESULT, 'tund')


def test_a_number_of_dreams_is_no_training_seed(results):
    renamed = {'tuned_0': 'any_of_2', 'tuned_1': 'any_of_4'}
    found = rows(results.table(json.loads(_renamed(RESULT, renamed))))
    assert list(found) == ['`unaligned`', '`any_of_2`', '`any_of_4`', '`best_of_4`']


def test_a_variant_with_the_name_of_several_seeds_is_refused(results):
    with pytest.raises(SystemExit, match='tuned is a variant and the name of several seeds'):
        results.table(json.loads(_renamed(RESULT, {'unaligned': 'tuned'})))


def _renamed(result, names):
    text = json.dumps(result)
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    return text
