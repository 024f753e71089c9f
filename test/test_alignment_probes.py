"""Probes: a reward that the wrong dream can win is refused, and named."""

from dataclasses import replace

import numpy as np
import probe_world
import pytest
import torch

from eva_ros.alignment.attempt_probe import probe_attempts
from eva_ros.alignment.probes import auc
from eva_ros.alignment.probes import probe
from eva_ros.alignment.probes import PROBES
from eva_ros.alignment.probes import require_probes
from eva_ros.alignment.prompts import find_prompts
from eva_ros.errors import UserError

NAMES = [
    *('jumped', 'shuffled', 'noise', 'still', 'reversed', 'wrong_arm', 'swapped_instruction'),
    *('blur', 'wrong_place'),
]
PUBLISHED = probe_world.weights(executability=1.0)


class HackedCritic:
    """A reward that a still video wins: it praises frames that do not change."""

    def progress(self, frames, instructions):
        return -(frames[:, -1] - frames[:, 0]).abs().mean((1, 2, 3))


class BlindJudge(probe_world.ReadingJudge):
    """Reads the same joints off everything."""

    def read(self, frames):
        return torch.zeros(*frames.shape[:2], 6)


def probed(judge, prompts=None, *, alike=True):
    prompts = prompts or probe_world.prompts()
    return probe(judge, prompts, seed=0, most=24, arms_are_alike=alike)


def refusal(judge, accepted=(), **options):
    with pytest.raises(UserError) as refused:
        require_probes(probed(judge, **options), list(judge.weights.used()), accepted)
    return str(refused.value)


def test_auc_is_the_probability_of_being_better_with_ties_counted_half():
    rng = np.random.default_rng(0)
    better, worse = rng.integers(0, 6, 40) + 1.0, rng.integers(0, 6, 30) + 0.0
    pairs = [(b > w) + 0.5 * (b == w) for b in better for w in worse]
    assert auc(better, worse) == pytest.approx(np.mean(pairs))


def test_every_probe_has_the_auc_of_every_term_and_of_the_sum():
    chosen = probe_world.weights(executability=1.0, similarity=10.0)
    found = probed(probe_world.judge(weights=chosen, critic=HackedCritic()))
    assert list(found) == NAMES == list(PROBES)
    for aucs in found.values():
        assert set(aucs) == {
            *('executability', 'motion', 'similarity', 'outcome', 'progress', 'sum')
        }
        assert all(0 <= value <= 1 for value in aucs.values())


def test_the_published_reward_is_won_by_still_misplaced_and_wrong_arm_dreams():
    found = probed(probe_world.judge(weights=PUBLISHED))
    assert found['still']['sum'] < 0.1
    for name in ('wrong_arm', 'wrong_place', 'reversed', 'swapped_instruction'):
        assert 0.2 < found[name]['sum'] < 0.8
    for name in ('jumped', 'noise'):
        assert found[name]['executability'] > 0.9


def test_similarity_lets_no_wrong_dream_win():
    found = probed(probe_world.judge(weights=probe_world.weights(similarity=1.0)))
    for name in ('still', 'reversed', 'wrong_arm', 'swapped_instruction', 'wrong_place', 'jumped'):
        assert found[name]['similarity'] > 0.95, name
    require_probes(
        probed(probe_world.judge(weights=probe_world.weights(executability=1.0, similarity=30.0))),
        ['executability', 'similarity'],
    )


def test_a_reward_that_a_still_dream_wins_is_refused_by_name():
    said = refusal(probe_world.judge(weights=PUBLISHED))
    assert 'blind to' in said and 'still (AUC 0.0' in said
    for name in ('wrong_arm', 'wrong_place'):
        assert name in said
    assert '--accept-blind' in said


def test_what_is_accepted_is_not_refused_and_nothing_else_is_accepted():
    judge = probe_world.judge(weights=PUBLISHED)
    said = refusal(judge, accepted=[name for name in NAMES if name != 'wrong_place'])
    assert 'wrong_place' in said and 'still' not in said
    require_probes(probed(judge), ['executability'], NAMES)


