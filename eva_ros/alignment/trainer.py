"""Aligns a world model offline: dream, judge, learn; resumes exactly where it was killed."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import replace
from pathlib import Path
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eva_ros.alignment.dreams import dream_and_judge
from eva_ros.alignment.grpo import advantages
from eva_ros.alignment.grpo import Group
from eva_ros.alignment.grpo import group_loss
from eva_ros.alignment.grpo import sample_group
from eva_ros.alignment.judge import Judge
from eva_ros.alignment.judge import Judgement
from eva_ros.alignment.policy import WorldModelPolicy
from eva_ros.alignment.prompts import Prompt
from eva_ros.alignment.reward import calibrate_scale
from eva_ros.alignment.settings import GrpoSettings
from eva_ros.errors import UserError
from eva_ros.idm import resume
from eva_ros.idm.decode import frames_to_tensor
from eva_ros.world_model.sampler import noise_levels

STATE = 'training.safetensors'


class Aligner:
    """One alignment; the state after an iteration depends on the seed alone."""

    def __init__(
        self,
        policy: WorldModelPolicy,
        prompts: Sequence[Prompt],
        judge: Judge,
        settings: GrpoSettings,
    ) -> None:
        """Prepare an alignment from its beginning.

        Args:
            policy: the world model with a fresh adapter.
            prompts: what to dream from.
            judge: of the dreams.
            settings: of the algorithm.
        """
        self.policy, self.prompts, self.judge, self.settings = policy, prompts, judge, settings
        self.levels = noise_levels(policy.model.scheduler, settings.steps)
        self.weights = policy.parameters()
        self.optimizer = torch.optim.AdamW(
            list(self.weights.values()), lr=settings.learning_rate, weight_decay=0.0
        )
        self.budget = resume.Budget(settings.iterations, settings.minutes)
        self.iteration = 0
        self.history: list[dict[str, float]] = []

    def run_iteration(self) -> dict[str, float]:
        """Dream groups, judge them, take the optimizer steps; return what to watch."""
        rng = np.random.default_rng([self.settings.seed, self.iteration])
        count = min(self.settings.groups, len(self.prompts))
        chosen = [self.prompts[i] for i in rng.choice(len(self.prompts), count, replace=False)]
        groups, judged = [], []
        for prompt in chosen:
            group, needed = self._dream(prompt, int(rng.integers(2**40)))
            groups.append(group)
            judged.append(self._judge(group, needed))
        better = advantages(torch.stack([j.reward for j in judged]), self.settings)
        watched = [self._learn(groups, better, rng) for _ in range(self.settings.passes)]
        self.iteration += 1
        figures = _figures(judged) | watched[-1]
        figures['first_ratio_deviation'] = watched[0]['ratio_deviation']
        self.history.append(figures)
        return figures

    def _dream(self, prompt: Prompt, seed: int) -> tuple[Group, float]:
        """Return the dreams of a group, and the motion that they must keep."""
        generator = torch.Generator().manual_seed(seed)
        size = self.settings.group_size
        condition = self.policy.condition(prompt.first()[None], [prompt.instruction], size)
        noise = self.policy.model.noise(1, generator)
        group = sample_group(self.policy, condition, noise, self.levels, self.settings, generator)
        return group, self._needed(prompt, noise)

    @torch.no_grad()
    def _needed(self, prompt: Prompt, noise: Tensor) -> float:
        """Return the path length recorded from here, or the unaligned dream's if it is shorter.

        Alignment shall not take motion away; to move more than before is for the supervised
        training to teach, and would drown what the executability says.
        """
        condition = self.policy.condition(prompt.first()[None], [prompt.instruction], 1)
        with self.policy.reference():
            still = self.policy.model.sample(condition, noise, steps=self.settings.steps)
        frames = self.policy.model.decode(still, condition)
        recorded = prompt.demonstrated(self.judge.dt, self.judge.limits.grippers)
        before = self.judge(frames, torch.tensor([recorded])).travelled
        return min(recorded, before.item())

    @torch.no_grad()
    def _judge(self, group: Group, needed: float) -> Judgement:
        frames = self.policy.model.decode(group.samples, group.condition)
        return self.judge(frames, torch.full((len(frames),), needed))

    def _learn(
        self, groups: Sequence[Group], better: Tensor, rng: np.random.Generator
    ) -> dict[str, float]:
        """Take one optimizer step over all groups and the data anchor."""
        settings = self.settings
        self.optimizer.zero_grad(set_to_none=True)
        seen = []
        share = 1 / (len(groups) * settings.window)
        for group, advantage in zip(groups, better, strict=True):
            for step in group.window:
                loss = group_loss(self.policy, group, advantage.float(), settings, step)
                (share * (loss.policy + settings.kl_weight * loss.kl)).backward()
                seen.append((loss.kl.item(), loss.ratio_deviation, loss.clipped))
        data = self._anchor(rng)
        norm = torch.nn.utils.clip_grad_norm_(self.weights.values(), settings.gradient_norm)
        self.optimizer.step()
        kl, deviation, clipped = np.array(seen).T
        return {
            'kl': float(kl.mean()),
            'ratio_deviation': float(deviation.max()),
            'clipped': float(clipped.mean()),
            'data_loss': data,
            'gradient': float(norm),
        }

    def _anchor(self, rng: np.random.Generator) -> float:
        """Add the gradient of the supervised loss on recorded clips; return the loss."""
        settings = self.settings
        if settings.data_weight == 0:
            return 0.0
        rows = rng.integers(len(self.prompts), size=settings.data_clips)
        chosen = [self.prompts[row] for row in rows]
        clips = frames_to_tensor(np.stack([np.asarray(p.frames) for p in chosen]))
        generator = torch.Generator().manual_seed(int(rng.integers(2**40)))
        loss = self.policy.data_loss(clips, [p.instruction for p in chosen], generator)
        (settings.data_weight * loss).backward()
        return loss.item()

    def save_state(self, folder: Path) -> None:
        """Write everything a resumed alignment needs, atomically."""
        tensors = resume.pack(
            weights=self.weights, optimizer=resume.optimizer_tensors(self.optimizer)
        )
        facts = {
            'iteration': self.iteration,
            'spent_s': self.budget.spent_s,
            'history': self.history,
            'world': self._world(),
        }
        resume.write_tensors(folder / STATE, tensors, facts)

    def load_state(self, folder: Path) -> None:
        """Go on where `save_state` was.

        Raises:
            UserError: that alignment had other data or other settings.
        """
        tensors, facts = resume.read_tensors(folder / STATE)
        if facts['world'] != self._world():
            raise UserError(
                f'{folder / STATE} is of an alignment with other data or settings: repeat the '
                'command it was begun with, or give another --out.'
            )
        with torch.no_grad():
            for name, value in resume.unpack(tensors, 'weights').items():
                self.weights[name].copy_(value)
        resume.restore_optimizer(self.optimizer, resume.unpack(tensors, 'optimizer'))
        self.iteration, self.history = facts['iteration'], facts['history']
        # What was measured on the first dreams belongs to the state: measure once.
        self.judge = replace(
            self.judge, reward=replace(self.judge.reward, scale=facts['world']['scale'])
        )
        self.budget = resume.Budget(
            self.settings.iterations, self.settings.minutes, facts['spent_s']
        )

    def _world(self) -> dict[str, Any]:
        kept = asdict(self.settings)
        for name in ('iterations', 'minutes', 'save_every_s'):
            del kept[name]
        return {
            'settings': kept,
            'world_model': self.policy.model.settings.name,
            'prompts': len(self.prompts),
            'scale': self.judge.reward.scale,
        }


def align(
    policy: WorldModelPolicy,
    prompts: Sequence[Prompt],
    judge: Judge,
    out: Path,
    settings: GrpoSettings,
    facts: Mapping[str, Any] | None = None,
) -> Aligner:
    """Align a world model and write the adapter.

    An alignment whose state lies in the folder is resumed exactly where it was.

    Args:
        policy: the world model with a fresh adapter.
        prompts: what to dream from.
        judge: of the dreams; P0 becomes the median penalty of unaligned dreams.
        out: folder of the adapter.
        settings: of the algorithm.
        facts: for the model card.
    """
    scale = _measured_scale(policy, prompts, judge, out, settings)
    judge = replace(judge, reward=replace(judge.reward, scale=scale))
    aligner = Aligner(policy, prompts, judge, settings)
    if (out / STATE).exists():
        aligner.load_state(out)
        print(f'align: resumed at iteration {aligner.iteration}', file=sys.stderr)
    progress = resume.Progress('align', aligner.budget)
    saved_s = aligner.budget.spent_s
    while aligner.budget.share(aligner.iteration) < 1:
        figures = aligner.run_iteration()
        progress.say(aligner.iteration, figures)
        if aligner.budget.spent_s - saved_s > settings.save_every_s:
            saved_s = aligner.budget.spent_s
            aligner.save_state(out)
    aligner.save_state(out)
    training = {
        **(facts or {}),
        'settings': asdict(settings),
        'reward': asdict(aligner.judge.reward),
        'iterations': aligner.iteration,
        'seconds': round(aligner.budget.spent_s),
        'prompts': len(prompts),
        'history': aligner.history,
    }
    policy.save(out, training)
    return aligner


def _measured_scale(
    policy: WorldModelPolicy,
    prompts: Sequence[Prompt],
    judge: Judge,
    out: Path,
    settings: GrpoSettings,
) -> float:
    if (out / STATE).exists():
        _, facts = resume.read_tensors(out / STATE)
        return facts['world']['scale']
    chosen = np.random.default_rng(settings.seed).permutation(len(prompts))[:48]
    judged = dream_and_judge(
        policy.model, [prompts[i] for i in chosen], judge, settings.seed, settings.steps
    )
    return calibrate_scale(judged.executability.penalty)


def _figures(judged: Sequence[Judgement]) -> dict[str, float]:
    return {
        'reward': float(torch.stack([j.reward for j in judged]).mean()),
        'spread': float(torch.stack([j.reward for j in judged]).std(-1).mean()),
        'executability': float(torch.stack([j.executability.score for j in judged]).mean()),
        'motion': float(torch.stack([j.travelled for j in judged]).mean()),
    }
