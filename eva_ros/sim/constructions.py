"""Sentences that a text encoder learns to read the tasks from: a grammar wider than phrasings.py.

Every construction goes with every task's verbs, so that neither a construction nor a single word
gives a task away. What comes within MOST_ALIKE words of a held-out phrasing is never drawn. Of
sentences that ask for nothing the arms can do, the encoder learns that they are none of the tasks.
"""

from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from eva_ros.sim.phrasings import BARS
from eva_ros.sim.phrasings import CUBES
from eva_ros.sim.tasks import find_task
from eva_ros.sim.tasks import TASKS

# A transfer the other way round is what mirrored recordings of transfers show.
MIRRORED = 'transfer_cube_mirrored'
NOTHING = 'nothing'
READINGS = (*TASKS, MIRRORED, NOTHING)
# One sentence for each: the reading is what the world model makes of it. They have few words in
# common, so that their embeddings are far apart.
CANONICAL = {
    'reach_left': 'reach the red cube with the left arm',
    'reach_right': 'reach the red cube with the right arm',
    'lift_left': 'pick up the red cube with your left hand',
    'lift_right': 'pick up the red cube with your right hand',
    'transfer_cube': 'transfer the red cube from the right arm to the left arm',
    'lift_bar': 'lift the red bar with both arms',
    MIRRORED: 'pass the red cube to the right arm',
}
# Words in which a sentence differs from every held-out phrasing, at least; and its longest.
LEAST_WORDS_APART, MOST_WORDS = 3, 16

_HANDS = (
    'the {} arm', 'the {} hand', 'the {} gripper', 'your {} arm', 'your {} hand',
    'your {} gripper', '{} arm', '{} hand',
)  # fmt: skip
_BOTH = ('both arms', 'both hands', 'both grippers', 'your two hands', 'the two arms')

