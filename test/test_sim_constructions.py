"""The sentences that a text encoder learns from: wide, and away from what is held out."""

import numpy as np
import pytest
from test_sim_tasks import word_edits

from eva_ros.sim import constructions
from eva_ros.sim.constructions import draw
from eva_ros.sim.constructions import MIRRORED
from eva_ros.sim.constructions import NOTHING
from eva_ros.sim.constructions import READINGS
from eva_ros.sim.tasks import TASKS


def drawn(reading, count=300):
    rng = np.random.default_rng(0)
    return [draw(reading, rng) for _ in range(count)]


@pytest.mark.parametrize('reading', READINGS)
def test_no_sentence_comes_within_three_words_of_what_is_held_out(reading):
    for text in drawn(reading, 100):
        assert len(text.split()) <= 16
        assert set(text.split()) <= set(constructions.vocabulary())
        for task in TASKS.values():
            assert text not in task.shipped.held_out
            for held_out in task.grammar.held_out:
                assert word_edits(text, held_out) >= 3


def test_what_is_held_out_has_known_words_alone():
    for task in TASKS.values():
        for text in (*task.grammar.held_out, *task.shipped.held_out):
            assert set(text.split()) <= set(constructions.vocabulary())


def test_no_sentence_has_two_readings():
    texts = {reading: set(drawn(reading)) for reading in READINGS}
    for reading, own in texts.items():
        assert len(own) > 150
        for other, foreign in texts.items():
            assert other == reading or not own & foreign


def test_a_sentence_names_the_hands_of_its_task():
    for reading in ('reach_left', 'lift_left'):
        assert all('left' in t.split() and 'right' not in t.split() for t in drawn(reading))
    for text in drawn('transfer_cube'):
        mirrored = constructions.mirrored(text)
        assert text == 'transfer the cube' or {*text.split()} & {'left', 'right'}, text
        assert mirrored not in drawn('transfer_cube')[:50] or mirrored == text
    assert not set(drawn(MIRRORED)) & set(TASKS['transfer_cube'].grammar.training)


@pytest.mark.parametrize('start', ['let', 'have', 'i want', 'can you', 'what', 'with', 'do not'])
def test_a_construction_alone_tells_no_task(start):
    begun = {r for r in READINGS for text in drawn(r) if text.startswith(f'{start} ')}
    expected = {NOTHING} if start == 'do not' else set(READINGS) - {NOTHING}
    assert begun >= expected
