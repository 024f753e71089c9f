"""How to align: groups, noise, anchors and budget."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GrpoSettings:
    """Settings of Flow-GRPO (arXiv 2505.05470), with noise in a window only (Flow-GRPO-Fast).

    Attributes:
        seed: of views, noise and data order.
        iterations: optimizer steps on fresh groups; or
        minutes: of wall time, those before a kill included.
        groups: initial views of an iteration.
        group_size: dreams of each, from one initial noise.
        steps: denoising steps of a dream.
        window: stochastic steps, counted from the noisiest.
        eta: strength of their noise.
        passes: over the groups of an iteration; the first is on-policy.
        learning_rate: AdamW's.
        clip: of the probability ratio around 1; log-probabilities are means over elements.
        advantage_clip: largest advantage.
        std_floor: smallest standard deviation that rewards are divided by: groups whose dreams
            are all alike would otherwise teach the decoder's noise.
        kl_weight: of the divergence from the unaligned model.
        data_weight: of the supervised loss on recorded clips.
        data_clips: recorded clips in an optimizer step.
        gradient_norm: largest.
        rank: of LoRA.
        floor_share: share of the recorded motion that a dream must have.
        floor_weight: what the reward loses when there is none.
        save_every_s: seconds between two states on disk.
    """

    seed: int = 0
    iterations: int | None = None
    minutes: float | None = None
    groups: int = 4
    group_size: int = 8
    steps: int = 6
    window: int = 2
    eta: float = 0.7
    passes: int = 2
    learning_rate: float = 5e-4
    clip: float = 1e-3
    advantage_clip: float = 5.0
    std_floor: float = 0.1
    kl_weight: float = 0.01
    data_weight: float = 1.0
    data_clips: int = 4
    gradient_norm: float = 1.0
    rank: int = 16
    floor_share: float = 0.95
    floor_weight: float = 10.0
    save_every_s: float = 60.0
