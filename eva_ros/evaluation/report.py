"""The report page of a run: one HTML file that needs no network."""

from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eva_ros.evaluation.plots import joint_panels
from eva_ros.evaluation.run import Dream
from eva_ros.evaluation.run import mean_known
from eva_ros.evaluation.run import median_and_p95
from eva_ros.evaluation.run import Run
from eva_ros.evaluation.run import shown
from eva_ros.evaluation.run import STAGES
from eva_ros.pages import data_uri
from eva_ros.pages import evenly
from eva_ros.pages import jpeg
from eva_ros.pages import render
from eva_ros.robot.motion import differences


def write_report(run: Run, path: Path) -> None:
    """Write the report of a run."""
    path.write_text(page(run), encoding='utf-8')


def page(run: Run) -> str:
    """Return the whole page as HTML."""
    arms = ~run.robot.gripper_mask

    def arm_motion(dream: Dream, dt: float) -> tuple[float, float]:
        velocity, _, jerk = differences(dream.positions[:, arms], dt)
        return float(np.sqrt(np.square(jerk).mean())), float(np.abs(velocity).mean())

    walls_s = [sum(sum(turn.seconds.values()) for turn in a.turns) for a in run.attempts]
    return render(
        'report.html',
        title=run.title,
        style='report.css',
        run=run,
        tiles=_tiles(run),
        stages=STAGES,
        longest_s=max(walls_s, default=0.0) or 1.0,
        panels=joint_panels,
        arm_motion=arm_motion,
        median_and_p95=median_and_p95,
        shown=shown,
        isfinite=isfinite,
        evenly=evenly,
        image_uri=lambda image: data_uri(jpeg(image)),
        film_uri=_film_uri,
    )


def _film_uri(frames: NDArray[np.uint8]) -> str:
    """Return frames [T, H, W, 3] as one picture, side by side."""
    return data_uri(jpeg(np.concatenate(list(frames), axis=1)))


def _tiles(run: Run) -> list[tuple[str, str]]:
    """Return the figures on top of the page, each with what it is."""
    attempts = run.attempts
    turns = [turn for attempt in attempts for turn in attempt.turns]
    before, after = np.sum([(0, 0), *(a.violations() for a in attempts)], axis=0)
    dream_s, _ = median_and_p95(run.stage_seconds('dream'))
    think_s, _ = median_and_p95(run.think_times_s)
    return [
        (f'{sum(a.success for a in attempts)} of {len(attempts)}', 'tasks done'),
        (
            shown(think_s, '{:.2f} s'),
            f'think time, look to verdict (median); dream {shown(dream_s, "{:.2f} s")}',
        ),
        (
            shown(mean_known(a.standing for a in attempts), '{:.0%}'),
            'of the time the arms stood still',
        ),
        (
            shown(mean_known(turn.score for turn in turns), '{:.2f}'),
            'executability of what was decoded (10 is best)',
        ),
        (f'{before} → {after}', 'limit violations as decoded → as sent'),
        (f'{sum(a.accepted for a in attempts)} of {len(turns)}', 'chunks accepted by the gate'),
    ]
