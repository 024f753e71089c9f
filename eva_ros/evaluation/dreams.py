"""Quality of a world model: dreams of held-out clips compared with the recordings."""

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import sys
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.evaluation.dream_motion import DREAMED_RAD
from eva_ros.evaluation.dream_motion import DreamMotion
from eva_ros.evaluation.dream_motion import INSTRUCTED
from eva_ros.evaluation.dream_motion import RECORDED_RAD
from eva_ros.evaluation.held_out import held_out_clips
from eva_ros.evaluation.held_out import NearestClips
from eva_ros.evaluation.metrics import psnr_moving
from eva_ros.evaluation.metrics import psnr_still
from eva_ros.evaluation.similarity import ms_ssim
from eva_ros.evaluation.similarity import ssim
from eva_ros.evaluation.statistics import bootstrap_interval
from eva_ros.evaluation.statistics import bootstrap_ratio
from eva_ros.evaluation.statistics import wilson_interval
from eva_ros.idm.model import InverseDynamics
from eva_ros.pages import evenly
from eva_ros.progress import Progress
from eva_ros.robot.spec import Robot
from eva_ros.world_model.clips import Clip
from eva_ros.world_model.pipeline import WorldModel
from eva_ros.world_model.rollout import rollout_seed


@dataclass(frozen=True)
class DreamedClip:
    """A held-out clip, its dream, and what their comparison gave.

    Attributes:
        instruction: What was asked for.
        rate_hz: Frames per second of both.
        real: Recorded frames [T, H, W, 3], uint8.
        dream: Dreamed frames [T, H, W, 3], uint8.
        figures: Figures of this clip by name; nan where unknown.
    """

    instruction: str
    rate_hz: float
    real: NDArray[np.uint8]
    dream: NDArray[np.uint8]
    figures: dict[str, float]


def judge(
    model: WorldModel,
    episodes: Sequence,
    robot: Robot,
    idm: InverseDynamics | None,
    *,
    count: int,
    seed: int,
    steps: int | None = None,
    training: Sequence = (),
    moving: bool = False,
    keep: Callable[[DreamedClip], None] = lambda clip: None,
) -> dict:
    """Dream held-out clips and compare them with the recordings.

    Args:
        model: World model.
        episodes: Episodes that were not used in training.
        robot: Robot of the episodes.
        idm: Inverse dynamics model that reads the dreams; without it their motion is unknown.
        count: Maximum number of clips.
        seed: Random seed of the selection and of the noise.
        steps: Denoising steps; the checkpoint's if None.
        training: Episodes in which the nearest clip is looked up; `episodes` if empty, other
            attempts than the clip's own.
        moving: Dream from views in motion, with the views before that the model takes, instead of
            from rest.
        keep: Called with every clip, e.g. to write its video.

    Returns:
        A dict for JSON: mean, its 95 % interval and median over clips of each figure; None where
        unknown.
    """
    clips = held_out_clips(model, episodes, count, seed, moving=moving)
    nearest = NearestClips(model, training or episodes)
    motion = None if idm is None else DreamMotion(idm, robot)
    history = model.settings.history if moving else 0
    rows = []
    with Progress('dreams', len(clips), sys.stderr) as counter:
        for index, (episode, clip) in enumerate(clips):
            done = _dreamed(
                model, motion, nearest, episode, clip, rollout_seed(seed, index), steps, history
            )
            rows.append(done.figures)
            keep(done)
            counter.advance()
    return {
        'clips': len(rows),
        'start': 'in motion' if moving else 'at rest',
        'history': history,
        'seed': seed,
        'steps': steps or model.settings.steps,
        'nearest_clip_of': 'training bags' if training else 'the same bags',
        **_figures(rows),
    }


