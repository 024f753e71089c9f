"""The table that says what was found in bags, and what was left out and why."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eva_ros.observations.reasons import kind_of

_HEAD = ('task', 'bags', 'episodes', 'succeeded', 'ticks', 'minutes')
# How many reasons are listed; the rest is counted.
_MOST = 12


def summary(metas: Mapping[Path, dict[str, Any]], built: int, period_s: float) -> str:
    """Return a table of what bags hold, and below it what was left out.

    Args:
        metas: what is kept of each bag.
        built: how many were read anew.
        period_s: time between two ticks.
    """
    tasks = sorted({about['task'] for meta in metas.values() for about in meta['episodes']})
    rows = [_HEAD, *(_row(task, metas, period_s) for task in tasks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [_line(row, widths) for row in rows]
    lines.append(f'{len(metas)} bags, {built} of them read anew.')
    return '\n'.join([*lines, *_problems(metas)])


def _row(task: str, metas: Mapping[Path, dict], period_s: float) -> tuple[str, ...]:
    bags = [meta for meta in metas.values() if any(e['task'] == task for e in meta['episodes'])]
    found = [about for meta in bags for about in meta['episodes'] if about['task'] == task]
    ticks = sum(end - start for start, end in (about['ticks'] for about in found))
    succeeded = sum(about['success'] is True for about in found)
    minutes = f'{ticks * period_s / 60:.1f}'
    counts = (len(bags), len(found), succeeded, ticks)
    return (task or '(not said)', *map(str, counts), minutes)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    first = row[0].ljust(widths[0])
    return '  '.join([first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])


def _problems(metas: Mapping[Path, dict]) -> list[str]:
    """Return one line for each kind of problem: how often, and an example."""
    examples: dict[str, tuple[Path, str]] = {}
    counts: Counter[str] = Counter()
    for bag, meta in metas.items():
        for text in meta['problems']:
            kind = kind_of(text.replace(str(bag), ''))
            counts[kind] += 1
            examples.setdefault(kind, (bag, text))
    lines = []
    for kind, count in counts.most_common(_MOST):
        bag, text = examples[kind]
        where = text if str(bag) in text else f'{bag}: {text}'
        lines.append(f'  {count} x  {where}' if count > 1 else f'  {where}')
    empty = sum(not meta['episodes'] for meta in metas.values())
    head = [f'{empty} bags without a usable episode; left out or damaged:'] if lines else []
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(_MOST))
    more = [f"  and {rest} more: 'eva bags check --json' lists each bag's"] if rest else []
    return [*head, *lines, *more]