# What is done to an object o, by an agent a. Of a transfer: g gives, t takes.
_ACTIONS = {
    'reach': (
        'reach {o}', 'reach for {o}', 'touch {o}', 'go to {o}', 'move to {o}', 'get to {o}',
        'come to {o}', 'come up to {o}', 'go to {o} and stay there', 'touch {o} and not lift it',
        'go up to {o} and touch it', 'move up to {o} and not take it', 'move over to {o}',
    ),
    'lift': (
        'lift {o}', 'lift {o} up', 'pick up {o}', 'pick {o} up', 'raise {o}', 'hold up {o}',
        'hold {o} up', 'take {o} up', 'get {o} up', 'grasp {o} and lift it', 'grasp and raise {o}',
        'grasp and lift {o}', 'take {o} and raise it', 'pick up {o} and not let go',
        'lift {o} off the table', 'take {o} up from the table', 'get {o} off the table',
        'pick up {o} and hold it', 'grasp {o} and hold it up', 'reach for {o} and lift it',
        'go to {o} and pick it up', 'take {o} up and hold it there',
    ),
    'give': (
        'pass {o} to {t}', 'hand {o} over to {t}', 'hand over {o} to {t}', 'give {o} to {t}',
        'give {o} over to {t}', 'transfer {o} to {t}', 'bring {o} to {t}', 'pass {o} over',
        'bring {o} over to {t} and let go', 'move {o} over to {t}', 'take {o} and give it to {t}',
        'pick up {o} and pass it to {t}', 'lift {o} and hand it over to {t}',
        'grasp {o} and hand it over', 'lift {o} up and hand it over', 'reach for {o} and pass it',
        'pick up {o} and give it over to {t}',
    ),
    'take': (
        'take {o} from {g}', 'get {o} from {g}', 'take {o} over from {g}', 'have {o} from {g}',
        'grasp {o} and take it from {g}',
    ),
}  # fmt: skip
_FRAMES = (
    '{v} with {a}', 'with {a} {v}', '{a} {v}', 'let {a} {v}', 'have {a} {v}', 'i want {a} to {v}',
    'can you {v} with {a}', 'what {a} should do is {v}', 'what i want {a} to do is {v}',
    '{a} should {v}', 'can {a} {v}', 'i want you to {v} with {a}', 'you should {v} with {a}',
)  # fmt: skip
# The same with the object in front.
_FRONTED_ACTIONS = {
    'reach': ('reach', 'reach for', 'touch', 'go to', 'get to', 'come to', 'touch and not lift'),
    'lift': (
        'lift', 'pick up', 'raise', 'hold up', 'lift up', 'take up', 'grasp and lift',
        'get off the table',
    ),
    'give': ('pass to {t}', 'give to {t}', 'hand over to {t}', 'bring to {t}', 'hand over'),
    'take': ('take from {g}', 'get from {g}'),
}  # fmt: skip
_FRONTED = (
    '{o} is what {a} should {v}', '{o} is what i want {a} to {v}', 'what {a} should {v} is {o}',
)  # fmt: skip
_PLACES = ('go', 'be', 'move', 'stay', 'come', 'come to', 'reach')
_OTHERS = {
    'reach': (
        'bring {a} to {o}', 'put {a} at {o}', 'move {a} to {o}', 'move {a} up to {o}',
        'bring {a} over to {o}', 'put {a} to {o} and stay there', 'can you bring {a} to {o}',
        'i want you to move {a} to {o}', 'you should put {a} at {o}', 'i want {a} at {o}',
        'what you should do is move {a} to {o}', 'have {a} at {o} and stay there',
        *(f'{{o}} is where {{a}} should {go}' for go in _PLACES),
        *(f'{{o}} is where i want {{a}} to {go}' for go in _PLACES),
        *(f'where {{a}} should {go} is {{o}}' for go in _PLACES),
    ),
    'lift': (
        'i want {o} to come up with {a}', 'let {o} come up with {a}', 'have {o} come up with {a}',
        '{o} should come up with {a}', 'i want {o} up with {a}',
        'have {o} come off the table with {a}', '{o} should come off the table with {a}',
        'i want {o} off the table with {a}',
        'i want {a} to have {o} up', 'i want {o} to come off the table with {a}',
        'i want {o} to come up from the table with {a}', 'can you have {o} come up with {a}',
        'i want you to have {o} come up with {a}', '{o} should come up from the table with {a}',
        'let {o} come up from the table with {a}', 'i want {o} to go up from the table with {a}',
    ),
    'transfer': (
        *(f'{start}{verb} {{o}} from {{g}} to {{t}}'
          for start in ('', 'can you ', 'i want you to ', 'you should ', 'what you should do is ')
          for verb in ('transfer', 'pass', 'hand over', 'give', 'move', 'bring', 'get')),
        *(f'{verb} {{o}} to {{t}} from {{g}}' for verb in ('pass', 'give', 'bring', 'hand over')),
        *(f'from {{g}} to {{t}} {verb} {{o}}' for verb in ('pass', 'give', 'bring', 'transfer')),
        *(f'{start} {go} from {{g}} to {{t}}'
          for start in ('i want {o} to', 'let {o}', 'have {o}', '{o} should')
          for go in ('go', 'come', 'move', 'go over')),
        *(f'{start} {go} to {{t}} from {{g}}'
          for start in ('i want {o} to', 'let {o}', '{o} should') for go in ('go', 'come')),
        *(f'{start}{verb} {{o}} to {{t}}'
          for start in ('', 'can you ', 'i want you to ', 'what you should do is ')
          for verb in ('pass', 'give', 'hand over', 'transfer')),
    ),
}  # fmt: skip
SIDES = ('left', 'right')
_OTHER_SIDE = dict(zip(SIDES, reversed(SIDES)))


def draw(reading: str, rng: np.random.Generator) -> str:
    """Return a sentence with one of READINGS, at least three words from all held-out ones."""
    while True:
        text = _nothing(rng) if reading == NOTHING else _asked(reading, rng)
        if len(text.split()) <= MOST_WORDS and not is_near_held_out(text):
            return text


def is_near_held_out(text: str) -> bool:
    """Return whether a held-out phrasing, mirrored or not, differs in fewer than three words."""
    if any(text in task.shipped.held_out for task in TASKS.values()):
        return True
    words = text.split()
    phrasings, counts = _held_out()
    more = _count(words) - counts
    apart = np.maximum(more.clip(0).sum(1), (-more).clip(0).sum(1))  # at least
    near = np.flatnonzero(apart < LEAST_WORDS_APART)
    return any(words_apart(words, phrasings[i]) < LEAST_WORDS_APART for i in near)


