"""Ordinary dreams from recorded views, judged."""

from collections.abc import Sequence

import torch

from eva_ros.alignment.judge import Judge
from eva_ros.alignment.judge import Judgement
from eva_ros.alignment.prompts import Prompt
from eva_ros.alignment.reward import Executability
from eva_ros.world_model.pipeline import WorldModel

_BATCH = 16


@torch.no_grad()
def dream_and_judge(
    model: WorldModel, prompts: Sequence[Prompt], judge: Judge, seed: int, steps: int
) -> Judgement:
    """Dream once from each prompt, as inference does, and judge [N].

    Args:
        model: the world model, with or without an adapter.
        prompts: what from.
        judge: of the dreams.
        seed: of the initial noise: dream i of a seed always begins with the same.
        steps: denoising steps.
    """
    parts = []
    for start in range(0, len(prompts), _BATCH):
        batch = prompts[start : start + _BATCH]
        noise = torch.cat(
            [
                model.noise(1, torch.Generator().manual_seed(seed * 1_000_003 + start + i))
                for i in range(len(batch))
            ]
        )
        views = torch.stack([prompt.first() for prompt in batch])
        condition = model.condition(views, [prompt.instruction for prompt in batch])
        frames = model.decode(model.sample(condition, noise, steps=steps), condition)
        needed = [p.demonstrated(judge.dt, judge.limits.grippers) for p in batch]
        parts.append(judge(frames, torch.tensor(needed)))
    return _joined(parts)


def _joined(parts: Sequence[Judgement]) -> Judgement:
    rewards, judged, travelled, positions = zip(*parts, strict=True)
    terms = [torch.cat(values) for values in zip(*judged, strict=True)]
    return Judgement(
        torch.cat(rewards), Executability(*terms), torch.cat(travelled), torch.cat(positions)
    )
