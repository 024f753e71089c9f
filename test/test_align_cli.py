"""`eva align` on the shipped models: it writes an adapter, judges it, and refuses wrong use."""

import json
from types import SimpleNamespace

from episode_bags import record
import pytest
from small_models import lively_world_model
from small_models import small_world_model
from test_alignment_attempts import write_attempts

from eva_ros.alignment.policy import WorldModelPolicy
from eva_ros.alignment.verified import Tolerance
from eva_ros.cli import loading
from eva_ros.cli.main import main
from eva_ros.episodes.dataset import split_episodes
from eva_ros.errors import UserError
from eva_ros.robot.paths import checkpoint_dir
from eva_ros.robot.spec import load_robot
from eva_ros.training.weights import checkpoint_label
from eva_ros.world_model.checkpoint import load_world_model

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
    # As many as the model takes, but Flow-GRPO needs more than one.
    assert about['training']['settings']['steps'] == (4 if algorithm[0] == 'grpo' else 1)
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
        (('--iterations', '1', '--motion-band', '1.2', '2'), ('--motion-band', 'sides of 1')),
        (
            ('--iterations', '1', '--algorithm', 'finetune', '--second-idm', 'x'),
            ('--second-idm', 'finetune', 'direct or grpo'),
        ),
        (
            ('--iterations', '1', '--second-idm', 'x', '--held-out', '0'),
            ('--second-idm', '--held-out'),
        ),
        (
            ('--iterations', '1', '--algorithm', 'grpo', '--dream-steps', '1'),
            ('grpo trains the first 2 denoising steps', 'give --dream-steps 2 or more'),
        ),
        (
            ('--iterations', '1', '--gradient-steps', '3', '--dream-steps', '2'),
            ('3 denoising steps', 'has 2', 'give --gradient-steps 2 or fewer'),
        ),
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


def test_an_aligned_adapter_is_refused_by_other_weights_of_the_same_name(tmp_path):
    base, other = small_world_model(tmp_path / 'base'), lively_world_model(tmp_path / 'other')
    lora = tmp_path / 'lora'
    WorldModelPolicy(load_world_model(base), rank=4, seed=0).save(lora, {})
    load_world_model(base, lora=lora)
    with pytest.raises(UserError, match=r'lora was trained on other weights of small than these'):
        load_world_model(other, lora=lora)
    # An adapter of an earlier version does not say its base.
    about = json.loads((lora / 'eva.json').read_text())
    del about['base']
    (lora / 'eva.json').write_text(json.dumps(about))
    load_world_model(other, lora=lora)


def test_a_folder_that_is_no_adapter_is_refused(bags, tmp_path, capsys):
    lora = ('--lora', str(tmp_path), '--views', '1')
    assert main(['align', 'evaluate', *bags, *MODELS, *lora]) == 2
    assert f'{tmp_path} does not hold an adapter' in capsys.readouterr().err


@pytest.mark.slow
def test_learning_from_demonstrations_needs_no_inverse_dynamics_model(bags, tmp_path, capsys):
    lora = tmp_path / 'lora'
    given = [*bags, *MODELS[:2], '--algorithm', 'finetune', '--clips', '1', '--iterations', '2']
    assert main(['align', *given, '--keep-every', '1', '--out', str(lora)]) == 0
    for folder, done in ((tmp_path / 'lora-1', 1), (tmp_path / 'lora-2', 2), (lora, 2)):
        about = json.loads((folder / 'eva.json').read_text())['training']
        assert (about['iterations'], about['idm'], 'reward' in about) == (done, None, False)
    assert [check['motion_ratio'] for check in about['checks']] == [None, None]
    capsys.readouterr()
    # Its dreams can be judged all the same.
    asked = ('--lora', str(tmp_path / 'lora-1'), '--views', '1', '--json')
    assert main(['align', 'evaluate', *bags, *MODELS, *asked]) == 0
    assert json.loads(capsys.readouterr().out)['views'] == 1


