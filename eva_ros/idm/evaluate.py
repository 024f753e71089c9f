"""How well an inverse dynamics model reads held-out episodes."""

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.idm.data import Fingertips
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_rollout
from eva_ros.observations.views import shrink

# A joint that moves less than this from frame to frame stands still: 0.02 rad/s at 10 Hz.
_STILL_RAD = 0.002

# What may be done to the frames before they are read: uint8 [T, H, W, 3] to the same.
Treatment = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


class NearestFrames:
    """Reads joints by looking up the recorded frame that is most alike: memory without a model."""

    def __init__(self, episodes: Sequence[Any]) -> None:
        """Keep the frames [T, H, W, 3] and joints [T, J] of episodes."""
        self._frames = np.concatenate([_thumbnails(np.asarray(e.frames)) for e in episodes])
        self._joints = np.concatenate([np.asarray(e.joints, np.float64) for e in episodes])

    def joints(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the joints [N, J] that were recorded with the frames most like these."""
        rows = [
            np.square(self._frames - view).mean(axis=1).argmin() for view in _thumbnails(frames)
        ]
        return self._joints[rows]


def _thumbnails(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return frames [T, H, W, 3] at a quarter of their size, as rows of numbers [T, N]."""
    small = [shrink(frame) for frame in frames]
    return np.stack(small).reshape(len(frames), -1).astype(np.float32)


@dataclass(frozen=True)
class EpisodeFigures:
    """What one episode says about a model.

    Attributes:
        joint_error: mean absolute error of each joint [J], rad; grippers 0 to 1.
        mean_pose_error: the same of the mean of the training labels, which looks at nothing [J].
        nearest_frame_error: the same of the training frame that looks most alike [J]; nan where
            there are none to look up.
        fingertip_error: mean distance of both fingertips from where they were, m.
        smoothed_fingertip_error: the same after the command path's smoothing, m.
        roughness: root mean square of the third difference of the decoded arm joints, rad.
        smoothed_roughness: the same after the command path's smoothing, rad.
        true_roughness: the same of the labels, rad.
        noise_floor: standard deviation of the second difference while all joints stand still,
            rad; nan where they never do.
        reading_noise: root mean square of the second difference of the arm joints' error while
            any joint moves, rad; nan where none ever does.
        smoothed_reading_noise: the same after the command path's smoothing, rad.
        rank_correlation: Spearman's, of the guessed spread with the true error over the frames.
    """

    joint_error: NDArray[np.float64]
    mean_pose_error: NDArray[np.float64]
    nearest_frame_error: NDArray[np.float64]
    fingertip_error: float
    smoothed_fingertip_error: float
    roughness: float
    smoothed_roughness: float
    true_roughness: float
    noise_floor: float
    reading_noise: float
    smoothed_reading_noise: float
    rank_correlation: float


def evaluate_episode(
    model: InverseDynamics,
    episode: Any,
    fingertips: Fingertips | None,
    treatment: Treatment | None = None,
    nearest: NearestFrames | None = None,
) -> EpisodeFigures:
    """Return the figures of one episode.

    Args:
        model: the inverse dynamics model.
        episode: has frames uint8 [T, H, W, 3] and joints [T, J].
        fingertips: maps joints [N, J] to fingertips [N, 2, 3], m; nan without it.
        treatment: of the frames before they are read.
        nearest: training frames to look up, a baseline.
    """
    frames = np.asarray(episode.frames)
    reading = read_rollout(model, frames if treatment is None else treatment(frames))
    decoded = reading.positions.double().numpy()
    joints = np.asarray(episode.joints, np.float64)[: len(decoded)]
    smoothed = reading.smoothed
    arms = ~np.asarray(model.config.gripper_mask)
    error = np.abs(decoded - joints)
    found = nearest.joints(frames) if nearest else np.full_like(joints, np.nan)
    return EpisodeFigures(
        joint_error=error.mean(0),
        mean_pose_error=np.abs(model.mean.double().numpy() - joints).mean(0),
        nearest_frame_error=np.abs(found - joints).mean(0),
        fingertip_error=_fingertip_error(fingertips, decoded, joints),
        smoothed_fingertip_error=_fingertip_error(fingertips, smoothed, joints),
        roughness=roughness(decoded[:, arms]),
        smoothed_roughness=roughness(smoothed[:, arms]),
        true_roughness=roughness(joints[:, arms]),
        noise_floor=_noise_floor(decoded[:, arms], joints[:, arms]),
        reading_noise=_reading_noise(decoded[:, arms], joints[:, arms]),
        smoothed_reading_noise=_reading_noise(smoothed[:, arms], joints[:, arms]),
        rank_correlation=_rank_correlation(
            reading.spread.double().numpy()[:, arms].mean(1), error[:, arms].mean(1)
        ),
    )


def evaluate(
    model: InverseDynamics,
    episodes: Sequence[Any],
    fingertips: Fingertips | None,
    treatment: Treatment | None = None,
    nearest: NearestFrames | None = None,
) -> list[EpisodeFigures]:
    """Return the figures of every episode that has at least four frames."""
    long_enough = [episode for episode in episodes if len(episode.frames) >= 4]
    return [evaluate_episode(model, e, fingertips, treatment, nearest) for e in long_enough]


def roughness(path: NDArray) -> float:
    """Return the root mean square of the third difference of a path [T, J]."""
    return float(np.sqrt(np.mean(np.diff(path, 3, axis=0) ** 2))) if len(path) > 3 else np.nan


def _fingertip_error(fingertips: Fingertips | None, decoded: NDArray, joints: NDArray) -> float:
    if fingertips is None:
        return np.nan
    return float(np.linalg.norm(fingertips(decoded) - fingertips(joints), axis=-1).mean())


def _noise_floor(decoded: NDArray, joints: NDArray) -> float:
    """Return the deviation of the second difference where three frames in a row stand still."""
    steps = np.abs(np.diff(joints, axis=0)).max(1) < _STILL_RAD
    still = steps[:-1] & steps[1:]
    return float(np.diff(decoded, 2, axis=0)[still].std()) if still.sum() >= 2 else np.nan


def _reading_noise(decoded: NDArray, joints: NDArray) -> float:
    """Return the second difference of the error where no three frames in a row stand still."""
    steps = np.abs(np.diff(joints, axis=0)).max(1) >= _STILL_RAD
    moving = steps[:-1] | steps[1:]
    change = np.diff(decoded - joints, 2, axis=0)[moving]
    return float(np.sqrt(np.square(change).mean())) if len(change) else np.nan


def _rank_correlation(first: NDArray, second: NDArray) -> float:
    ranks = np.stack([np.argsort(np.argsort(values)) for values in (first, second)])
    return float(np.corrcoef(ranks)[0, 1]) if len(first) > 2 else np.nan
