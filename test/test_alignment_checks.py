"""Held-out views stop an alignment whose reward rises while its dreams get worse."""

from dataclasses import replace
import json
from types import SimpleNamespace

import alignment_world
import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import torch

from eva_ros.alignment.direct import DirectSettings
from eva_ros.alignment.held_out_checks import CheckSettings
from eva_ros.alignment.held_out_checks import HeldOutChecks
from eva_ros.alignment.own_attempts import FinetuneSettings
from eva_ros.alignment.policy import WorldModelPolicy
from eva_ros.alignment.trainer import align
from eva_ros.alignment.trainer import training_loop
from eva_ros.errors import UserError
from eva_ros.training import launch

WEIGHTS = 'pytorch_lora_weights.safetensors'


class PlantedJudge(alignment_world.BrightnessJudge):
    """Likes what its inverse dynamics model likes: bright dreams, dark ones, or still ones."""

    def __call__(self, frames, demonstrated, prompts=()):
        judged = super().__call__(frames, demonstrated)
        moved = (frames[:, 1:] - frames[:, :1]).abs().mean((1, 2, 3, 4))
        likes = self.idm.likes
        reward = -100 * moved if likes == 'still' else likes * judged.reward
        return judged._replace(reward=reward, travelled=20 * moved.detach())


def idm(likes):
    return SimpleNamespace(likes=likes, config=SimpleNamespace(rate_hz=10.0))


def judge(likes=1.0):
    parts = vars(alignment_world.brightness_judge()) | {'idm': idm(likes)}
    return PlantedJudge(**parts)


def settings(**changes):
    given = {
        'iterations': 12, 'dreams': 4, 'steps': 1, 'rank': 4, 'learning_rate': 4e-3,
        'data_weight': 0.1, 'data_clips': 2,
    }  # fmt: skip
    return DirectSettings(**(given | changes))


def policy():
    return WorldModelPolicy(alignment_world.world_model(), 4, 0)


def checks(second=None, **changes):
    given = {'every': 2, 'views': 4} | changes
    return HeldOutChecks(alignment_world.prompts(8)[6:], CheckSettings(**given), second)


def run(out, chosen, looks, judged=None):
    return align(policy(), alignment_world.prompts(), judged or judge(), out, chosen, checks=looks)


def card(folder):
    return json.loads((folder / 'eva.json').read_text())['training']


def test_dreams_that_come_to_rest_stop_it_and_the_last_good_adapter_is_kept(tmp_path, capsys):
    out, looks = tmp_path / 'lora', checks(least_motion=0.8)
    chosen = settings(learning_rate=1e-2, data_weight=0.0, iterations=40, keep_every=2)
    loop = run(out, chosen, looks, judge('still'))
    stopped = loop.step
    assert 2 < stopped < 40
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f'align: stopped at iteration {stopped}: the dreams from held-out')
    assert 'times as far as the recordings' in said
    assert said.endswith(
        f'the adapter of iteration {stopped - 2}, the last that passed, is in {out}'
    )
    assert card(out)['iterations'] == stopped - 2
    # The same weights as those that were kept at that iteration, and not those of the end.
    weights = [load_file(f / WEIGHTS) for f in (out, tmp_path / f'lora-{stopped - 2}')]
    assert all(torch.equal(weights[1][name], value) for name, value in weights[0].items())
    last = load_file(tmp_path / f'lora-{stopped}' / WEIGHTS)
    assert not all(torch.equal(last[name], value) for name, value in weights[0].items())
    # The same command says the same again; a wider band lets it go on.
    again = run(out, chosen, checks(least_motion=0.8), judge('still'))
    assert again.step == stopped
    assert capsys.readouterr().err.splitlines()[-1] == said
    longer = replace(chosen, iterations=stopped + 1)
    wider = run(out, longer, checks(least_motion=1e-6), judge('still'))
    assert wider.step == card(out)['iterations'] == stopped + 1


def test_a_reward_that_breaks_the_data_loss_stops_it(tmp_path, capsys):
    chosen = settings(learning_rate=2e-2, data_weight=0.0, iterations=40)
    looks = checks(loss_rise=0.05, most_motion=1e6)
    loop = run(tmp_path, chosen, looks)
    assert loop.step < 40
    assert 'the data loss on held-out recordings has risen by' in capsys.readouterr().err
    start, *_, passed, last = looks.made
    assert last.data_loss > 1.05 * start.data_loss >= passed.data_loss
    assert card(tmp_path)['iterations'] == passed.iteration