@pytest.mark.slow
def test_only_one_of_several_processes_verifies_the_attempts(bags, tmp_path, capfd):
    kept = tmp_path / 'tolerance.json'
    names = load_robot('aloha_sim').joint_names
    idm = checkpoint_label(checkpoint_dir() / 'idm')
    Tolerance(1e6, (1.0,) * len(names), names, 10, idm).save(kept)
    given = [*bags, *MODELS, '--attempts', bags[1], '--tolerance', str(kept)]
    given += ['--algorithm', 'filtered', '--clips', '4', '--iterations', '1', '--processes', '2']
    assert main(['align', *given, '--out', str(tmp_path / 'lora')]) == 0
    assert capfd.readouterr().err.count('verified  left out') == 1
    assert json.loads((tmp_path / 'lora' / 'eva.json').read_text())['training']['own'] >= 3


def test_recordings_without_an_instruction_are_refused_in_a_sentence(tmp_path, capsys):
    record(tmp_path / 'bags' / 'one', instruction='')
    given = ('--bags', str(tmp_path / 'bags'), '--cache', str(tmp_path / 'cache'))
    out = ('--out', str(tmp_path / 'lora'), '--iterations', '1')
    assert main(['align', *given, *MODELS, *out]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith('eva: None of the recordings has an instruction: record with Episode')


PROBED = ('--idm', str(checkpoint_dir() / 'idm'), '--clips', '6', '--json')
NAMES = [
    *('jumped', 'shuffled', 'noise', 'still', 'reversed', 'wrong_arm', 'swapped_instruction'),
    *('blur', 'wrong_place'),
]


def test_probes_are_printed_as_json_with_every_term_and_the_sum(bags, capsys):
    given = [*bags, '--reward', 'executability=1', 'similarity=10']
    given[given.index('--held-out') + 1] = '0.67'
    assert main(['align', 'probe', *given, *PROBED, '--attempts', bags[1]]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert list(told) == ['probes', 'attempts']
    assert list(told['probes']) == NAMES
    terms = {'executability', 'motion', 'similarity', 'outcome', 'sum'}
    assert all(set(aucs) == terms for aucs in told['probes'].values())
    assert told['probes']['still']['similarity'] > 0.8
    assert told['probes']['still']['executability'] < 0.2
    # There is no other task in these recordings.
    assert set(told['probes']['swapped_instruction'].values()) == {None}
    found = told['attempts']['reach_left']
    assert (found['episodes'], set(found['auc'])) == (3, terms)
    assert 'an AUC needs two of each' in said.err


def test_verified_parts_of_attempts_are_counted_with_why_others_are_not(bags, tmp_path, capsys):
    folder, kept = checkpoint_dir() / 'idm', tmp_path / 'tolerance.json'
    names = load_robot('aloha_sim').joint_names
    idm = checkpoint_label(folder)
    Tolerance(1e6, (1.0,) * len(names), names, 10, idm).save(kept)
    given = ['align', 'verify', *bags, '--idm', str(folder), '--attempts', bags[1]]
    assert main([*given, '--tolerance', str(kept), '--json']) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert told['tolerance'] == {'limit': 1e6, 'parts': 10, 'idm': idm}
    # Nothing was dreamed in these.
    assert told['dreams'] == {}
    found = told['tasks']['reach_left']
    assert found['attempts'] == found['successes'] == 3
    assert found['verified'] == found['parts'] >= 3 and found['rejected'] == {}
    assert '3 successes in 3 attempts: learning from outcomes needs two of each' in said.err
    Tolerance(1e-6, (1.0,) * len(names), names, 10, idm).save(kept)
    assert main([*given, '--tolerance', str(kept)]) == 0
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row[:4] == ['reach_left', '3/3', str(found['parts']), '0']
    assert row[4:] == ['cameras', 'and', 'joints', 'disagree', str(found['parts'])]


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('--lora', 'x'), '--lora belongs to a --world-model: give both.'),
        (('--world-model', 'nowhere'), 'There is no checkpoint folder nowhere.'),
        ((), 'motions from rest, and the tolerance needs 10 at least'),
    ],
)
def test_attempts_that_cannot_be_verified_are_refused_in_a_sentence(
    bags, capsys, arguments, words
):
    given = ['align', 'verify', *bags, '--idm', str(checkpoint_dir() / 'idm'), '--attempts']
    assert main([*given, bags[1], *arguments]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith('eva: ') and words in said


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('--preset', 'paper'), ('blind to', 'still', '--accept-blind')),
        (('--reward', 'executability'), ('blind to', 'still', '--accept-blind')),
        (('--preset', 'paper', '--accept-blind', 'wrong_arm'), ('blind to', 'still')),
        (('--accept-blind', 'stil'), ("no probe 'stil'",)),
        (('--reward', 'beauty=2'), ("no term 'beauty'",)),
        (('--reward', 'similarity=0'), ('every weight is zero',)),
        (('--reward', 'similarity=-1'), ('negative',)),
        (('--reward', 'progress'), ('--critic',)),
        (('--reward', 'progress', '--critic', 'none'), ('does not hold a progress critic',)),
        (('--reward', 'outcome', 'motion'), ('the same whatever is dreamed', 'nft')),
        (('--similarity-tau', '0.1'), ('give --reward similarity=WEIGHT too',)),
        (('--algorithm', 'finetune', '--similarity-tau', '1'), ('leave --similarity-tau out',)),
    ],
)
def test_a_reward_that_cannot_be_trained_on_is_refused_before_training(
    bags, tmp_path, capsys, arguments, words
):
    given = [*bags, *MODELS, '--out', str(tmp_path / 'lora'), '--iterations', '1', *arguments]
    assert main(['align', *given]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith('eva: ')
    for word in words:
        assert word in said
    assert not (tmp_path / 'lora').exists()


def test_a_critic_is_trained_from_recordings_and_becomes_a_term(bags, tmp_path, capsys):
    critic = str(tmp_path / 'critic')
    assert main(['align', 'critic', *bags, '--out', critic, '--steps', '2']) == 0
    assert 'held-out pairs in the right order' in capsys.readouterr().out
    given = [*bags, *PROBED, '--critic', critic, '--reward', 'progress']
    assert main(['align', 'probe', *given]) == 0
    told = json.loads(capsys.readouterr().out)['probes']
    assert all(aucs['progress'] == aucs['sum'] for aucs in told.values())


@pytest.mark.parametrize('command', ['align', 'world-model train', 'align critic'])
def test_failed_attempts_among_the_recordings_are_not_imitated(tmp_path, capsys, command):
    write_attempts(tmp_path / 'bags' / 'failed', (False, False))
    given = ['--bags', str(tmp_path / 'bags'), '--cache', str(tmp_path / 'cache')]
    models = MODELS if command == 'align' else ()
    budget = ('--iterations', '1') if command == 'align' else ('--steps', '1')
    out = ['--out', str(tmp_path / 'out'), *budget]
    assert main([*command.split(), *given, *models, *out]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == 'eva: All 2 episodes in --bags failed: there is nothing to imitate.'
    assert not (tmp_path / 'out').exists()


def test_failed_episodes_are_left_out_after_the_split_that_all_commands_share(capsys):
    def episode(source, success):
        return SimpleNamespace(task='a', source=source, number=0, success=success)

    episodes = [episode(f'bag{n}', n % 3 > 0) for n in range(40)]
    split = split_episodes(episodes, 0.2, 0)
    kept = loading.without_failed(split)
    for part, rest in zip(split, kept, strict=True):
        assert rest == [e for e in part if e.success]
    assert capsys.readouterr().err.startswith('14 of 40 episodes failed and are left out')
    loading.without_failed(split, quiet=True)
    loading.without_failed([[], []])
    assert not capsys.readouterr().err
