"""A training is resumed, or refused with what is on disk left as it was."""

import os
import signal

import pytest
from test_training_divergence import run_direct
from test_training_divergence import run_grpo
from test_training_divergence import train_idm
from test_training_divergence import train_world_model
import torch

from eva_ros.errors import UserError
from eva_ros.training import launch
from eva_ros.training.folder_lock import held
from eva_ros.training.loop import TrainingLoop
from eva_ros.training.run_state import read_tensors
from eva_ros.training.run_state import STATE
from eva_ros.training.run_state import write_tensors


@pytest.mark.parametrize(
    ('run', 'name'),
    [
        (train_idm, STATE), (run_direct, STATE), (run_grpo, STATE),
        (train_world_model, 'run/state.pt'),
    ],
)  # fmt: skip
def test_a_state_of_an_earlier_version_is_refused_and_kept(tmp_path, run, name):
    path = tmp_path / name
    write_tensors(path, {'weights/x': torch.ones(2)}, {'step': 3, 'spent_s': 1.0, 'world': {}})
    before = path.read_bytes()
    with pytest.raises(UserError, match=rf'{name} is the state .* give another --out\.'):
        run(tmp_path)
    assert path.read_bytes() == before
    assert not (path.parent / STATE).exists() or path.name == STATE
    assert not (tmp_path / 'eva.json').exists()


@pytest.mark.parametrize('run', [train_idm, run_direct])
def test_a_second_training_in_a_folder_is_refused_while_the_first_goes_on(tmp_path, run):
    with held(tmp_path):
        with pytest.raises(UserError, match=r'Another training is under way in .*: wait for its'):
            run(tmp_path)
        assert not (tmp_path / 'eva.json').exists()
    run(tmp_path)


@pytest.fixture(autouse=True)
def interruptible():
    """Take Ctrl-C as a shell in the foreground has it: in the background it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def interrupt(monkeypatch):
    """Return a function that has signals sent to this process in the middle of a step."""
    update = TrainingLoop.update

    def at(step, *signals):
        def updated(loop, *losses):
            for number in signals if loop.step == step - 1 else ():
                os.kill(os.getpid(), number)
            return update(loop, *losses)

        monkeypatch.setattr(TrainingLoop, 'update', updated)

    return at


def stop(*_):
    raise SystemExit('stopped')


@pytest.mark.parametrize(
    ('run', 'state'),
    [(train_idm, STATE), (train_world_model, f'run/{STATE}'), (run_direct, STATE)],
)
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_resumes_after_its_last_step(
    tmp_path, interrupt, monkeypatch, capsys, run, state, number
):
    run(tmp_path / 'whole')
    before = signal.signal(signal.SIGTERM, stop)
    try:
        interrupt(3, number)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run(tmp_path / 'parts')
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capsys.readouterr().err
    assert 'interrupted after' in said and 'run the same command to resume' in said
    assert read_tensors(tmp_path / 'parts' / state)[1]['step'] == 3
    assert not (tmp_path / 'parts' / 'eva.json').exists()
    monkeypatch.undo()
    run(tmp_path / 'parts')
    whole, parts = (read_tensors(tmp_path / name / state)[0] for name in ('whole', 'parts'))
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=0, msg=name)


def test_a_second_interrupt_stops_at_once(tmp_path, interrupt):
    interrupt(3, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_idm(tmp_path)
    assert not (tmp_path / STATE).exists()


def test_an_interrupt_that_is_ignored_stays_ignored(tmp_path, interrupt):
    """As in a training that `nohup` or a shell put into the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        interrupt(3, signal.SIGINT)
        train_idm(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / 'eva.json').exists()


def interrupted_members(out):
    """Train in one of the processes; Ctrl-C reaches all, not at the same moment."""
    update, rank = TrainingLoop.update, launch.process_state().process_index

    def updated(loop, *losses):
        if loop.step == 2 + rank:
            os.kill(os.getpid(), signal.SIGINT)
        return update(loop, *losses)

    TrainingLoop.update = updated
    train_idm(out)


@pytest.mark.slow
def test_an_interrupt_of_several_processes_saves_and_ends_all(tmp_path):
    launch.launch(2, interrupted_members, tmp_path)
    assert read_tensors(tmp_path / STATE)[1]['step'] == 3
    assert not (tmp_path / 'eva.json').exists()
    launch.launch(2, train_idm, tmp_path)
    assert (tmp_path / 'eva.json').exists()