def words_apart(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many words must be put in, taken out or exchanged (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, word in enumerate(one, 1):
        corner, row[0] = row[0], i
        for j, opposite in enumerate(other, 1):
            least = min(row[j] + 1, row[j - 1] + 1, corner + (word != opposite))
            corner, row[j] = row[j], least
    return row[-1]


def mirrored(text: str) -> str:
    """Return a sentence with left and right exchanged."""
    return ' '.join(_OTHER_SIDE.get(word, word) for word in text.split())


@cache
def vocabulary() -> tuple[str, ...]:
    """Return all words of the sentences."""
    texts = [text for kind, own in _OTHERS.items() for text in (*own, *_composed(kind))]
    known = {word for text in texts for word in text.split() if '{' not in word}
    for task in TASKS.values():
        for text in (*task.grammar.training, *task.shipped.training):
            known |= set(text.split())
    return tuple(sorted(known))


def _asked(reading: str, rng: np.random.Generator) -> str:
    """Return a sentence that asks for a task: one that is recorded, or a wider one."""
    name = 'transfer_cube' if reading == MIRRORED else reading
    task = find_task(name)
    if rng.random() < 0.25:
        own = task.shipped.training if rng.random() < 0.5 else ()
        text = _pick(own or task.grammar.training, rng)
        if reading == MIRRORED and mirrored(text) == text:
            return _asked(reading, rng)
        return mirrored(text) if reading == MIRRORED else text
    giver, taker = ('left', 'right') if reading == MIRRORED else ('right', 'left')
    kind = 'lift' if task.kind == 'lift_bar' else task.kind
    template = _pick(_OTHERS[kind] if rng.random() < 0.3 else _composed(kind), rng)
    slots = {
        'o': _pick(BARS if task.target == 'bar' else CUBES, rng),
        'a': _pick(_BOTH, rng) if task.side == 'both' else _pick(_HANDS, rng).format(task.side),
        'g': _pick(_HANDS, rng).format(giver),
        't': _pick(_HANDS, rng).format(taker),
    }
    if rng.random() < 0.1:
        slots |= {'g': giver, 't': taker}
    return template.format(**slots)


def _nothing(rng: np.random.Generator) -> str:
    """Return a sentence that is none of the tasks."""
    kind = rng.random()
    if kind < 0.35:
        return f'do not {_asked(_pick((*TASKS, MIRRORED), rng), rng)}'
    if kind < 0.65:
        text = _asked(_pick(('reach_left', 'lift_left'), rng), rng)
        return ' '.join(word for word in text.split() if word not in _OTHER_SIDE)
    return ' '.join(rng.choice(vocabulary(), rng.integers(1, 13)))


@cache
def _composed(kind: str) -> tuple[str, ...]:
    """Return every construction with every action, with slots for the object and the hands."""
    agents = {'give': 'g', 'take': 't'} if kind == 'transfer' else {kind: 'a'}
    found = []
    for action, agent in agents.items():
        for frames, actions in ((_FRAMES, _ACTIONS), (_FRONTED, _FRONTED_ACTIONS)):
            for frame, verb in product(frames, actions[action]):
                found.append(frame.replace('{a}', f'{{{agent}}}').replace('{v}', verb))
    return tuple(found)


@cache
def _held_out() -> tuple[list[list[str]], NDArray[np.int64]]:
    """Return the words of the held-out phrasings, mirrored too, and how often each occurs."""
    texts = {text for task in TASKS.values() for text in task.grammar.held_out}
    phrasings = [text.split() for text in sorted(texts.union(map(mirrored, texts)))]
    return phrasings, np.stack([_count(words) for words in phrasings])


def _count(words: Sequence[str]) -> NDArray[np.int64]:
    """Return how often each word of the vocabulary occurs."""
    rows = [_rows()[word] for word in words]
    return np.bincount(rows, minlength=len(_rows()))


@cache
def _rows() -> dict[str, int]:
    return {word: row for row, word in enumerate(vocabulary())}


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
