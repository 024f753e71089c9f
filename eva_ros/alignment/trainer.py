"""Aligns a world model offline: dream, judge, learn; resumes exactly where it was killed."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eva_ros.alignment.direct import direct_iteration
from eva_ros.alignment.dreams import dream_and_judge
from eva_ros.alignment.grpo_iteration import grpo_iteration
from eva_ros.alignment.judge import Judge
from eva_ros.alignment.learner import Learner
from eva_ros.alignment.policy import WorldModelPolicy
from eva_ros.alignment.prompts import Prompt
from eva_ros.alignment.reward import calibrate_scale
from eva_ros.alignment.settings import DirectSettings
from eva_ros.alignment.settings import GrpoSettings
from eva_ros.alignment.settings import ResamplingSettings
from eva_ros.episodes.fingerprint import fingerprint
from eva_ros.episodes.fingerprint import refuse_another
from eva_ros.idm import resume

STATE = 'training.safetensors'

ALGORITHMS: dict[str, Callable[[Learner, np.random.Generator], dict[str, float]]] = {
    DirectSettings.ALGORITHM: direct_iteration,
    GrpoSettings.ALGORITHM: grpo_iteration,
}


class Aligner:
    """One alignment; the state after an iteration depends on the seed alone."""

    def __init__(
        self,
        policy: WorldModelPolicy,
        prompts: Sequence[Prompt],
        judge: Judge,
        settings: ResamplingSettings,
    ) -> None:
        """Prepare an alignment from its beginning.

        Args:
            policy: the world model with a fresh adapter.
            prompts: what to dream from.
            judge: of the dreams.
            settings: of the algorithm, which their kind chooses.
        """
        self.policy, self.settings = policy, settings
        self.learner = Learner(policy, list(prompts), judge, settings)
        self.budget = resume.Budget(settings.iterations, settings.minutes)
        self.iteration = 0
        self.history: list[dict[str, float]] = []
        # What must be the same for a resumed alignment to be the same alignment.
        self._data = {
            'world_model': policy.fingerprint(),
            'judge': judge.fingerprint(),
            'prompts': fingerprint(part for prompt in prompts for part in prompt.identity()),
        }

    def run_iteration(self) -> dict[str, float]:
        """Dream, judge, learn; return what to watch.

        Raises:
            NotFiniteError: a dream, its reading, a loss or the gradient is not finite.
        """
        self.learner.guard.step = self.iteration + 1
        rng = np.random.default_rng([self.settings.seed, self.iteration])
        figures = ALGORITHMS[self.settings.ALGORITHM](self.learner, rng)
        self.iteration += 1
        self.history.append(figures)
        return figures

    def save_state(self, folder: Path) -> None:
        """Write everything a resumed alignment needs, atomically."""
        tensors = resume.pack(
            weights=self.learner.weights,
            optimizer=resume.optimizer_tensors(self.learner.optimizer),
        )
        facts = {
            'iteration': self.iteration,
            'spent_s': self.budget.spent_s,
            'history': self.history,
            'world': self._world(),
        }
        resume.write_tensors(folder / STATE, tensors, facts)
        self.learner.guard.saved_step = self.iteration

    def load_state(self, folder: Path) -> None:
        """Go on where `save_state` was.

        Raises:
            UserError: that alignment had another model, other data or other settings, or its state
                is damaged.
        """
        tensors, facts = resume.read_tensors(folder / STATE)
        refuse_another(folder / STATE, 'an alignment', facts['world'], self._world())
        with torch.no_grad():
            for name, value in resume.unpack(tensors, 'weights').items():
                self.learner.weights[name].copy_(value)
        resume.restore_optimizer(self.learner.optimizer, resume.unpack(tensors, 'optimizer'))
        self.iteration, self.history = facts['iteration'], facts['history']
        self.learner.guard.saved_step = self.iteration
        # What was measured on the first dreams belongs to the state: measure once.
        judge = self.learner.judge
        self.learner.judge = replace(
            judge, reward=replace(judge.reward, scale=facts['world']['scale'])
        )
        self.budget = resume.Budget(
            self.settings.iterations, self.settings.minutes, facts['spent_s']
        )

    def _world(self) -> dict[str, Any]:
        kept = asdict(self.settings)
        for name in ('iterations', 'minutes', 'save_every_s'):
            del kept[name]
        return {
            'algorithm': self.settings.ALGORITHM,
            'settings': kept,
            **self._data,
            'scale': self.learner.judge.reward.scale,
        }


def align(
    policy: WorldModelPolicy,
    prompts: Sequence[Prompt],
    judge: Judge,
    out: Path,
    settings: ResamplingSettings,
    facts: Mapping[str, Any] | None = None,
) -> Aligner:
    """Align a world model and write the adapter.

    An alignment whose state lies in the folder is resumed exactly where it was.

    Args:
        policy: the world model with a fresh adapter.
        prompts: what to dream from.
        judge: of the dreams; P0 becomes the median penalty of unaligned dreams, the motion floor
            that of the settings.
        out: folder of the adapter.
        settings: of the algorithm.
        facts: for the model card.

    Raises:
        UserError: the settings contradict each other, the folder holds another alignment, or the
            alignment diverges.
    """
    settings.check()
    scale = _measured_scale(policy, prompts, judge, out, settings)
    judge = replace(
        judge,
        reward=replace(judge.reward, scale=scale),
        floor_share=settings.floor_share,
        floor_weight=settings.floor_weight,
    )
    aligner = Aligner(policy, prompts, judge, settings)
    if (out / STATE).exists():
        aligner.load_state(out)
    guard = aligner.learner.guard
    guard.say_resumed(out, aligner.iteration)
    with guard.stopping(out):
        _run(aligner, out)
    training = {
        **(facts or {}),
        'algorithm': settings.ALGORITHM,
        'settings': asdict(settings),
        'reward': asdict(aligner.learner.judge.reward),
        'iterations': aligner.iteration,
        'seconds': round(aligner.budget.spent_s),
        'prompts': len(prompts),
        'history': aligner.history,
    }
    policy.save(out, training)
    return aligner


def _run(aligner: Aligner, out: Path) -> None:
    progress = resume.Progress('align', aligner.budget)
    saved_s = aligner.budget.spent_s
    while aligner.budget.share(aligner.iteration) < 1:
        figures = aligner.run_iteration()
        progress.say(aligner.iteration, figures)
        if aligner.budget.spent_s - saved_s > aligner.settings.save_every_s:
            saved_s = aligner.budget.spent_s
            aligner.save_state(out)
    aligner.save_state(out)


def _measured_scale(
    policy: WorldModelPolicy,
    prompts: Sequence[Prompt],
    judge: Judge,
    out: Path,
    settings: ResamplingSettings,
) -> float:
    if (out / STATE).exists():
        _, facts = resume.read_tensors(out / STATE)
        return facts['world']['scale']
    chosen = np.random.default_rng(settings.seed).permutation(len(prompts))[:48]
    judged = dream_and_judge(
        policy.model, [prompts[i] for i in chosen], judge, settings.seed, settings.steps
    )
    return calibrate_scale(judged.executability.penalty)
