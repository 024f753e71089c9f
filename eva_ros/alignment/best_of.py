"""Best of N: several dreams from one observation, of which the best is kept."""

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eva_ros.alignment.critic import load_critic
from eva_ros.alignment.critic import ProgressCritic
from eva_ros.alignment.reward import executability
from eva_ros.alignment.reward import MotionLimits
from eva_ros.errors import UserError
from eva_ros.idm.checkpoint import load_idm
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_frames
from eva_ros.training.frames import frames_to_tensor
from eva_ros.world_model.pipeline import WorldModel
from eva_ros.world_model.rollout import Rollout
from eva_ros.world_model.rollout import WorldSettings

CHOICES = ('progress', 'executability', 'consensus')
MOST = 16
# An attempt adds 1 to the seed for each dream: candidates keep clear of those.
_SEED_STRIDE = 1_000_003

# Scores candidates [N] by their frames [N, T, 3, H, W], 0 to 1, and the instruction.
Score = Callable[[Tensor, str], Tensor]


def by_progress(critic: ProgressCritic) -> Score:
    """Return the score that prefers what the critic finds furthest in the task."""
    return lambda frames, instruction: critic.progress(frames, [instruction] * len(frames))


def by_executability(idm: InverseDynamics, limits: MotionLimits) -> Score:
    """Return the score that prefers the joint path that fits the robot best."""

    def score(frames: Tensor, instruction: str) -> Tensor:
        reading = read_frames(idm, frames)
        return executability(reading.positions.double(), reading.dt, limits).score

    return score


def by_consensus(idm: InverseDynamics) -> Score:
    """Return the score that prefers the medoid: the joint path closest to all the others."""

    def score(frames: Tensor, instruction: str) -> Tensor:
        paths = read_frames(idm, frames).positions.flatten(1)
        return -torch.cdist(paths, paths).sum(-1)

    return score


def load_score(by: str, robot: Any, view: Any, *, idm: Path, critic: Path | None) -> Score:
    """Return the score of a choice, its models loaded.

    Args:
        by: One of CHOICES.
        robot: Robot that the dreams are for.
        view: View that is dreamed.
        idm: Folder of the inverse dynamics model; read by executability and consensus.
        critic: Folder of the critic; read by progress.

    Raises:
        UserError: There is no such choice, or a checkpoint is missing or belongs to another
            robot or view.
    """
    if by not in CHOICES:
        raise UserError(f"No dream is chosen by '{by}': choose by {', '.join(CHOICES)}.")
    if by == 'progress':
        if critic is None:
            raise UserError(
                'Choosing dreams by progress needs a critic: name the folder of one '
                '(`eva align critic` trains it), or choose by consensus.'
            )
        return by_progress(load_critic(critic, robot, view))
    model = load_idm(idm, robot, view)
    if by == 'consensus':
        return by_consensus(model)
    return by_executability(model, MotionLimits.of(robot.limits, robot.gripper_mask))


@dataclass(frozen=True)
class BestOf:
    """Dreams several candidates in one batch and keeps the best; used like a world model.

    Attributes:
        model: World model that dreams.
        score: Score by which a candidate is chosen.
        candidates: Number of candidates.
    """

    model: WorldModel
    score: Score
    candidates: int

    @property
    def settings(self) -> WorldSettings:
        """Return the settings of the model."""
        return self.model.settings

    def dream(
        self,
        view: np.ndarray,
        instruction: str,
        *,
        seed: int,
        steps: int | None = None,
        before: Sequence[np.ndarray] = (),
        on_step: Callable[[int, int], None] | None = None,
    ) -> Rollout:
        """Return the candidate with the highest score, the first of equals.

        Args:
            view: Observed view [H, W, 3], uint8 RGB.
            instruction: Instruction, in words of the vocabulary.
            seed: Random seed of the first candidate.
            steps: Denoising steps; None takes the checkpoint's.
            before: Views observed before, as for WorldModel.dream.
            on_step: Called with the step done and the number of steps.

        Returns:
            The rollout; its seed says which candidate it is, its duration is that of them all.

        Raises:
            UserError: As WorldModel.dream, for any of the candidates.
        """
        start = time.perf_counter()
        seeds = candidate_seeds(seed, self.candidates)
        rollouts = self.model.candidates(
            view, instruction, seeds, steps=steps, before=before, on_step=on_step
        )
        frames = frames_to_tensor(np.stack([rollout.frames for rollout in rollouts]))
        with torch.inference_mode():
            scores = self.score(frames, instruction).numpy()
        best = rollouts[int(scores.argmax())]
        return replace(best, duration_s=time.perf_counter() - start)


def candidate_seeds(seed: int, candidates: int) -> list[int]:
    """Return the seeds of candidates; the first is the seed itself."""
    return [seed + number * _SEED_STRIDE for number in range(candidates)]
