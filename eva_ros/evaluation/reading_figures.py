"""How well an inverse dynamics model reads, over episodes: figures for JSON and for people."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.evaluation import calibration
from eva_ros.evaluation.statistics import bootstrap_interval
from eva_ros.idm.evaluate import EpisodeFigures
from eva_ros.robot.spec import Robot

_BASELINES = {'mean_pose_error': 'mean pose', 'nearest_frame_error': 'nearest frame'}


def summary(figures: Sequence[EpisodeFigures], robot: Robot, seed: int) -> dict[str, Any]:
    """Return means and 95 % bootstrap intervals over episodes, for JSON.

    Args:
        figures: Of each episode.
        robot: Robot whose joints were read.
        seed: Random seed of the intervals.

    Returns:
        Errors by kind and joint (rad, grippers 0 to 1; also as a share of the joint's range and in
        the unit of the recording), and the other figures of `EpisodeFigures` by name; mean and
        interval are None where nothing was measured.
    """

    def entry(values: Any) -> dict[str, Any]:
        values = np.asarray(values, dtype=float)
        if np.isnan(values).all():
            return {'mean': None, 'interval': None}
        return {
            'mean': float(np.nanmean(values)),
            'interval': list(bootstrap_interval(values, seed)),
        }

    def joints(values: Any, factor: Any = 1.0) -> dict[str, Any]:
        return {n: entry(v) for n, v in zip(robot.joint_names, (values * factor).T)}

    names = ('fingertip_error', 'smoothed_fingertip_error', 'roughness', 'smoothed_roughness',
             'true_roughness', 'noise_floor', 'reading_noise', 'smoothed_reading_noise',
             'rank_correlation')  # fmt: skip
    kinds = ('joint_error', 'mean_pose_error', 'nearest_frame_error')
    found = {kind: np.stack([getattr(figure, kind) for figure in figures]) for kind in kinds}
    ranges = robot.limits.max_position - robot.limits.min_position
    share = 1 / np.where(np.isfinite(ranges), ranges, np.nan)
    return {
        'episodes': len(figures),
        'seed': seed,
        **{kind: joints(values) for kind, values in found.items()},
        **{f'{kind}_of_range': joints(values, share) for kind, values in found.items()},
        **{f'{kind}_as_recorded': joints(values, _recorded_units(robot))
           for kind, values in found.items()},
        **{name: entry([getattr(figure, name) for figure in figures]) for name in names},
    }  # fmt: skip


def _recorded_units(robot: Robot) -> NDArray[np.float64]:
    """Return the unit of the recorded joint states for each rad or gripper opening [J]."""
    return np.abs(np.concatenate([arm.state_interface.scale for arm in robot.arms.values()]))


def table(found: Mapping[str, Any], robot: Robot) -> str:
    """Return a summary, with its calibration, as lines to print."""
    units = {'fingertip_error': 'm', 'smoothed_fingertip_error': 'm', 'rank_correlation': ''}
    lines = [f'{found["episodes"]} episodes, mean and 95 % bootstrap interval over episodes']
    lines += _joint_lines(found, robot)
    rows = {name: found[name] for name in found if isinstance(found[name], dict)
            and 'mean' in found[name]}  # fmt: skip
    for name, figure in rows.items():
        if figure['mean'] is None:
            lines.append(f'{name:32} not measured')
            continue
        low, high = figure['interval']
        unit = units.get(name, 'rad')
        lines.append(f'{name:32} {figure["mean"]:.4f} ({low:.4f} to {high:.4f}) {unit}')
    for kind, stated in found['calibration'].items():
        lines += ['', calibration.table(kind, stated)]
    return '\n'.join(lines)


def _joint_lines(found: Mapping[str, Any], robot: Robot) -> list[str]:
    """Return a line per joint: the error, also in other units, and what the baselines reach."""
    lines = []
    for name, gripper, scale in zip(robot.joint_names, robot.gripper_mask, _recorded_units(robot)):
        figure = found['joint_error'][name]
        (low, high), unit = figure['interval'], '0..1' if gripper else 'rad'
        line = f'error {name:26} {figure["mean"]:.4f} ({low:.4f} to {high:.4f}) {unit}'
        said = []
        if scale != 1:
            said.append(f'{found["joint_error_as_recorded"][name]["mean"]:.2f} as recorded')
        if (share := found['joint_error_of_range'][name]['mean']) is not None:
            said.append(f'{100 * share:.1f} % of range')
        said += [
            f'{word} {found[key][name]["mean"]:.4f}'
            for key, word in _BASELINES.items()
            if found[key][name]['mean'] is not None
        ]
        lines.append(': '.join([line, *([', '.join(said)] if said else [])]))
    return lines
