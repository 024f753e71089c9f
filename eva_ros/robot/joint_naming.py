"""Which joints are whose, by their names: left and right arm, gripper, and what is no arm."""

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
import re

_WORDS = re.compile(r'[A-Z]?[a-z]+|[A-Z]+|\d+')
# Words for left and right, in the order in which they are looked for.
_PAIRS = (('left', 'right'), ('l', 'r'), ('fl', 'fr'), ('lf', 'rf'))
_NUMBERED = re.compile(r'(\D+?_?)(\d)([_/.].+)')
_NO_ARM = {'hip', 'knee', 'ankle', 'leg', 'foot', 'toe', 'wheel', 'caster', 'head', 'neck',
           'torso', 'chest', 'pelvis', 'camera'}  # fmt: skip
_GRIPPER = ('gripper', 'grip', 'finger', 'jaw', 'claw', 'knuckle')
_HAND = {*_GRIPPER, 'hand', 'thumb', 'index', 'middle', 'ring', 'pinky', 'little'}


@dataclass(frozen=True)
class Division:
    """Names by arm.

    Attributes:
        arms: the joints of `left` and `right`, as far as they are there.
        others: names that belong to no arm.
        guess: what was guessed, a question; '' where the names say it.
    """

    arms: dict[str, list[str]]
    others: list[str]
    guess: str = ''


def words(name: str) -> list[str]:
    """Return the words of a name in lower case: LeftArmJoint1 and left_arm_joint_1 are alike."""
    return [word.lower() for word in _WORDS.findall(name)]


def side_of(name: str) -> str:
    """Return left, right, or '' where a name says neither."""
    for pair in _PAIRS:
        found = _side(name, pair)
        if found:
            return found
    return ''


def without_side(name: str) -> str:
    """Return a name's words without those for left and right, joined by underscores."""
    sides = {word for pair in _PAIRS for word in pair}
    return '_'.join(word for word in words(name) if word not in sides)


def is_hand(name: str) -> bool:
    """Return whether a joint belongs to a gripper or a hand."""
    return not _HAND.isdisjoint(words(name))


def gripper_of(names: Sequence[str]) -> str | None:
    """Return the joint that says how far a gripper is open; None where it is not clear which."""
    for word in _GRIPPER:
        found = [name for name in names if word in words(name)]
        if found:
            # Two fingers mirror each other; more are a hand.
            return found[0] if len(found) <= 2 else None
    return None


def divide(names: Iterable[str]) -> Division:
    """Return joints by arm; those of legs, heads and the like are of none.

    A single arm whose names do not say which it is counts as the left one.
    """
    given = list(names)
    candidates = [name for name in given if _NO_ARM.isdisjoint(words(name))]
    arms, guess = _by_words(candidates), ''
    if not arms:
        arms, guess = _by_numbers(candidates)
    if not arms:
        arms = {'left': candidates} if candidates else {}
    taken = {name for own in arms.values() for name in own}
    return Division(arms, [name for name in given if name not in taken], guess)


def _side(name: str, pair: tuple[str, str]) -> str:
    first = next((word for word in words(name) if word in pair), None)
    return '' if first is None else ('left', 'right')[pair.index(first)]


def _by_words(names: Sequence[str]) -> dict[str, list[str]]:
    """Return arms told apart by a pair of words; one alone where all joints have its word."""
    for pair in _PAIRS:
        found = {side: [name for name in names if _side(name, pair) == side]
                 for side in ('left', 'right')}  # fmt: skip
        arms = {side: own for side, own in found.items() if not all(map(is_hand, own))}
        if len(arms) == 2 or any(len(own) == len(names) for own in arms.values()):
            return arms
    return {}


def _by_numbers(names: Sequence[str]) -> tuple[dict[str, list[str]], str]:
    """Return arms that have a number each and the same names behind it (arm1_..., arm2_...)."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match:
            found.setdefault(match[1], {}).setdefault(match[2], {})[match[3]] = name
    for word, arms in found.items():
        if len(arms) != 2:
            continue
        (first, own), (second, other) = sorted(arms.items())
        if set(own) == set(other):
            guess = f'is {word}{first} the left arm and {word}{second} the right one?'
            return {'left': list(own.values()), 'right': list(other.values())}, guess
    return {}, ''
