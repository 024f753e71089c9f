"""Faults of single episodes as a line for each kind, with the episodes that have it."""

from collections.abc import Iterable
from collections.abc import Sequence
import re

# Names in quotes are kept apart, whatever digits they have.
_NUMBER = re.compile(r"'[^']*'|-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")

Fault = tuple[int, str]


def spans(numbers: Iterable[int]) -> str:
    """Return whole numbers as '0, 2 to 5, 9'."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ', '.join(
        f'{first}' if first == last else f'{first}{" to " if last - first > 1 else ", "}{last}'
        for first, last in runs
    )


def episodes(numbers: Iterable[int]) -> str:
    """Return 'episode 3' or 'episodes 0, 2 to 5'."""
    found = set(numbers)
    return f'episode{"s" if len(found) > 1 else ""} {spans(found)}'


def kind(sentence: str) -> str:
    """Return a sentence without its numbers."""
    return _NUMBER.sub(lambda found: found[0] if found[0][0] == "'" else '#', sentence)


def grouped(faults: Sequence[Fault]) -> list[str]:
    """Return a sentence for each kind of fault: that of the first episode, and the other episodes.

    Sentences that differ in numbers alone are of one kind; the numbers of the other episodes are
    kept, in brackets.

    Args:
        faults: episode and sentence of each.
    """
    kinds: dict[str, list[Fault]] = {}
    for episode, sentence in faults:
        kinds.setdefault(kind(sentence), []).append((episode, sentence))
    return [_one(found) for found in kinds.values()]


def _one(faults: list[Fault]) -> str:
    first, rest = faults[0][1], faults[1:]
    if not rest:
        return first
    numbers = [[n for n in _NUMBER.findall(text) if n[0] != "'"] for _, text in faults]
    own = [str(episode) for episode, _ in faults]
    columns = list(zip(*numbers))
    telling = [
        place
        for place, column in enumerate(columns)
        if len(set(column)) > 1 and [value.lstrip('0') or '0' for value in column] != own
    ]
    if not telling:
        return f'{first.removesuffix(".")}; likewise {episodes(n for n, _ in rest)}.'
    others = ', '.join(
        f'{episode} ({", ".join(values[place] for place in telling)})'
        for (episode, _), values in zip(rest, numbers[1:])
    )
    word = 'episodes' if len(rest) > 1 else 'episode'
    return f'{first.removesuffix(".")}; likewise {word} {others}.'
