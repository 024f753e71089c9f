"""`eva align` on the shipped models: it writes an adapter, judges it, and refuses wrong use."""

import json

import pytest

from eva_ros.cli.main import main
from eva_ros.robot.paths import checkpoint_dir

MODELS = (
    *('--world-model', str(checkpoint_dir() / 'world_model')),
    *('--idm', str(checkpoint_dir() / 'idm')),
)


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bags')
    record = ('sim', 'record', '--task', 'reach_left', '--episodes', '3', '--seed', '900')
    assert main([*record, '--out', str(folder)]) == 0
    cache = tmp_path_factory.mktemp('cache')
    return ('--bags', str(folder), '--cache', str(cache), '--held-out', '0.34')


@pytest.mark.slow
@pytest.mark.parametrize(
    'algorithm',
    [('direct', '--dreams', '1'), ('grpo', '--groups', '1', '--group-size', '2')],
    ids=['direct', 'grpo'],
)
def test_an_adapter_is_written_and_judged_on_views_it_was_not_trained_on(
    bags, tmp_path, capfd, algorithm
):
    lora = str(tmp_path / 'lora')
    made = main(
        ['align', *bags, *MODELS, '--out', lora, '--iterations', '1',
         '--algorithm', *algorithm]
    )  # fmt: skip
    assert made == 0
    about = json.loads((tmp_path / 'lora' / 'eva.json').read_text())
    assert about['training']['algorithm'] == algorithm[0]
    assert about['training']['settings']['steps'] == 4
    capfd.readouterr()
    judged = main(
        ['align', 'evaluate', *bags, *MODELS, '--lora', lora,
         '--views', '1', '--second-idm', str(checkpoint_dir() / 'idm'), '--json']
    )  # fmt: skip
    assert judged == 0
    figures = json.loads(capfd.readouterr().out)
    assert figures['views'] == 1
    # The same decoder read the same dreams twice.
    assert figures['second_idm'] == {k: v for k, v in figures.items() if k != 'second_idm'}


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ((), ('--bags', '--minutes')),
        (('--iterations', '1', '--groups', '2'), ('--groups', 'direct')),
        (('--iterations', '1', '--algorithm', 'grpo', '--dreams', '2'), ('--dreams', 'grpo')),
    ],
)
def test_wrong_use_is_one_sentence_and_nothing_is_written(tmp_path, capsys, arguments, words):
    given = ('--bags', str(tmp_path), *MODELS, '--out', str(tmp_path / 'lora'))
    assert main(['align', *(given if arguments else ()), *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count('\n') == 1
    for word in words:
        assert word in said
    assert not (tmp_path / 'lora').exists()


def test_a_folder_that_is_no_adapter_is_refused(bags, tmp_path, capsys):
    lora = ('--lora', str(tmp_path), '--views', '1')
    assert main(['align', 'evaluate', *bags, *MODELS, *lora]) == 2
    assert f'{tmp_path} does not hold an adapter' in capsys.readouterr().err
