"""What the tasks are called: what the shipped models were told, and a small paraphrase grammar.

A template is a construction with its verb; its slots are filled with every name of the object
and of the hand. A task's held-out phrasings have templates of their own: constructions, or verbs
in them, that its training phrasings do not use. Their words all occur in the training phrasings
of some task, so that an encoder with a closed vocabulary can read them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

# Groups of phrasings, and those of them that recordings are made with.
PHRASINGS = ('shipped', 'training', 'held_out')
RECORDED_PHRASINGS = ('shipped', 'training')

CUBES = ('the cube', 'the red cube')
BARS = ('the bar', 'the red bar')
_HANDS = (
    'the {side} arm', 'the {side} hand', 'the {side} gripper',
    'your {side} arm', 'your {side} hand', 'your {side} gripper',
)  # fmt: skip
_FEW_HANDS = ('the {side} arm', 'your {side} hand')
_BOTH = ('both arms', 'both hands', 'both grippers', 'your two hands', 'the two arms')

_REACH = (
    'reach {object} with {hand}',
    'move {hand} to {object}',
    'touch {object} with {hand}',
    '{side} arm go to {object}',
    'bring {hand} to {object}',
    'with {hand} reach for {object}',
    'put {hand} at {object}',
    'go to {object} with {hand}',
    'i want {hand} to touch {object}',
    'let {hand} go to {object} and stay there',
)
_REACH_HELD_OUT = (
    'what {hand} should do is reach for {object}',
    'have {hand} touch {object} and not lift it',
    'can you get to {object} with {hand}',
    '{object} is where {hand} should go',
    'let {hand} come up to {object}',
)
_LIFT = (
    'lift {object} with {hand}',
    'pick up {object} with {hand}',
    'raise {object} with {hand}',
    '{side} arm pick up {object}',
    'grasp {object} with {hand} and lift it',
    'with {hand} lift {object} up',
    'take {object} with {hand} and raise it',
    'hold {object} up with {hand}',
    'can you lift {object} with {hand}',
    'have {hand} pick up {object} and not let go',
)
_LIFT_HELD_OUT = (
    'what {hand} should do is grasp and raise {object}',
    'let {hand} take {object} up from the table',
    'i want {object} to come up with {hand}',
    '{object} is what {hand} should hold up',
    'get {object} off the table with {hand}',
)
_TRANSFER = (
    'transfer {object}',
    'pass {object} to {left}',
    'hand {object} over to {left}',
    'give {object} to {left}',
    'transfer {object} from {right} to {left}',
    'pass {object} from right to left',
    'hand over {object} from {right} to {left}',
    'give {object} over from right to left',
    'what {right} should do is pass {object} to {left}',
    'i want {object} to come from {right} to {left}',
    'can you get {object} from {right} to {left}',
)
_TRANSFER_HELD_OUT = (
    'let {left} take {object} from {right}',
    '{left} should get {object} from {right}',
    'bring {object} to {left} with {right} and let go',
    '{object} is what {right} should give to {left}',
    'have {right} lift {object} up and hand it over',
)
_LIFT_BAR = (
    'lift {object} with {hands}',
    'pick up {object} with {hands}',
    'raise {object} with {hands}',
    'grasp {object} with {hands} and lift it',
    'with {hands} lift {object} up',
    'take {object} with {hands} and raise it',
    'hold {object} up with {hands}',
    'i want {hands} to lift {object} off the table',
    '{object} is where {hands} should go and lift it',
)
_LIFT_BAR_HELD_OUT = (
    'what {hands} should do is grasp and raise {object}',
    'let {hands} take {object} up from the table',
    'can you get {object} off the table with {hands}',
    'have {hands} pick up {object}',
)
# Held-out sentences need not be many: each object once or twice with a few names of a hand.
_FEW_BOTH = ('both arms', 'both hands', 'your two hands')


# What the shipped models were trained on.
_SHIPPED = {
    'reach': (
        'reach the red cube with the {side} arm',
        'move the {side} gripper to the red cube',
        'touch the cube with your {side} hand',
        '{side} arm go to the red cube',
        'bring the {side} hand to the cube',
        'with the {side} arm reach for the cube',
        'put your {side} gripper at the red cube',
        'go to the cube with the {side} gripper',
    ),
    'lift': (
        'lift the red cube with the {side} arm',
        'pick up the red cube with your {side} hand',
        'raise the cube with the {side} gripper',
        '{side} arm pick up the cube',
        'grasp the red cube with the {side} arm and lift it',
        'with the {side} hand lift the cube up',
        'take the cube with your {side} gripper and raise it',
        'hold the red cube up with the {side} hand',
    ),
    'transfer': (
        'transfer the cube',
        'pass the red cube to the left arm',
        'hand the cube over to the left hand',
        'give the cube to the left gripper',
        'transfer the red cube from the right arm to the left arm',
        'pass the cube from right to left',
        'hand over the red cube from the right hand to the left hand',
        'give the red cube over from right to left',
    ),
}
# What they are evaluated with: they know these words, but not these sentences.
_SHIPPED_HELD_OUT = {
    'reach': (
        'reach for the red cube with your {side} hand',
        'move your {side} arm to the cube',
        'with the {side} gripper touch the red cube',
    ),
    'lift': (
        'lift the cube up with your {side} arm',
        'with the {side} gripper pick up the red cube',
        'raise the red cube with the {side} hand',
    ),
    'transfer': (
        'transfer the cube from the right hand to the left hand',
        'pass the cube over to the left gripper',
        'hand the red cube to the left arm',
    ),
}


@dataclass(frozen=True)
class Phrasings:
    """Instructions of a task: for recordings, and for evaluation only."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]


