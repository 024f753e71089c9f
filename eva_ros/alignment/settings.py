"""How to align: what the algorithms share, and what each needs."""

from dataclasses import dataclass
from typing import ClassVar

from eva_ros.errors import UserError


@dataclass(frozen=True)
class ResamplingSettings:
    """What every algorithm needs.

    Attributes:
        seed: of views, noise and data order.
        iterations: rounds of fresh dreams; or
        minutes: of wall time, those before a kill included.
        steps: denoising steps of a dream, as many as inference takes.
        learning_rate: AdamW's.
        data_weight: of the supervised loss on recorded clips.
        data_clips: recorded clips in an optimizer step.
        gradient_norm: largest.
        rank: of LoRA.
        floor_share: share of the recorded motion that a dream must have.
        floor_weight: what the reward loses when there is none.
        save_every_s: seconds between two states on disk.
    """

    ALGORITHM: ClassVar[str] = ''

    seed: int = 0
    iterations: int | None = None
    minutes: float | None = None
    steps: int = 4
    learning_rate: float = 3e-4
    data_weight: float = 1.0
    data_clips: int = 4
    gradient_norm: float = 1.0
    rank: int = 16
    floor_share: float = 0.95
    floor_weight: float = 10.0
    save_every_s: float = 60.0

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            UserError: they do.
        """


@dataclass(frozen=True)
class DirectSettings(ResamplingSettings):
    """Settings of the direct gradient of the reward (DRaFT-K, arXiv 2309.17400).

    Attributes:
        dreams: of an iteration, each from another initial view.
        gradient_steps: K, the last denoising steps that the gradient flows through.
    """

    ALGORITHM: ClassVar[str] = 'direct'

    dreams: int = 8
    gradient_steps: int = 1

    def check(self) -> None:
        """Refuse a gradient through more steps than a dream has."""
        if self.gradient_steps > self.steps:
            raise UserError(
                f'A dream has {self.steps} denoising steps: the gradient cannot flow through the '
                f'last {self.gradient_steps}.'
            )


@dataclass(frozen=True)
class GrpoSettings(ResamplingSettings):
    """Settings of Flow-GRPO (arXiv 2505.05470), with noise in a window only (Flow-GRPO-Fast).

    Attributes:
        groups: initial views of an iteration.
        group_size: dreams of each, from one initial noise.
        window: stochastic steps, counted from the noisiest.
        eta: strength of their noise.
        passes: over the groups of an iteration; the first is on-policy.
        clip: of the probability ratio around 1; log-probabilities are means over elements.
        advantage_clip: largest advantage.
        std_floor: smallest standard deviation that rewards are divided by: groups whose dreams
            are all alike would otherwise teach the decoder's noise.
        kl_weight: of the divergence from the unaligned model.
    """

    ALGORITHM: ClassVar[str] = 'grpo'

    learning_rate: float = 5e-4
    groups: int = 4
    group_size: int = 8
    window: int = 2
    eta: float = 0.7
    passes: int = 2
    clip: float = 1e-3
    advantage_clip: float = 5.0
    std_floor: float = 0.1
    kl_weight: float = 0.01

    def check(self) -> None:
        """Refuse a window that is longer than a dream, and groups with nobody to compare with."""
        if self.window > self.steps:
            raise UserError(
                f'A dream has {self.steps} denoising steps: the window cannot have {self.window}.'
            )
        if self.group_size < 2:
            raise UserError('A group of one dream has nothing to compare it with: give 2 or more.')
