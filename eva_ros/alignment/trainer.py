"""Aligns a world model offline: sample, reward, optimise; each algorithm has a file."""

from abc import abstractmethod
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
import sys
from typing import Any
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from eva_ros.alignment.held_out_checks import HeldOutChecks
from eva_ros.alignment.judge import Judge
from eva_ros.alignment.policy import dream_and_judge
from eva_ros.alignment.policy import WorldModelPolicy
from eva_ros.alignment.prompts import clips_of
from eva_ros.alignment.prompts import draw_balanced
from eva_ros.alignment.prompts import Prompt
from eva_ros.alignment.reward import calibrate_scale
from eva_ros.episodes.fingerprint import fingerprint
from eva_ros.errors import UserError
from eva_ros.training.launch import share_of
from eva_ros.training.loop import Budget
from eva_ros.training.loop import Loss
from eva_ros.training.loop import Task
from eva_ros.training.loop import TrainingLoop
from eva_ros.training.run_state import STATE
from eva_ros.training.run_state import whole
from eva_ros.world_model.condition import Condition
from eva_ros.world_model.sampler import noise_levels

# Dreams that P0 is measured on.
_MEASURED = 48


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
        keep_every: iterations between two adapters that are kept beside the last one; None keeps
            none.
    """

    ALGORITHM: ClassVar[str] = ''
    # Whether it dreams and rewards its dreams, so that P0 must be known.
    DREAMS: ClassVar[bool] = True
    # Fewest denoising steps of a dream, where the user does not say how many.
    FEWEST_STEPS: ClassVar[int] = 1

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
    keep_every: int | None = None

    def check(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            UserError: they do.
        """

    def kind(self) -> 'type[AlignTask]':
        """Return the algorithm that these are the settings of."""
        raise NotImplementedError