def shipped(kind: str, side: str) -> Phrasings:
    """Return what the shipped models know of a kind of task; nothing of the newest."""
    return Phrasings(
        *(
            tuple(text.format(side=side) for text in sentences.get(kind, ()))
            for sentences in (_SHIPPED, _SHIPPED_HELD_OUT)
        )
    )


def reach(side: str) -> Phrasings:
    """Return the phrasings of a reach."""
    return _one_handed(_REACH, _REACH_HELD_OUT, side)


def lift(side: str) -> Phrasings:
    """Return the phrasings of a lift."""
    return _one_handed(_LIFT, _LIFT_HELD_OUT, side)


def transfer() -> Phrasings:
    """Return the phrasings of a hand-over from right to left."""
    names = ('the {side} arm', 'the {side} hand', 'your {side} gripper')
    hands = {side: tuple(name.format(side=side) for name in names) for side in ('left', 'right')}
    few = {side: names[:2] for side, names in hands.items()}
    return Phrasings(
        _fill(_TRANSFER, object=CUBES, **hands), _fill(_TRANSFER_HELD_OUT, object=CUBES, **few)
    )


def lift_bar() -> Phrasings:
    """Return the phrasings of a lift by both arms."""
    return Phrasings(
        _fill(_LIFT_BAR, object=BARS, hands=_BOTH),
        _fill(_LIFT_BAR_HELD_OUT, object=BARS, hands=_FEW_BOTH),
    )


def _one_handed(training: Iterable[str], held_out: Iterable[str], side: str) -> Phrasings:
    return Phrasings(
        _fill(training, object=CUBES, hand=_HANDS, side=(side,)),
        _fill(held_out, object=CUBES, hand=_FEW_HANDS, side=(side,)),
    )


def _fill(templates: Iterable[str], **slots: Iterable[str]) -> tuple[str, ...]:
    """Return every sentence once, in a fixed order."""
    found: dict[str, None] = {}
    for template in templates:
        for values in product(*slots.values()):
            chosen = dict(zip(slots, values))
            # The name of a hand has a slot itself, for its side.
            found[template.format(**chosen).format(**chosen)] = None
    return tuple(found)