def test_a_second_inverse_dynamics_model_that_disagrees_stops_it(tmp_path, capsys):
    wide = {'loss_rise': 1e6, 'most_motion': 1e6, 'least_motion': 1e-6}
    looks = checks(idm(-1.0), every=1, **wide)
    with pytest.raises(UserError, match='no earlier check has passed, so no adapter is written'):
        run(tmp_path / 'lora', settings(learning_rate=1e-2), looks)
    assert 'by the second inverse dynamics model' in looks.fault()
    assert not (tmp_path / 'lora' / 'eva.json').exists()
    # One that agrees does not.
    agrees = checks(idm(0.5), every=1, **wide)
    assert run(tmp_path / 'agreed', settings(iterations=3), agrees).step == 3


def test_a_healthy_alignment_is_not_stopped_and_learns_the_same_as_unchecked(tmp_path, capsys):
    looks = checks(idm(0.5))
    checked = run(tmp_path / 'checked', settings(iterations=5), looks)
    plain = run(tmp_path / 'plain', settings(iterations=5), None)
    for name, weight in plain.weights.items():
        torch.testing.assert_close(checked.weights[name], weight, rtol=0, atol=0)
    # At the start, at intervals and at the end.
    assert [check.iteration for check in looks.made] == [0, 2, 4, 5]
    assert 'stopped' not in capsys.readouterr().err
    told = card(tmp_path / 'checked')
    assert told['iterations'] == 5 and len(told['checks']) == 4
    assert looks.made[-1].rewards > looks.made[0].rewards
    shown = EventAccumulator(str(next((tmp_path / 'checked').rglob('events*')).parent)).Reload()
    for name in ('data loss', 'motion ratio', 'reward', 'second reward'):
        assert [event.step for event in shown.Scalars(f'held-out {name}')] == [0, 2, 4, 5]


def test_a_killed_alignment_goes_on_with_the_checks_it_had(tmp_path):
    def loop(folder, looks):
        return training_loop(
            policy(), alignment_world.prompts(), judge(), settings(), folder, checks=looks
        )

    whole, killed, resumed = (checks(every=1) for _ in range(3))
    loop_1 = loop(tmp_path / 'whole', whole)
    for _ in range(3):
        loop_1.run_step()
    loop_2 = loop(tmp_path / 'killed', killed)
    loop_2.run_step()
    loop_2.save()
    loop_3 = loop(tmp_path / 'killed', resumed)
    loop_3.resume()
    for _ in range(2):
        loop_3.run_step()
    assert resumed.facts() == whole.facts()
    with pytest.raises(UserError, match='another second_idm'):
        loop(tmp_path / 'killed', checks(idm(0.5))).resume()


def stop_in_both(out):
    chosen = settings(learning_rate=2e-2, data_weight=0.0, iterations=40)
    run(out, chosen, checks(loss_rise=0.05, most_motion=1e6))


@pytest.mark.slow
def test_two_processes_stop_together(tmp_path, capfd):
    launch.launch(2, stop_in_both, tmp_path)
    assert capfd.readouterr().err.count('align: stopped at iteration') == 1
    assert 0 < card(tmp_path)['iterations'] < 40


def test_each_kept_adapter_says_its_iteration_and_none_is_overwritten(tmp_path):
    out = tmp_path / 'lora'
    run(out, settings(iterations=3, keep_every=1), None)
    assert [card(tmp_path / f'lora-{n}')['iterations'] for n in (1, 2, 3)] == [1, 2, 3]
    assert [len(card(tmp_path / f'lora-{n}')['history']) for n in (1, 2, 3)] == [1, 2, 3]
    with pytest.raises(UserError, match=r'lora-\d is left from another alignment'):
        out.rename(tmp_path / 'moved')
        run(out, settings(iterations=3, keep_every=1), None)


def test_learning_without_a_reward_needs_no_judge_and_is_stopped_by_its_data_loss(tmp_path):
    chosen = FinetuneSettings(iterations=2, clips=2, rank=4, learning_rate=1e-4)
    looks = checks()
    align(policy(), alignment_world.prompts(), None, tmp_path, chosen, checks=looks)
    assert 'reward' not in card(tmp_path)
    assert all(check.motion_ratio is None for check in looks.made) and len(looks.made) == 2
    looks.made[-1] = replace(looks.made[-1], data_loss=2 * looks.made[0].data_loss)
    assert 'has risen by 100%' in looks.fault()
