"""One turn of a run as a picture: observation, dream, camera views during execution, joints."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.figure import FigureBase
from matplotlib.figure import SubFigure
import numpy as np

from eva_ros.errors import UserError
from eva_ros.evaluation.run import Attempted
from eva_ros.evaluation.run import Run
from eva_ros.evaluation.run import Turn
from eva_ros.pages import evenly

_COLUMNS = 6
_DREAM, _SENT, _REAL, _LIMIT = '#7a4fe0', '#12a3a8', '#16181d', '#d92f4b'


def draw(run: Run, path: Path) -> None:
    """Draw the turn that moved most, of a successful task if there is one.

    Raises:
        UserError: The arms never followed a dream.
    """
    attempt, turn = _most_telling(run)
    figure = Figure(figsize=(12.6, 6.6), dpi=110, layout='constrained')
    above, below = _split(figure, (2, 1), height_ratios=[2.3, 1.0])
    left, right = _split(above, (1, 2), width_ratios=[1.0, 2.35])
    figure.suptitle(f'{attempt.task}: “{attempt.instruction}”', x=0.01, ha='left', fontsize=13)
    _observation(left, turn, run)
    _strips(right, turn)
    _joints(below, attempt, turn, run)
    figure.savefig(path)


def _split(
    figure: FigureBase, shape: tuple[int, int], **ratios: Any
) -> tuple[SubFigure, SubFigure]:
    first, second = np.ravel(figure.subfigures(*shape, **ratios))
    return first, second


def _most_telling(run: Run) -> tuple[Attempted, Turn]:
    followed = [
        (attempt.success, float(np.abs(np.diff(turn.positions, axis=0)).sum()), attempt, turn)
        for attempt in run.attempts
        for turn in attempt.turns
        if turn.seen is not None and len(turn.command)
    ]
    if not followed:
        raise UserError('The arms never followed a dream in this run: there is nothing to draw.')
    *_, attempt, turn = max(followed, key=lambda found: found[:2])
    return attempt, turn


def _observation(figure: SubFigure, turn: Turn, run: Run) -> None:
    """Draw the first camera large, the others in a row below it."""
    names = [camera.name for camera in run.view.cameras if camera.name in turn.cameras]
    below = max(len(names) - 1, 1)
    grid = figure.add_gridspec(2, below, height_ratios=[2, 1])
    for number, name in enumerate(names):
        axes = figure.add_subplot(grid[0, :] if number == 0 else grid[1, number - 1])
        axes.imshow(turn.cameras[name])
        axes.set_title(f'{name.replace("_", " ")} camera', fontsize=9, color='#5d6472')
        axes.set_axis_off()


def _strips(figure: SubFigure, turn: Turn) -> None:
    assert turn.seen is not None
    steps = evenly(len(turn.frames), _COLUMNS)
    rows = (('dreamed', turn.frames, _DREAM), ('seen', turn.seen, _REAL))
    for panels, (label, frames, colour) in zip(figure.subplots(2, len(steps)), rows):
        for axes, step in zip(panels, steps):
            axes.imshow(frames[step])
            axes.set(xticks=[], yticks=[])
            axes.set_title(f'{label}, {step * turn.dt:.1f} s', fontsize=9, color=colour)
            for spine in axes.spines.values():
                spine.set(color=colour, linewidth=1.6)


def _joints(figure: SubFigure, attempt: Attempted, turn: Turn, run: Run) -> None:
    """Draw the joints that moved most: decoded, sent, measured."""
    assert turn.started_ns is not None
    begin_s = (turn.started_ns - attempt.start_ns) * 1e-9
    end_s = begin_s + float(turn.command_times_s[-1])
    times = (attempt.stamps_ns - attempt.start_ns) * 1e-9
    during = (times >= begin_s) & (times <= end_s + 0.3)
    arms = np.flatnonzero(~run.robot.gripper_mask)
    moved = np.ptp(turn.command[:, arms], axis=0)
    chosen = sorted(arms[np.argsort(moved)[-4:]])
    panels = figure.subplots(1, len(chosen), squeeze=False)[0]
    for column, (axes, joint) in enumerate(zip(panels, chosen)):
        decoded_s = attempt.decoded_s(turn) - begin_s
        axes.plot(decoded_s, turn.positions[:, joint], '--', color=_DREAM, label='decoded')
        axes.plot(turn.command_times_s, turn.command[:, joint], color=_SENT, label='sent')
        measured = attempt.joints[during, joint]
        axes.plot(times[during] - begin_s, measured, color=_REAL, label='measured')
        _limits(axes, run, joint)
        axes.set_title(run.robot.joint_names[joint].replace('_', ' '), fontsize=9)
        axes.set_xlabel('s', fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[['top', 'right']].set_visible(False)
        if column == 0:
            axes.set_ylabel('rad', fontsize=8)
            axes.legend(fontsize=8, frameon=False)


def _limits(axes, run: Run, joint: int) -> None:
    """Draw the limits that lie near what is shown."""
    low, high = axes.get_ylim()
    room = max(high - low, 0.2)
    for limit in (run.robot.limits.min_position[joint], run.robot.limits.max_position[joint]):
        if low - room < limit < high + room:
            axes.axhline(limit, color=_LIMIT, linewidth=1)