def test_a_planted_hack_is_refused_whatever_is_accepted():
    chosen = probe_world.weights(executability=1.0, similarity=30.0, progress=0.01)
    said = refusal(probe_world.judge(weights=chosen, critic=HackedCritic()), accepted=NAMES)
    assert "term 'progress'" in said and "'still'" in said


def test_a_term_that_does_not_see_what_it_is_for_is_refused():
    said = refusal(probe_world.judge(BlindJudge, weights=PUBLISHED), accepted=NAMES)
    assert "term 'executability'" in said and "'jumped'" in said


def test_probes_that_the_recordings_do_not_permit_are_left_open():
    one_task = find_prompts(
        [probe_world.episode(i) for i in range(4)], probe_world.STEPS, probe_world.RATE_HZ
    )
    found = probed(probe_world.judge(), one_task, alike=False)
    for name in ('wrong_arm', 'swapped_instruction'):
        assert set(found[name].values()) == {None}
    assert found['wrong_place']['sum'] is not None


def test_views_of_mid_task_are_prompts_too_where_the_recording_goes_on():
    made = [probe_world.episode(i) for i in range(4)]
    size = (probe_world.STEPS, probe_world.RATE_HZ)
    rest, all_of_them = find_prompts(made, *size), find_prompts(made, *size, moments=2)
    assert len(all_of_them) > len(rest)
    for prompt in all_of_them[len(rest) :]:
        path = np.asarray(made[prompt.episode].joints)
        place = int(np.flatnonzero((path == prompt.joints[0]).all(1))[0])
        assert place > 0 and (path[place] != path[place - 1]).any() and prompt.whole
        np.testing.assert_array_equal(prompt.joints[:2], path[place : place + 2])
        np.testing.assert_array_equal(prompt.frames[0], made[prompt.episode].frames[place])
    assert [p.identity()[0] for p in all_of_them[: len(rest)]] == [p.identity()[0] for p in rest]


def attempts(count=12):
    """Return attempts on demonstrated scenes: the successes go all the way, the others half."""
    made = []
    for i in range(count):
        demonstrated = probe_world.episode(i)
        share = 1.0 if i % 2 else 0.4
        made.append(probe_world.episode(i, success=share == 1.0, share=share))
        np.testing.assert_allclose(made[-1].joints[0], demonstrated.joints[0])
    return made


def demonstrations():
    return find_prompts(
        [probe_world.episode(i) for i in range(12)], probe_world.STEPS, probe_world.RATE_HZ
    )


def attempted(made, known=None):
    judge = probe_world.judge()
    return probe_attempts(judge, made, known or demonstrations(), probe_world.STEPS)


def test_the_term_that_knows_the_task_predicts_success():
    told = attempted(attempts())['left']
    assert (told['episodes'], told['successes']) == (12, 6)
    assert told['auc']['similarity'] > 0.95
    assert told['auc']['outcome'] == 1.0
    assert 'sum' in told['auc'] and told['auc']['executability'] < 0.8


def test_fewer_than_two_successes_or_failures_give_no_auc():
    told = attempted([replace_success(e, i == 0) for i, e in enumerate(attempts())])['left']
    assert told['successes'] == 1
    assert set(told['auc'].values()) == {None}


def replace_success(episode, success):
    episode.success = success
    return episode


def test_attempts_without_outcomes_are_refused():
    with pytest.raises(UserError, match='None of the 12 attempts has an outcome'):
        attempted([replace_success(e, None) for e in attempts()])


def test_attempts_at_a_task_that_nobody_demonstrated_are_refused():
    others = [replace(p, task='stack') for p in demonstrations()]
    with pytest.raises(UserError, match="No demonstration of 'left'"):
        attempted(attempts(), others)
