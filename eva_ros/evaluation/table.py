"""A comparison as a table for people, each figure with its interval."""

from collections.abc import Sequence
from statistics import median

from eva_ros.evaluation.comparison import Comparison
from eva_ros.evaluation.comparison import confusion
from eva_ros.evaluation.comparison import gym_aloha_successes
from eva_ros.evaluation.comparison import NOTHING
from eva_ros.evaluation.comparison import Outcome
from eva_ros.evaluation.comparison import successes
from eva_ros.evaluation.statistics import paired_difference
from eva_ros.evaluation.statistics import wilson_interval
from eva_ros.evaluation.variants import CONTROLS


def text(comparison: Comparison, outcomes: Sequence[Outcome]) -> str:
    """Return the table, and what the models gain over the best control."""
    columns = [*comparison.tasks]
    if len(columns) > 1:
        columns.append('all')
    rows = [['success', *columns]]
    for variant in comparison.variants:
        cells = [_cell(outcomes, variant, _tasks(comparison, column)) for column in columns]
        rows.append([variant, *cells])
    lines = [
        *_align(rows),
        '',
        *_pace(comparison, outcomes, columns),
        *_by_gym_aloha(comparison, outcomes),
        '',
    ]
    for variant in comparison.variants:
        lines += [*_confusion(outcomes, variant, comparison.phrasings), '']
    lines.append(_setting(comparison))
    lines.extend(_gains(comparison, outcomes))
    return '\n'.join(lines)


def _tasks(comparison: Comparison, column: str) -> tuple[str, ...]:
    return comparison.tasks if column == 'all' else (column,)


def _cell(outcomes: Sequence[Outcome], variant: str, tasks: Sequence[str]) -> str:
    won = [success for *_, success in successes(outcomes, variant, tasks)]
    low, high = wilson_interval(sum(won), len(won))
    return f'{sum(won)}/{len(won)} = {sum(won) / len(won):.0%} [{low:.0%}, {high:.0%}]'


def _pace(
    comparison: Comparison, outcomes: Sequence[Outcome], columns: Sequence[str]
) -> list[str]:
    """Return a table of the median duration and the share of it in which the arms stood still."""
    rows = [[f'{comparison.mode}: median duration, standing', *columns]]
    for variant in comparison.variants:
        cells = []
        for column in columns:
            tasks = _tasks(comparison, column)
            found = [o for o in outcomes if o.variant == variant and o.task in tasks]
            standing = sum(o.standing_s for o in found) / sum(o.elapsed_s for o in found)
            cells.append(f'{median(o.elapsed_s for o in found):.1f} s, {standing:.0%}')
        rows.append([variant, *cells])
    return _align(rows)


def _by_gym_aloha(comparison: Comparison, outcomes: Sequence[Outcome]) -> list[str]:
    """Return the transfers that gym-aloha's weaker criterion counts."""
    lines = []
    for variant in comparison.variants:
        for task in comparison.tasks:
            met = gym_aloha_successes(outcomes, variant, task)
            if met is not None:
                trials = len(successes(outcomes, variant, (task,)))
                lines.append(f'gym_aloha_success of {variant}, {task}: {met}/{trials}')
    return lines


def _confusion(outcomes: Sequence[Outcome], variant: str, phrasings: str) -> list[str]:
    """Return a table of the task asked for (rows) and the task done (columns)."""
    table = confusion(outcomes, variant)
    done = sorted({name for row in table.values() for name in row} - {*table, NOTHING})
    columns = [*table, *done, NOTHING]
    rows = [[f'{variant}, {phrasings}: asked \\ done', *columns]]
    for task, row in table.items():
        rows.append([task, *(str(row.get(column, 0)) for column in columns)])
    return _align(rows)


def _align(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ['  '.join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _setting(comparison: Comparison) -> str:
    last = comparison.seed + comparison.episodes - 1
    loop = comparison.loop
    return (
        f'Scenes {comparison.seed} to {last} ({comparison.scenes}), the same for every row, '
        f'{comparison.phrasings} phrasings, {loop.time_limit_s:g} s of simulated time each, of '
        f'which a dream takes {charged(loop.think_times_s)}. In brackets: 95 % Wilson intervals.'
    )


def charged(think_times_s: Sequence[float]) -> str:
    """Return the think times of a comparison in words."""
    least_s, most_s = min(think_times_s), max(think_times_s)
    if least_s == most_s:
        return f'{least_s:g} s'
    return f'{least_s:.2f} to {most_s:.2f} s (median {median(think_times_s):.2f} s)'


def _gains(comparison: Comparison, outcomes: Sequence[Outcome]) -> list[str]:
    beside = [variant for variant in comparison.variants if variant in CONTROLS]
    models = [variant for variant in comparison.variants if variant not in CONTROLS]
    if not beside or not models:
        return []
    best = max(beside, key=lambda control: sum(_won(comparison, outcomes, control)))
    lines = []
    for model in models:
        pair = _won(comparison, outcomes, model), _won(comparison, outcomes, best)
        mean, (low, high) = paired_difference(*pair, seed=0)
        lines.append(
            f'{model} beats the best control ({best}) by {100 * mean:.0f} points '
            f'[{100 * low:.0f}, {100 * high:.0f}] (95 % bootstrap over paired scenes).'
        )
    return lines


def _won(comparison: Comparison, outcomes: Sequence[Outcome], variant: str) -> list[float]:
    return [float(won) for *_, won in successes(outcomes, variant, comparison.tasks)]
