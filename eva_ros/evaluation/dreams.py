"""Quality of a world model: dreams of held-out clips compared with the recordings."""

from collections.abc import Sequence
from pathlib import Path
import sys
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.evaluation.metrics import psnr_moving
from eva_ros.evaluation.metrics import psnr_still
from eva_ros.evaluation.statistics import bootstrap_interval
from eva_ros.evaluation.statistics import paired_difference
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_rollout
from eva_ros.pages import evenly
from eva_ros.progress import Progress
from eva_ros.robot.kinematics import ForwardKinematics
from eva_ros.robot.spec import Robot
from eva_ros.world_model.clips import Clip
from eva_ros.world_model.clips import ClipSettings
from eva_ros.world_model.clips import find_clips
from eva_ros.world_model.pipeline import rollout_seed
from eva_ros.world_model.pipeline import WorldModel


def held_out_clips(
    model: WorldModel, episodes: Sequence, count: int, seed: int
) -> list[tuple[Any, Clip]]:
    """Return `count` clips in which resting arms start to move, at most one per start.

    Args:
        model: World model, for its rollout length and rate.
        episodes: Episodes that were not used in training.
        count: Maximum number of clips.
        seed: Random seed of the selection.
    """
    settings = ClipSettings(model.settings.frames, moving_weight=0.0, end_weight=0.0)
    found = find_clips([e.joints for e in episodes], 1.0 / model.settings.rate_hz, settings)
    starts = [c for k, c in enumerate(found) if k == 0 or not _follows(found[k - 1], c)]
    if not starts:
        raise UserError('No held-out episode begins at rest and then moves: give more bags.')
    chosen = np.random.default_rng(seed).permutation(len(starts))[:count]
    return [(episodes[starts[k].episode], starts[k]) for k in chosen]


def _follows(before: Clip, clip: Clip) -> bool:
    return before.episode == clip.episode and clip.frames[0] - before.frames[0] <= 2


def judge(
    model: WorldModel,
    episodes: Sequence,
    robot: Robot,
    idm: InverseDynamics | None,
    *,
    count: int,
    seed: int,
    steps: int | None = None,
) -> dict:
    """Dream held-out clips and compare them with the recordings.

    Returns:
        A dict for JSON: mean and 95 % bootstrap interval over clips of each figure.
    """
    clips = held_out_clips(model, episodes, count, seed)
    rows = []
    known = idm is not None and robot.has_end_effectors
    kinematics = ForwardKinematics(robot) if known else None
    with Progress('dreams', len(clips), sys.stderr) as counter:
        for index, (episode, clip) in enumerate(clips):
            rows.append(_row(model, idm, kinematics, episode, clip, index, seed, steps))
            counter.advance()
    result: dict = {'clips': len(rows), 'seed': seed, 'steps': steps or model.settings.steps}
    for key in rows[0]:
        values = [row[key] for row in rows]
        result[key] = {
            'mean': float(np.nanmean(values)),
            'interval': bootstrap_interval(values, 0),
        }
    mean, interval = paired_difference(
        [r['psnr_moving_db'] for r in rows], [r['still_psnr_moving_db'] for r in rows], 0
    )
    result['gain_over_still_db'] = {'mean': mean, 'interval': interval}
    return result


def _row(model, idm, kinematics, episode, clip, index, seed, steps) -> dict[str, float]:
    real = np.asarray(episode.frames[clip.frames])
    start = time.perf_counter()
    rollout = model.dream(
        real[0], episode.instruction, seed=rollout_seed(seed, index), steps=steps
    )
    row = {
        'psnr_moving_db': psnr_moving(rollout.frames, real, real[0]),
        'still_psnr_moving_db': psnr_still(real, real[0]),
        'dream_s': time.perf_counter() - start,
    }
    if idm is not None:
        row |= _misses(idm, kinematics, rollout.frames, real, episode.joints[clip.frames])
    return row


def _misses(idm, kinematics, dream: NDArray, real: NDArray, joints: NDArray) -> dict[str, float]:
    """Return how far off a clip ends: the fingertips of the arm that moves most in m.

    Where no URDF says where these are, the arm joints instead: their mean error in rad.
    """

    def read(frames: NDArray) -> NDArray:
        return read_rollout(idm, frames).positions.double().numpy()

    paths = {
        'dream_miss': read(dream),
        'idm_miss': read(real),
        'still_miss': np.repeat(joints[:1], len(joints), 0),
    }
    if kinematics is None:
        arms = ~np.asarray(idm.config.gripper_mask)
        return {
            f'{name}_rad': float(np.abs(path[-1] - joints[-1])[arms].mean())
            for name, path in paths.items()
        }
    truth = kinematics.end_effector(joints)
    arm = max(truth, key=lambda name: np.linalg.norm(truth[name][-1] - truth[name][0]))
    tips = {name: kinematics.end_effector(path)[arm][-1] for name, path in paths.items()}
    return {f'{name}_m': float(np.linalg.norm(tip - truth[arm][-1])) for name, tip in tips.items()}


def table(result: dict) -> str:
    """Return the figures as lines of text."""
    lines = [
        f'{result["clips"]} held-out clips from rest, {result["steps"]} denoising steps, '
        f'seed {result["seed"]}'
    ]
    for key, value in result.items():
        if isinstance(value, dict):
            low, high = value['interval']
            lines.append(f'{key:24s} {value["mean"]:8.3f}   [{low:.3f}, {high:.3f}]')
    return '\n'.join(lines)


def picture(
    model: WorldModel,
    episodes: Sequence,
    path: Path,
    *,
    count: int,
    seed: int,
    steps: int | None = None,
) -> None:
    """Write a PNG: for each clip the recorded frames above the dreamed ones."""
    rows = []
    for index, (episode, clip) in enumerate(held_out_clips(model, episodes, count, seed)):
        real = np.asarray(episode.frames[clip.frames])
        dream = model.dream(
            real[0], episode.instruction, seed=rollout_seed(seed, index), steps=steps
        ).frames
        shown = evenly(len(real), 6)
        rows += [np.hstack([*real[shown]]), np.hstack([*dream[shown]])]
    _, picture = cv2.imencode('.png', np.vstack(rows)[..., ::-1])
    try:
        path.write_bytes(picture.tobytes())
    except OSError as error:
        raise UserError(f'{path} cannot be written: {error.strerror}.') from error
