"""Many sentences about a bag as a few: each kind once, with how often it was said."""

from collections import Counter
from collections.abc import Sequence
import re

# How many kinds are listed; the rest is counted.
_MOST = 20
_DAY_S = 86400.0


class Notes:
    """Collects sentences; of each kind the first is kept, and the number of all."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def add(self, sentence: str) -> None:
        """Take in a sentence; those that differ in numbers alone are of one kind."""
        kind = re.sub(r'\d[\d.]*', '#', sentence)
        self._counts[kind] += 1
        if len(self._first) < 10 * _MOST:
            self._first.setdefault(kind, sentence)

    def sentences(self) -> list[str]:
        """Return the first of each kind, in order, with their numbers where there are more."""
        kinds = list(self._first)[:_MOST]
        found = [
            f'{self._first[kind]} ({self._counts[kind]} times in all)'
            if self._counts[kind] > 1
            else self._first[kind]
            for kind in kinds
        ]
        rest = sum(self._counts.values()) - sum(self._counts[kind] for kind in kinds)
        return [*found, f'And {rest} more.'] if rest else found


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


def doubt(seconds: float, usual: str) -> str:
    """Return the question behind an age or a lead: no camera is silent for days in a bag."""
    return 'was a clock set?' if seconds >= _DAY_S else usual


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return names with commas, the rest counted."""
    rest = len(names) - most
    return ', '.join(names[:most]) + (f' and {rest} more' if rest > 0 else '')
