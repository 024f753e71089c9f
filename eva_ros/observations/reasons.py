"""Sentences about a bag: all of them for programs, grouped for people."""

from collections import Counter
from collections.abc import Sequence
from enum import IntEnum
import re

# Of sentences that differ in numbers alone, people see this many; programs get them all.
_SHOWN = 6
# A number that stands for itself, not one that is part of a name such as joint1 or bag_0.mcap.
_NUMBER = re.compile(r"(?<![\w/.'-])-?\d[\d.]*(?![\w/'])")
_DAY_S = 86400.0


class Hurt(IntEnum):
    """How much a finding hurts, worst first."""

    NOTHING_USABLE = 0
    WRONG = 1  # labels, pictures or times cannot be trusted
    LOST = 2  # files or messages are gone
    CUT = 3  # attempts begin late, end early or fall to pieces
    DOUBT = 4  # it may be otherwise than it was read


class Notes:
    """Collects sentences; none is dropped, and one that was said before is counted."""

    def __init__(self) -> None:
        self._counts: dict[Hurt, Counter[str]] = {hurt: Counter() for hurt in Hurt}

    def add(self, sentence: str, hurt: Hurt = Hurt.LOST) -> None:
        """Take in a sentence."""
        self._counts[hurt][sentence] += 1

    def sentences(self) -> list[str]:
        """Return each sentence once, what hurts most first, with how often it was said."""
        return [
            f'{text} ({count} times in all)' if count > 1 else text
            for hurt in Hurt
            for text, count in self._counts[hurt].items()
        ]


def kind_of(sentence: str) -> str:
    """Return a sentence without its numbers; names keep theirs."""
    return _NUMBER.sub('#', sentence)


def grouped(sentences: Sequence[str]) -> list[str]:
    """Return sentences for people: those of a kind together, and of many the first few."""
    kinds: dict[str, list[str]] = {}
    for text in sentences:
        kinds.setdefault(kind_of(text), []).append(text)
    found = []
    for same in kinds.values():
        rest = len(same) - _SHOWN
        found += same[:_SHOWN] if rest > 1 else same
        if rest > 1:
            found.append(f'... and {rest} more like this one; --json lists them all.')
    return found


def sentence(text: str) -> str:
    """Return a phrase with a capital first letter and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ('' if text.endswith(('.', '?', '!')) else '.')


def spelled(seconds: float, digits: int = 2) -> str:
    """Return a time in s, or in the unit that says how absurd it is."""
    for unit, size_s in (('years', 365.25 * _DAY_S), ('days', _DAY_S)):
        if abs(seconds) >= size_s:
            return f'{seconds / size_s:.1f} {unit}'
    return f'{seconds:.{digits}f} s'


def figure(value: float) -> str:
    """Return a number with three decimals; damage gives numbers of hundreds of digits."""
    return f'{value:.3f}' if abs(value) < 1e6 else f'{value:.3g}'


def doubt(seconds: float, usual: str) -> str:
    """Return the question behind an age or a lead: no camera is silent for days in a bag."""
    return 'was a clock set?' if seconds >= _DAY_S else usual


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return names with commas, the rest counted."""
    rest = len(names) - most
    return ', '.join(names[:most]) + (f' and {rest} more' if rest > 0 else '')