class AlignTask(Task):
    """What every algorithm has: a policy, prompts, a judge, an optimizer and the data anchor.

    Attributes:
        history: what was watched in every iteration.
        about: what else the adapter's card says.
    """

    label = 'align'
    unit = 'iteration'

    def __init__(
        self,
        policy: WorldModelPolicy,
        prompts: Sequence[Prompt],
        judge: Judge | None,
        settings: ResamplingSettings,
        own: Sequence[Prompt] = (),
        checks: HeldOutChecks | None = None,
    ) -> None:
        """Prepare an alignment from its beginning.

        Args:
            policy: the world model with a fresh adapter.
            prompts: what to dream from.
            judge: of the dreams; None where the algorithm has no reward.
            settings: of the algorithm.
            own: what of the robot's own attempts is learnt from.
            checks: which may stop it; None checks nothing.
        """
        self.own, self.checks = list(own), checks
        self.about: Mapping[str, Any] = {}
        self.policy, self.prompts = policy, list(prompts)
        # Those that have a reward have a judge.
        self.judge: Any = judge
        self.settings: Any = settings
        self.gradient_norm = settings.gradient_norm
        self.model = policy.model
        self.levels = noise_levels(policy.model.scheduler, settings.steps)
        self.optimizers = [
            torch.optim.AdamW(
                policy.parameters().values(), lr=settings.learning_rate, weight_decay=0.0
            )
        ]
        self.history: list[Mapping[str, float]] = []
        self._data = {
            'world_model': policy.fingerprint(),
            'prompts': fingerprint(part for prompt in prompts for part in prompt.identity()),
        }
        if judge is not None and settings.DREAMS:
            self._data['judge'] = judge.fingerprint()
        if judge is not None and checks is not None and checks.second_idm is not None:
            self._data['second_idm'] = replace(judge, idm=checks.second_idm).fingerprint()
        if own:
            self._data['own'] = fingerprint(part for prompt in own for part in prompt.identity())

    @abstractmethod
    def iterate(self, loop: TrainingLoop, rng: np.random.Generator) -> Mapping[str, float]:
        """Sample dreams, reward them, optimise; return what to watch."""

    def step(self, loop: TrainingLoop, number: int) -> Mapping[str, float]:
        """Take an iteration; what it draws depends on the seed and its number alone."""
        settings, checks, done = self.settings, self.checks, number + 1
        if checks is not None and not checks.made:
            self._check(loop, number)
        figures = self.iterate(loop, np.random.default_rng([settings.seed, number]))
        self.history.append(figures)
        if settings.keep_every is not None and done % settings.keep_every == 0:
            self._write(loop, kept_folder(loop.folder, done), done)
        if checks is not None and done % checks.settings.every == 0:
            self._check(loop, done)
        return figures

    def stopped(self) -> str:
        """Return what the last check on held-out views found wrong; '' if nothing."""
        return '' if self.checks is None else self.checks.fault()

    def conclude(self, loop: TrainingLoop) -> None:
        """Write the adapter, if a last check passes."""
        checks = self.checks
        if checks is None or (checks.made and checks.made[-1].iteration == loop.step):
            if not self.stopped():
                self._write(loop, loop.folder, loop.step)
        else:
            self._check(loop, loop.step)

    def _check(self, loop: TrainingLoop, done: int) -> None:
        """Look at held-out views, and write the adapter if they are as they should be."""
        assert self.checks is not None
        self.checks.make(loop, done, self.policy, self.judge, self.settings.steps)
        if done and not self.stopped():
            self._write(loop, loop.folder, done)

    def _write(self, loop: TrainingLoop, folder: Path, done: int) -> None:
        """Write the adapter as it is after `done` iterations, with its card."""
        card = {
            **self.about,
            'algorithm': self.settings.ALGORITHM,
            'settings': asdict(self.settings),
            'iterations': done,
            'seconds': round(loop.spent_s),
            'prompts': len(self.prompts),
            'history': self.history,
        }
        if self.settings.DREAMS:
            card |= {'reward': asdict(self.judge.reward), 'weights': asdict(self.judge.weights)}
        if self.checks is not None:
            card |= {'check': asdict(self.checks.settings), 'checks': self.checks.facts()}
        # Whole ones: every process takes part where FSDP has sharded them.
        weights = {
            name.removeprefix('transformer.'): whole(weight)
            for name, weight in loop.weights.items()
        }
        if loop.is_main:
            self.policy.save(folder, card, weights)

    def draw(self, count: int, rng: np.random.Generator) -> list[Prompt]:
        """Return as many prompts as asked for, at most as there are, evenly from all tasks."""
        return draw_balanced(self.prompts, min(count, len(self.prompts)), rng)

    @torch.no_grad()
    def needed(self, prompts: Sequence[Prompt], condition: Condition, noise: Tensor) -> Tensor:
        """Return the motion to keep [N], rad: what was recorded, or was dreamed if it is less.

        Alignment shall not take motion away; to move more than before is for the supervised
        training to teach, and would drown what the executability says.

        Args:
            prompts: N of them.
            condition: of a dream of each.
            noise: which those dreams begin with.
        """
        model, judge = self.policy.model, self.judge
        recorded = torch.tensor([p.demonstrated(judge.dt, judge.limits.grippers) for p in prompts])
        if not judge.weights.motion:
            return recorded
        with self.policy.reference():
            unaligned = model.sample(condition, noise, steps=self.settings.steps)
        before = judge(model.decode(unaligned, condition), recorded, prompts)
        return torch.minimum(recorded, before.travelled.to(recorded))

    def anchor(self, rng: np.random.Generator) -> list[Loss]:
        """Return the supervised loss on recorded clips; nothing where it weighs nothing."""
        settings = self.settings
        if settings.data_weight == 0:
            return []
        share = share_of(settings.data_clips, 'recorded clips')
        chosen = draw_balanced(self.prompts, settings.data_clips, rng)[share]
        return [self.supervised('data loss', chosen, share, rng, settings.data_weight)]

    def supervised(
        self,
        name: str,
        prompts: Sequence[Prompt],
        share: slice,
        rng: np.random.Generator,
        weight: float = 1.0,
    ) -> Loss:
        """Return the supervised loss on recorded clips.

        Args:
            name: of the figure that tells it, unweighted.
            prompts: this process' share of the clips.
            share: which of all clips they are.
            rng: of the iteration.
            weight: of the loss.
        """
        generator = torch.Generator().manual_seed(int(rng.integers(2**40)) + share.start)

        def loss() -> tuple[Tensor, Mapping[str, float]]:
            instructions = [prompt.instruction for prompt in prompts]
            value = self.policy.data_loss(clips_of(prompts), instructions, generator)
            return weight * value, {name: value.item()}

        return loss

    def identity(self) -> Mapping[str, Any]:
        """Return what must be the same for a resumed alignment to be the same alignment."""
        kept = asdict(self.settings)
        for name in ('iterations', 'minutes', 'batch_groups', 'keep_every'):
            kept.pop(name, None)
        return {'algorithm': self.settings.ALGORITHM, 'settings': kept, **self._data}

    def facts(self) -> Mapping[str, Any]:
        """Return the history, and P0: it was measured on the first dreams, once."""
        facts: dict[str, Any] = {'history': self.history}
        if self.settings.DREAMS:
            facts['scale'] = self.judge.reward.scale
        if self.checks is not None:
            facts['checks'] = self.checks.facts()
        return facts

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Take back what `facts` returned."""
        self.history = list(facts['history'])
        if self.settings.DREAMS:
            reward = replace(self.judge.reward, scale=facts['scale'])
            self.judge = replace(self.judge, reward=reward)
        if self.checks is not None:
            self.checks.restore(facts.get('checks', ()))


def kept_folder(out: Path, done: int) -> Path:
    """Return the folder in which `--keep-every` keeps the adapter after `done` iterations."""
    out = out.resolve()
    return out.with_name(f'{out.name}-{done}')


def training_loop(
    policy: WorldModelPolicy,
    prompts: Sequence[Prompt],
    judge: Judge | None,
    settings: ResamplingSettings,
    folder: Path,
    own: Sequence[Prompt] = (),
    checks: HeldOutChecks | None = None,
) -> TrainingLoop:
    """Return the alignment in a folder, from its beginning (see `align`)."""
    task = settings.kind()(policy, prompts, judge, settings, own, checks)
    return TrainingLoop(task, folder, Budget(settings.iterations, settings.minutes))


def align(
    policy: WorldModelPolicy,
    prompts: Sequence[Prompt],
    judge: Judge | None,
    out: Path,
    settings: ResamplingSettings,
    facts: Mapping[str, Any] | None = None,
    own: Sequence[Prompt] = (),
    checks: HeldOutChecks | None = None,
) -> TrainingLoop:
    """Align a world model and write the adapter.

    An alignment whose state lies in the folder is resumed exactly where it was.

    Args:
        policy: the world model with a fresh adapter.
        prompts: what to dream from.
        judge: of the dreams; P0 becomes the median penalty of unaligned dreams, the motion floor
            that of the settings. None where the algorithm has no reward.
        out: folder of the adapter.
        settings: of the algorithm, which their kind chooses.
        facts: for the model card.
        own: what of the robot's own attempts is learnt from, where the algorithm does so.
        checks: on held-out views. One that fails stops the alignment, and the adapter is that of
            the last one that passed.

    Raises:
        UserError: the settings contradict each other, the folder holds another alignment, the
            alignment diverges, or it is stopped before any check has passed.
    """
    settings.check()
    fresh = not (out / STATE).exists()
    if fresh and settings.keep_every is not None:
        _refuse_kept(out)
    if judge is not None:
        share, weight = settings.floor_share, settings.floor_weight
        judge = replace(judge, floor_share=share, floor_weight=weight)
        if settings.DREAMS and fresh:
            scale = _measured_scale(policy, prompts, judge, settings)
            judge = replace(judge, reward=replace(judge.reward, scale=scale))
    loop = training_loop(policy, prompts, judge, settings, out, own, checks)
    task: AlignTask = loop.task  # type: ignore[assignment]
    task.about = facts or {}
    loop.resume()
    loop.run()
    loop.finish()
    if checks is not None and task.stopped():
        _say_stopped(loop, checks)
    return loop


def _refuse_kept(out: Path) -> None:
    """Refuse to overwrite adapters that another alignment has kept."""
    folder, start = out.resolve().parent, f'{out.resolve().name}-'
    for there in folder.iterdir() if folder.is_dir() else ():
        if there.name.startswith(start) and there.name[len(start) :].isdigit():
            raise UserError(
                f'{there} is left from another alignment: move it away, or give another --out.'
            )


def _say_stopped(loop: TrainingLoop, checks: HeldOutChecks) -> None:
    """Say why an alignment has stopped and which adapter it leaves."""
    why = f'align: stopped at iteration {checks.made[-1].iteration}: {checks.fault()}'
    if not (passed := checks.last_passed()):
        raise UserError(
            f'{why}; no earlier check has passed, so no adapter is written: align again with a '
            'lower --learning-rate or a higher --data-weight, and another --out.'
        )
    if loop.is_main:
        kept = f'the adapter of iteration {passed}, the last that passed, is in {loop.folder}'
        print(f'{why}; {kept}', file=sys.stderr, flush=True)


def _measured_scale(
    policy: WorldModelPolicy, prompts: Sequence[Prompt], judge: Judge, settings: ResamplingSettings
) -> float:
    chosen = np.random.default_rng(settings.seed).permutation(len(prompts))[:_MEASURED]
    judged = dream_and_judge(
        policy.model, [prompts[i] for i in chosen], judge, settings.seed, settings.steps
    )
    return calibrate_scale(judged.executability.penalty)
