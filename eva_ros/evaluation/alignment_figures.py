"""Figures that compare dreams before and after alignment."""

from typing import Any

from eva_ros.alignment.judge import motion_ratio
from eva_ros.evaluation.alignment_comparison import Comparison
from eva_ros.evaluation.statistics import bootstrap_interval
from eva_ros.evaluation.statistics import paired_difference


def figures(compared: Comparison, seed: int) -> dict[str, Any]:
    """Return what `eva align evaluate --json` prints: means with 95 % bootstrap intervals.

    Args:
        compared: Scores of the same dreams before and after.
        seed: Random seed of the bootstrap.
    """
    before, after = compared.before, compared.after

    def entry(values: Any) -> dict[str, Any]:
        numbers = values.double().numpy()
        return {'mean': float(numbers.mean()), 'interval': list(bootstrap_interval(numbers, seed))}

    ours, theirs = (judged.executability.score.double().numpy() for judged in (after, before))
    difference, interval = paired_difference(ours, theirs, seed)
    return {
        'views': len(ours),
        'seed': seed,
        'executability': {
            'before': entry(before.executability.score),
            'after': entry(after.executability.score),
            'difference': {'mean': difference, 'interval': list(interval)},
            'recorded': entry(compared.recorded.executability.score),
            'before_smoothed': entry(compared.before_smoothed.executability.score),
        },
        'penalty_terms': {
            name: {
                when: float(getattr(judged.executability, name).mean())
                for when, judged in (('before', before), ('after', after))
            }
            for name in ('jerk', 'acceleration', 'velocity', 'acceleration_excess', 'position')
        },
        'motion_ratio': {
            'after_to_before': motion_ratio(after.travelled, before.travelled),
            'before_to_recorded': motion_ratio(before.travelled, compared.demonstrated),
            'after_to_recorded': motion_ratio(after.travelled, compared.demonstrated),
        },
        'distance_to_recorded_rad': {
            'before': entry(compared.distance(before)),
            'after': entry(compared.distance(after)),
        },
    }


def table(summary: dict[str, Any]) -> str:
    """Return the figures as lines for a terminal."""
    lines = [f'{summary["views"]} held-out initial views, 95 % bootstrap intervals']
    for group in ('executability', 'distance_to_recorded_rad'):
        for name, figure in summary[group].items():
            low, high = figure['interval']
            lines.append(f'{group} {name:16} {figure["mean"]:8.3f} ({low:.3f} to {high:.3f})')
    for name, term in summary['penalty_terms'].items():
        lines.append(f'penalty {name:20} {term["before"]:10.1f} -> {term["after"]:.1f}')
    for name, ratio in summary['motion_ratio'].items():
        lines.append(f'motion ratio {name:20} {ratio:.3f}')
    if 'second_idm' in summary:
        lines += ['', 'By the second inverse dynamics model: ' + table(summary['second_idm'])]
    return '\n'.join(lines)
