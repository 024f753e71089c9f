"""What a dream is worth: its executability, less what it lacks in motion."""

from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from eva_ros.alignment.motion import MotionFloor
from eva_ros.alignment.motion import path_length
from eva_ros.alignment.reward import Executability
from eva_ros.alignment.reward import executability
from eva_ros.alignment.reward import MotionLimits
from eva_ros.alignment.reward import RewardSettings
from eva_ros.episodes.fingerprint import fingerprint
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_frames
from eva_ros.training.finite import require_finite


class Judgement(NamedTuple):
    """What is known of dreams, [N] each.

    Attributes:
        reward: the score less the motion floor's penalty.
        executability: score and terms.
        travelled: path length of the smoothed motion, rad.
        positions: as decoded [N, T, J].
    """

    reward: Tensor
    executability: Executability
    travelled: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Judge:
    """Reads dreams with the inverse dynamics model and judges the motion.

    Attributes:
        idm: the inverse dynamics model.
        limits: of the robot.
        reward: settings of the reward.
        floor_share: share of the recorded motion that a dream must have.
        floor_weight: what the reward loses when there is none.
    """

    idm: InverseDynamics
    limits: MotionLimits
    reward: RewardSettings
    floor_share: float = 0.95
    floor_weight: float = 10.0

    @property
    def dt(self) -> float:
        """Return the time between frames, s."""
        return 1 / self.idm.config.rate_hz

    def fingerprint(self) -> str:
        """Return a name for how dreams are judged; P0, which is measured, does not count."""
        weights = [weight.float().cpu().numpy() for weight in self.idm.state_dict().values()]
        limits = [value.numpy() for value in vars(self.limits).values()]
        reward = {key: value for key, value in asdict(self.reward).items() if key != 'scale'}
        floor = self.floor_share, self.floor_weight
        return fingerprint([*weights, *limits, repr((reward, floor))])

    def decode(self, frames: Tensor) -> Tensor:
        """Return the joints [N, T, J] of frames [N, T, 3, H, W], 0 to 1.

        Raises:
            NotFiniteError: the frames, or what is read from them, are not finite.
        """
        require_finite({'frames': frames}, 'A dream', 'it cannot be judged')
        with torch.autocast(frames.device.type, enabled=False):
            return read_frames(self.idm, frames.float().clamp(0, 1)).positions

    def __call__(self, frames: Tensor, demonstrated: Tensor) -> Judgement:
        """Judge dreams.

        Args:
            frames: [N, T, 3, H, W], 0 to 1.
            demonstrated: path length recorded from the same view on [N], rad.
        """
        return self.of_motion(self.decode(frames), demonstrated)

    def of_motion(self, positions: Tensor, demonstrated: Tensor) -> Judgement:
        """Judge joint paths [N, T, J], rad."""
        judged = executability(positions, self.dt, self.limits, settings=self.reward)
        travelled = path_length(positions, self.dt, self.limits.grippers)
        floor = MotionFloor(demonstrated, self.floor_share, self.floor_weight)
        return Judgement(judged.score - floor.penalty(travelled), judged, travelled, positions)


def figures_of(judged: Sequence[Judgement]) -> dict[str, float]:
    """Return what to watch of judgements, one of each group of dreams."""
    rewards = torch.stack([j.reward for j in judged])
    return {
        'reward': rewards.mean().item(),
        'spread': rewards.std(-1, correction=0).mean().item(),
        'executability': torch.stack([j.executability.score for j in judged]).mean().item(),
        'motion': torch.stack([j.travelled for j in judged]).mean().item(),
    }