def _figures(rows: list[dict[str, float]]) -> dict[str, dict | None]:
    """Return the figures over all clips."""
    columns = {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}
    instructed = columns.pop(INSTRUCTED)
    dreamed, recorded = columns.pop(DREAMED_RAD), columns.pop(RECORDED_RAD)
    figures = {name: _mean(values) for name, values in columns.items()}
    for other in ('still', 'nearest_clip'):
        baseline = 'nearest_clip_psnr_moving' if other != 'still' else 'still_psnr_moving_db'
        gain = columns['psnr_moving_db'] - columns[baseline]
        figures[f'gain_over_{other}_db'] = _mean(gain)
    figures['instructed_arm_fraction'] = figures['motion_ratio'] = None
    known = instructed[~np.isnan(instructed)]
    if known.size:
        interval = wilson_interval(int(known.sum()), known.size)
        figures['instructed_arm_fraction'] = {'mean': known.mean(), 'interval': interval}
    if np.nansum(recorded) > 0:
        ratio, interval = bootstrap_ratio(dreamed, recorded, 0)
        figures['motion_ratio'] = {'mean': ratio, 'interval': interval}
    return figures


def _mean(values: NDArray) -> dict | None:
    if np.isnan(values).all():
        return None
    return {
        'mean': float(np.nanmean(values)),
        'median': float(np.nanmedian(values)),
        'interval': bootstrap_interval(values, 0),
    }


def _dreamed(
    model: WorldModel,
    motion: DreamMotion | None,
    nearest: NearestClips,
    episode: Any,
    clip: Clip,
    seed: int,
    steps: int | None,
    history: int,
) -> DreamedClip:
    """Dream a clip, given `history` frames before it, and compare it with the recording."""
    real = np.asarray(episode.frames[clip.frames])
    before = list(np.asarray(episode.frames[clip.before(history)]))
    start = time.perf_counter()
    dream = model.dream(real[0], episode.instruction, seed=seed, steps=steps, before=before).frames
    seconds = time.perf_counter() - start
    found = nearest.find(episode, real[0])
    figures = {
        'psnr_moving_db': psnr_moving(dream, real, real[0]),
        'still_psnr_moving_db': psnr_still(real, real[0]),
        'nearest_clip_psnr_moving': np.nan if found is None else psnr_moving(found, real, real[0]),
        **_similarities(dream, real, ''),
        **_similarities(np.broadcast_to(real[:1], real.shape), real, 'still_'),
        **_similarities(found, real, 'nearest_clip_'),
        'dream_s': seconds,
        INSTRUCTED: np.nan,
        DREAMED_RAD: np.nan,
        RECORDED_RAD: np.nan,
    }
    if motion is not None:
        figures |= motion.figures(dream, real, episode.joints[clip.frames])
    return DreamedClip(episode.instruction, model.settings.rate_hz, real, dream, figures)


def _similarities(frames: NDArray | None, real: NDArray, prefix: str) -> dict[str, float]:
    """Return both similarities of the frames after the first, which was given."""
    return {
        f'{prefix}{measure.__name__}': np.nan if frames is None else measure(frames[1:], real[1:])
        for measure in (ssim, ms_ssim)
    }


def table(result: dict) -> str:
    """Return the figures as lines of text."""
    lines = [
        f'{result["clips"]} held-out clips from arms {result["start"]} '
        f'({result["history"]} frames before), {result["steps"]} denoising steps, '
        f'seed {result["seed"]}; nearest clip of {result["nearest_clip_of"]}'
    ]
    for key, value in result.items():
        if isinstance(value, dict):
            low, high = value['interval']
            middle = f'   median {value["median"]:.3f}' if 'median' in value else ''
            lines.append(f'{key:24s} {value["mean"]:8.3f}   [{low:.3f}, {high:.3f}]{middle}')
        elif value is None:
            needed = '--idm' if key in ('instructed_arm_fraction', 'motion_ratio') else 'more bags'
            lines.append(f'{key:24s} not measured (needs {needed})')
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
    """Write a PNG or JPEG: for each clip the recorded frames above the dreamed ones."""
    rows = []
    for index, (episode, clip) in enumerate(held_out_clips(model, episodes, count, seed)):
        real = np.asarray(episode.frames[clip.frames])
        dream = model.dream(
            real[0], episode.instruction, seed=rollout_seed(seed, index), steps=steps
        ).frames
        shown = evenly(len(real), 6)
        rows += [np.hstack([*real[shown]]), np.hstack([*dream[shown]])]
    kind = path.suffix if path.suffix in ('.jpg', '.jpeg') else '.png'
    _, picture = cv2.imencode(kind, np.vstack(rows)[..., ::-1])
    try:
        path.write_bytes(picture.tobytes())
    except OSError as error:
        raise UserError(f'{path} cannot be written: {error.strerror}.') from error
