"""Whether an IDM knows how far off it is: coverage of its spread, worth of its confidence."""

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
import math
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.alignment.probes import auc
from eva_ros.evaluation.held_out import held_out_clips
from eva_ros.evaluation.replay import chunks
from eva_ros.evaluation.statistics import bootstrap_interval
from eva_ros.idm.evaluate import Treatment
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_rollout
from eva_ros.progress import Progress
from eva_ros.world_model.pipeline import WorldModel
from eva_ros.world_model.rollout import rollout_seed

# A reading is wrong if its arm joints are off by more than this on average, rad: where a fingertip
# of a half-metre arm is about 2 cm off.
WRONG_RAD = 0.05
# Shares of the errors that should lie within the interval that is stated for them.
_LEVELS = (0.5, 0.9)


@dataclass(frozen=True)
class ReadClip:
    """A reading of a clip, and how far off it was.

    Attributes:
        error: Absolute error of the arm joints [T, A], rad.
        spread: Error that the model expects (Laplace scale) [T, A], rad.
        confidence: Confidence of the reading, 0 to 1.
    """

    error: NDArray[np.float64]
    spread: NDArray[np.float64]
    confidence: float

    @property
    def wrong(self) -> bool:
        """Return whether the arms would be led astray."""
        return bool(self.error.mean() > WRONG_RAD)


def recorded_clips(
    idm: InverseDynamics, episodes: Sequence[Any], length: int, treatment: Treatment | None = None
) -> Iterator[ReadClip]:
    """Yield the readings of recorded frames, cut into clips as long as a rollout.

    Args:
        idm: Inverse dynamics model.
        episodes: Episodes that were not used in training.
        length: Frames of a rollout.
        treatment: What is done to the frames before they are read.
    """
    for episode in episodes:
        for rows in chunks(len(episode.frames), length):
            frames = np.asarray(episode.frames[rows])
            seen = frames if treatment is None else treatment(frames)
            yield _read(idm, seen, episode.joints[rows])


def dreamed_clips(
    idm: InverseDynamics, model: WorldModel, episodes: Sequence[Any], count: int, seed: int
) -> Iterator[ReadClip]:
    """Yield the readings of dreams of recorded clips, against what was recorded.

    What joints a dream shows is not known otherwise: its own error counts as one of the reading,
    as it does for arms that follow it.
    """
    clips = held_out_clips(model, episodes, count, seed)
    with Progress('dreams', len(clips), sys.stderr) as counter:
        for index, (episode, clip) in enumerate(clips):
            first = np.asarray(episode.frames[clip.frames[0]])
            rollout = model.dream(first, episode.instruction, seed=rollout_seed(seed, index))
            yield _read(idm, rollout.frames, episode.joints[clip.frames])
            counter.advance()


def _read(idm: InverseDynamics, frames: NDArray[np.uint8], joints: NDArray) -> ReadClip:
    reading, arms = read_rollout(idm, frames), ~np.asarray(idm.config.gripper_mask)
    error = np.abs(reading.positions.double().numpy() - joints)[:, arms]
    return ReadClip(error, reading.spread.double().numpy()[:, arms], reading.confidence)


def summary(clips: Sequence[ReadClip]) -> dict:
    """Return the figures for JSON: coverage with intervals over clips, and the AUC.

    The AUC is the probability that a wrong reading has the lower confidence of the two when it is
    compared with one that is not wrong; None where there are none of either kind.
    """
    wrong = np.array([clip.confidence for clip in clips if clip.wrong])
    right = np.array([clip.confidence for clip in clips if not clip.wrong])
    return {
        'clips': len(clips),
        'wrong': len(wrong),
        'wrong_above_rad': WRONG_RAD,
        **{f'coverage_{100 * level:.0f}': _coverage(clips, level) for level in _LEVELS},
        'auc_of_confidence': auc(right, wrong) if len(wrong) and len(right) else None,
    }


def _coverage(clips: Sequence[ReadClip], level: float) -> dict:
    """Return the share of errors within the interval that holds a share of a Laplace law."""
    width = -math.log(1 - level)
    shares = [float((clip.error <= width * clip.spread).mean()) for clip in clips]
    return {'mean': float(np.mean(shares)), 'interval': list(bootstrap_interval(shares, 0))}


def table(name: str, figures: dict) -> str:
    """Return the figures as lines for a terminal."""
    lines = [
        f'calibration on {name}: {figures["clips"]} clips, {figures["wrong"]} of them read wrong '
        f'(off by more than {figures["wrong_above_rad"]} rad)'
    ]
    for level in _LEVELS:
        share = figures[f'coverage_{100 * level:.0f}']
        low, high = share['interval']
        stated = f'within the stated {level:.0%} interval'
        lines.append(f'{stated:32} {share["mean"]:.1%} ({low:.1%} to {high:.1%})')
    known = figures['auc_of_confidence']
    found = 'not measured: none, or all, were read wrong' if known is None else f'{known:.2f}'
    lines.append(f'{"AUC of the confidence":32} {found}')
    return '\n'.join(lines)
