"""`eva evaluate`: pure JSON on stdout, one sentence for what is wrong."""

from dataclasses import replace
import json
from pathlib import Path
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import load_file
from safetensors.torch import save_file
from small_models import lively_world_model
from small_models import ROBOT
from small_models import small_critic
from small_models import small_idm
from small_models import VIEW
import torch

from eva_ros.alignment.attempts import read_dreams
from eva_ros.alignment.best_of import BestOf
from eva_ros.alignment.critic import words_of
from eva_ros.cli.main import main
from eva_ros.evaluation import comparison
from eva_ros.evaluation import variants
from eva_ros.evaluation.closed_loop import EpisodeResult
from eva_ros.inspection.check import check_bag
from eva_ros.observations.views import load_view
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.records import EpisodeRecord
from eva_ros.robot.paths import checkpoint_dir
from eva_ros.robot.spec import load_robot
from eva_ros.sim.tasks import find_task
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import World
from eva_ros.training.manifest import write_manifest
from eva_ros.world_model.checkpoint import load_world_model
from eva_ros.world_model.pipeline import WorldModel


def eva(*arguments):
    """Run `eva` in a process of its own."""
    command = [sys.executable, '-m', 'eva_ros.cli.main', *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


def test_stdout_is_the_json_of_the_counts_and_nothing_else(tmp_path):
    out = tmp_path / 'attempts.jsonl'
    done = eva(
        *('evaluate', '--robot', 'aloha_sim', '--tasks', 'reach_left', 'reach_right'),
        *('--variants', 'still', '--episodes', '2', '--seed', '5', '--workers', '2'),
        *('--json', '--out', str(out)),
    )
    assert done.returncode == 0, done.stderr
    nothing = {'episodes': 2, 'successes': 0}
    tasks = ('reach_left', 'reach_right')
    assert json.loads(done.stdout) == {
        'robot': 'aloha_sim',
        'seed': 5,
        'strict': True,
        'scenes': 'clean',
        'phrasings': 'shipped',
        'mode': 'look_dream_move',
        'think_times_s': [0.2],
        'variants': {
            'still': {
                'tasks': dict.fromkeys(tasks, nothing),
                'confusion': {task: {'nothing': 2} for task in tasks},
            }
        },
    }
    assert done.stdout.count('\n') == 1
    assert 'attempts: 4/4  100%' in done.stderr
    attempts = [json.loads(line) for line in out.read_text().splitlines()]
    assert {attempt['scene'] for attempt in attempts} == {5, 6}
    assert all(attempt['strict'] and attempt['tasks_done'] == [] for attempt in attempts)
    told = {attempt['instruction'] for attempt in attempts}
    for task in ('reach_left', 'reach_right'):
        held_out = set(find_task(task).shipped.held_out)
        assert told & held_out and not held_out & set(find_task(task).shipped.training)
        told -= held_out
    assert not told
    assert all(attempt['elapsed_s'] == pytest.approx(10.0, abs=0.05) for attempt in attempts)


def test_recording_changes_no_attempt_and_leaves_a_bag_of_each(tmp_path):
    asked = ('--tasks', 'reach_left', '--variants', 'unaligned', 'still', '--episodes', '1')
    asked = ('evaluate', *asked, '--seed', '104', '--workers', '1', '--out')
    folder = tmp_path / 'attempts'
    assert main([*asked, str(tmp_path / 'not')]) == 0
    assert main([*asked, str(tmp_path / 'recorded'), '--record', str(folder)]) == 0
    assert (tmp_path / 'recorded').read_text() == (tmp_path / 'not').read_text()
    robot, view = load_robot('aloha_sim'), load_view('aloha_sim')
    for variant, success in (('unaligned', True), ('still', False)):
        bag = folder / variant / 'reach_left-00104'
        checked = check_bag(bag, robot, view)
        assert checked.verdict == 'usable', checked.reasons
        with BagReader(bag) as reader:
            assert reader.facts['eva.success'] == str(success).lower()
            assert reader.facts['eva.variant'] == variant
            first, *_, last = (r for r in reader.records() if isinstance(r, EpisodeRecord))
        assert first.starts and first.success is None and last.success is success
        assert first.instruction == last.instruction == reader.facts['eva.instruction'] != ''
    made = list(read_dreams([folder / 'unaligned'], robot, view))
    assert made and all(dream.sent for dream in made)
    seeds = [dream.rollout.seed for dream in made]
    assert seeds == list(range(104_000, 104_000 + len(made)))
    assert {dream.rollout.checkpoint.partition('@')[0] for dream in made} == {'world_model'}
    # A control moves without a dream.
    assert not list(read_dreams([folder / 'still'], robot, view))


def test_overlap_is_charged_what_dreams_take_here_and_says_how_long_the_arms_stood(
    tmp_path, capsys
):
    out = tmp_path / 'attempts.jsonl'
    asked = ('evaluate', '--tasks', 'reach_left', '--variants', 'unaligned', '--episodes', '1')
    asked = (*asked, '--seed', '104', '--workers', '1', '--json', '--out', str(out))
    asked = (*asked, '--time-limit', '4')
    assert main([*asked, '--mode', 'overlap']) == 0
    counted = json.loads(capsys.readouterr().out)
    (attempt,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert counted['mode'] == attempt['mode'] == 'overlap'
    times_s = counted['think_times_s']
    assert len(times_s) == 16 and 0.005 < min(times_s) < max(times_s)
    assert 0 < attempt['standing_s'] < attempt['elapsed_s']
    # The same again, on any machine.
    again = [str(seconds) for seconds in times_s]
    assert main([*asked, '--mode', 'overlap', '--think-time', *again]) == 0
    assert json.loads(capsys.readouterr().out)['variants'] == counted['variants']
    assert [json.loads(line) for line in out.read_text().splitlines()] == [attempt]


def test_a_bag_that_exists_is_not_recorded_again(tmp_path, capsys):
    (tmp_path / 'still' / 'reach_left-00100').mkdir(parents=True)
    asked = ('--tasks', 'reach_left', '--variants', 'still', '--episodes', '1')
    assert main(['evaluate', *asked, '--record', str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert 'reach_left-00100 exists: give --record another folder' in said


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('--tasks', 'juggle'), ("no task 'juggle'", 'reach_left')),
        (('--variants', 'clever'), ('no variant clever', 'unaligned')),
        (('--variants', 'best_of_1'), ('best_of_1', 'N from 2 to 16')),
        (('--variants', 'any_of_99'), ('any_of_99', 'N from 2 to 16')),
        (('--variants', 'any_of_4_by_progress'), ('no variant any_of_4_by_progress',)),
        (('--variants', 'best_of_4', '--best-of-by', 'luck'), ("'luck'", 'consensus')),
        (('--best-of-by', 'consensus'), ('--best-of-by', 'best_of_4')),
        (('--critic', 'models/critic'), ('--critic', 'best_of_4')),
        (('--variants', 'best_of_4', '--critic', 'models/idm'), ('models/idm', 'critic')),
        (('--robot', 'nobody'), ('"nobody"', 'aloha_sim')),
        (('--robot', 'piper_dual', '--view', 'aloha_sim'), ('piper_dual', 'simulated')),
        (('--tasks', 'lift_bar'), ('no instruction for lift_bar', '--phrasings')),
        (('--phrasings', 'rude'), ('rude', 'held_out')),
        (('--episodes', '0'), ('--episodes', 'above zero')),
        (('--adapters', 'other'), ("'other'", 'NAME=FOLDER')),
        (('--adapters', 'other=models/aligned'), ('other', '--variants')),
        (('--select', 'models/idm'), ("kind 'idm'", 'an adapter')),
        (('--select', 'models/aligned', 'models/aligned'), ('--select', 'aligned', 'rename')),
        (('--time-limit', '0'), ('--time-limit', 'above zero')),
        (('--think-time', '-1'), ('--think-time', 'negative')),
        (('--think-time', 'measured'), ('Controls do not dream', '--think-time')),
        (('--think-time', 'measured', '0.2'), ('measured or times in seconds', 'not both')),
        (('--mode', 'hasty'), ('hasty', 'look_dream_move', 'overlap')),
        (('--switch', '1.5'), ('--switch', 'between 0 and 1')),
        (('--switch', '0.5'), ('--switch', '--mode overlap', 'leave it out')),
        (('--adapters', 'still=models/aligned'), ('--adapters still', 'take another')),
        (('--adapters', 'best_of_4=models/aligned'), ('--adapters best_of_4', 'take another')),
        (('--adapters', 'a=models/aligned', 'a=other'), ('--adapters a', 'two adapters')),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(capsys, arguments, words):
    with pytest.raises(SystemExit) as end:
        raise SystemExit(main(['evaluate', '--variants', 'still', *arguments]))
    captured = capsys.readouterr()
    assert end.value.code == 2
    assert captured.out == ''
    sentence = [line for line in captured.err.splitlines() if line.strip()][-1]
    for word in words:
        assert word in sentence


def test_missing_checkpoint_is_named(capsys, tmp_path):
    for variant in ('unaligned', 'nearest_start'):
        assert main(['evaluate', '--variants', variant, '--models', str(tmp_path)]) == 2
        captured = capsys.readouterr()
        assert captured.out == '' and str(tmp_path) in captured.err


@pytest.mark.parametrize(
    'wrong',
    [
        ('--variants', 'unaligned', 'clever'),
        ('--tasks', 'juggle'),
        ('--variants', 'unaligned', 'best_of_4', '--best-of-by', 'luck'),
        ('--variants', 'unaligned', 'nearest_start'),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_dreams_are_timed(
    capsys, models, monkeypatch, wrong
):
    monkeypatch.setattr(WorldModel, 'dream', None)
    command = [*evaluate(models, 'unaligned'), '--think-time', 'measured', *wrong]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert 'charging' not in said and said.count('\n') == 1


@pytest.fixture
def models(tmp_path):
    """Return a folder of small models without a critic."""
    words = words_of(find_task('reach_left').shipped.held_out)
    lively_world_model(tmp_path / 'models' / 'world_model', words)
    small_idm(tmp_path / 'models' / 'idm', ROBOT.home)
    return tmp_path / 'models'


def evaluate(models, *variants):
    chosen = ('--tasks', 'reach_left', '--episodes', '1', '--seed', '5', '--workers', '1')
    return ['evaluate', *chosen, '--models', str(models), '--json', '--variants', *variants]


def test_best_of_4_is_a_variant_that_chooses_by_what_is_asked(capsys, models, monkeypatch):
    asked = []
    dream = BestOf.dream

    def listening(self, *args, **options):
        rollout = dream(self, *args, **options)
        asked.append((self.candidates, options['seed'], rollout.seed))
        return rollout

    monkeypatch.setattr(BestOf, 'dream', listening)
    # Whatever is seen, one pose is read: every candidate agrees with the others.
    assert main([*evaluate(models, 'best_of_4'), '--best-of-by', 'consensus']) == 0
    told = json.loads(capsys.readouterr().out)
    counted = {'reach_left': {'episodes': 1, 'successes': 0}}
    assert told['variants']['best_of_4']['tasks'] == counted
    assert asked[:2] == [(4, 5000, 5000), (4, 5001, 5001)]


def test_best_of_4_takes_the_critic_of_the_models_and_refuses_one_that_does_not_fit(
    capsys, models
):
    assert main(evaluate(models, 'best_of_4')) == 2
    assert 'needs a critic' in capsys.readouterr().err
    small_critic(models / 'critic', VIEW.model_copy(update={'rate_hz': 5.0}))
    assert main(evaluate(models, 'best_of_4')) == 2
    assert 'progress critic trained at 5 Hz' in capsys.readouterr().err


def test_any_of_4_counts_one_success_and_gives_each_try_its_own_seeds(capsys, models, monkeypatch):
    begun, end = [], EpisodeResult(False, 10.0, 1.0, 1, 0, (), None, 0, 9.0)

    def attempt(sim, instruction, planner, *rest, seed, history):
        assert planner == seed
        begun.append((sim.time_ns, seed))
        return replace(end, success=len(begun) in (3, 4))

    monkeypatch.setattr(
        comparison, 'load_driver', lambda name, world: variants.Driver(lambda a: a.seed)
    )
    monkeypatch.setattr(comparison, 'run_episode', attempt)
    command = evaluate(models, 'any_of_4', 'unaligned')
    assert main(command) == 0
    told = json.loads(capsys.readouterr().out)['variants']
    assert [told[name]['tasks']['reach_left']['successes'] for name in told] == [1, 1]
    assert [seed for _, seed in begun] == [5000, 5060, 5120, 5000]
    assert len({time for time, _ in begun}) == 1


def test_adapters_are_variants_and_a_missing_one_is_named(capsys, models, monkeypatch):
    loaded = []

    def loading(self, lora):
        loaded.append(lora)
        return load_world_model(models / 'world_model')

    monkeypatch.setattr(variants.World, 'world_model', loading)
    named = ('--adapters', 'tuned=some/lora')
    assert main([*evaluate(models, 'unaligned', 'tuned'), *named, '--time-limit', '0.3']) == 0
    assert loaded == [None, Path('some/lora')]
    assert set(json.loads(capsys.readouterr().out)['variants']) == {'unaligned', 'tuned'}
    monkeypatch.undo()
    assert main([*evaluate(models, 'tuned'), *named]) == 2
    assert 'some/lora' in capsys.readouterr().err


def test_select_names_the_best_adapter_on_scenes_that_are_not_for_reporting(
    capsys, models, tmp_path, monkeypatch
):
    loras = [tmp_path / name for name in ('lora-100', 'lora-20', 'lora-5')]
    for lora in loras:
        done = {'iterations': int(lora.name.split('-')[1])}
        write_manifest(lora, Manifest('adapter', World(), {}, done))
    end = EpisodeResult(False, 10.0, 1.0, 1, 0, (), None, 0, 9.0)

    def attempt(sim, instruction, planner, *rest, seed, history):
        """Let both longer alignments succeed in both scenes, the others in one."""
        return replace(end, success=planner in ('lora-100', 'lora-20') or seed == 800_000_000)

    monkeypatch.setattr(
        comparison, 'load_driver', lambda name, world: variants.Driver(lambda a: name)
    )
    monkeypatch.setattr(comparison, 'run_episode', attempt)
    asked = ['evaluate', '--tasks', 'reach_left', '--episodes', '2', '--workers', '1']
    asked += ['--models', str(models), '--select', *map(str, loras)]
    assert main([*asked, '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert told['seed'] == 800_000
    assert list(told['variants']) == ['unaligned', 'lora-5', 'lora-20', 'lora-100']
    selected = told['selected']
    # Of two that succeed as often, the one that was trained for less long.
    assert (selected['variant'], selected['lora']) == ('lora-20', str(tmp_path / 'lora-20'))
    assert (selected['successes'], selected['episodes'], selected['gain']) == (2, 2, 0.5)
    assert selected['interval'] == pytest.approx([0.342, 1.0], abs=1e-3)
    assert main(asked) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith(f'Selected: {tmp_path / "lora-20"}, 2 of 2 = 100% [34%, 100%]; against')
    assert 'report its success on other scenes (--seed)' in said
    monkeypatch.setattr(comparison, 'run_episode', lambda *a, **k: end)
    assert main(asked) == 0
    assert 'which no adapter surpasses' in capsys.readouterr().out.splitlines()[-1]


def test_dreams_take_the_steps_asked_for_and_attempts_the_time(capsys, models, tmp_path):
    out, folder = tmp_path / 'out.jsonl', tmp_path / 'bags'
    asked = ('--steps', '1', '--time-limit', '3', '--out', str(out), '--record', str(folder))
    assert main([*evaluate(models, 'unaligned'), *asked]) == 0
    (attempt,) = map(json.loads, out.read_text().splitlines())
    assert attempt['elapsed_s'] == pytest.approx(3.0, abs=0.05)
    dreams = list(read_dreams([folder], load_robot('aloha_sim'), load_view('aloha_sim')))
    assert {dream.rollout.denoising_steps for dream in dreams} == {1}


def test_smoothed_is_the_same_dream_and_a_smoother_path(monkeypatch):
    robot, view = load_robot('aloha_sim'), load_view('aloha_sim')
    world = variants.World(robot, view, checkpoint_dir())
    joints = np.array(robot.home)
    observation = SimpleNamespace(
        view=np.zeros((view.height, view.width, 3), np.uint8), joint_positions=joints, before=()
    )
    attempt = variants.Attempt('reach_left', 'transfer the cube', 3)
    plans = [
        variants.load_driver(name, world)(attempt)(observation)
        for name in ('unaligned', 'smoothed')
    ]
    np.testing.assert_array_equal(plans[0].frames, plans[1].frames)
    rough, smoothed = (np.abs(np.diff(plan.positions, 3, axis=0)).sum() for plan in plans)
    assert smoothed < rough


@pytest.mark.slow
def test_a_dream_that_is_not_finite_ends_the_evaluation_with_its_sentence(capfd, tmp_path):
    models = shutil.copytree(checkpoint_dir(), tmp_path / 'models')
    path = models / 'world_model' / 'codec' / 'codec.safetensors'
    # Finite, but what is decoded with it is not.
    save_file({**load_file(path), 'change_scale': torch.tensor(3e38)}, path)
    chosen = ('--tasks', 'reach_left', '--variants', 'unaligned', '--episodes', '2')
    assert main(['evaluate', *chosen, '--models', str(models), '--workers', '2']) == 2
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith('eva: A dream of the world model')
    assert 'not finite' in said
