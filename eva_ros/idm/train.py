"""Supervised training of the inverse dynamics model from recorded episodes."""

from collections.abc import Mapping
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from eva_ros.errors import UserError
from eva_ros.idm import resume
from eva_ros.idm.augment import augment
from eva_ros.idm.augment import Corruption
from eva_ros.idm.checkpoint import save_idm
from eva_ros.idm.config import IdmConfig
from eva_ros.idm.data import Clips
from eva_ros.idm.data import ClipSampler
from eva_ros.idm.data import Fingertips
from eva_ros.idm.data import label_statistics
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.model import JointEstimate
from eva_ros.idm.reading import estimate_frames
from eva_ros.training.divergence import DivergenceGuard
from eva_ros.training.labels import require_finite_labels

STATE = 'training.safetensors'


@dataclass(frozen=True)
class TrainSettings:
    """How to train.

    Attributes:
        seed: of weights, data order and augmentation.
        steps: optimizer steps; or
        minutes: of wall time, those before a kill included.
        batch_clips: clips of a batch.
        clip_frames: frames of a clip, all of which are labels.
        learning_rate: after the warm-up, falling to nothing along a cosine.
        weight_decay: of the matrices.
        warmup_steps: until the learning rate is reached.
        corrupted: share of the clips that are corrupted like dreams.
        fingertip_weight: of the fingertips' error against that of the joints.
        difference_weight: of the error of the change from frame to frame.
        average: decay of the moving average of the weights that is saved.
        save_every_s: seconds between two states on disk.
    """

    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    batch_clips: int = 16
    clip_frames: int = 5
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.01
    warmup_steps: int = 100
    corrupted: float = 0.5
    fingertip_weight: float = 1.0
    difference_weight: float = 0.5
    average: float = 0.998
    save_every_s: float = 60.0


def losses(estimate: JointEstimate, clips: Clips, std: Tensor, settings: TrainSettings) -> dict:
    """Return the terms of the loss, each a scalar.

    joints: SmoothL1 of the normalised positions; fingertips: SmoothL1 of what the errors of the
    joints move the fingertips by, so that errors count as the end effectors feel them;
    differences: of the change from frame to frame, which is the noise an executed path would
    have; spread: negative log-likelihood of a Laplace distribution, which teaches the model how
    far off it is and changes nothing else.
    """
    error = (estimate.positions - clips.joints) / std
    tips = torch.einsum('btaij,btj->btai', clips.jacobians, estimate.positions - clips.joints)
    spread = estimate.spread / std
    return {
        'joints': _smooth_l1(error, 0.05),
        'fingertips': settings.fingertip_weight * _smooth_l1(tips / 0.1, 0.05),
        'differences': settings.difference_weight * _smooth_l1(error.diff(dim=1), 0.05),
        'spread': 0.1 * (error.detach().abs() / spread + spread.log()).mean(),
    }


def _smooth_l1(error: Tensor, beta: float) -> Tensor:
    return functional.smooth_l1_loss(error, torch.zeros_like(error), beta=beta)


def optimizers(
    model: InverseDynamics, settings: TrainSettings
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Return Muon for the matrices inside the model and AdamW for the rest.

    The rest: biases, priors, and the layers that meet pixels or joints.
    """
    edges = ('stem', 'prior', '.joints.', '.spread.')
    inside = {
        name: weight
        for name, weight in model.named_parameters()
        if weight.ndim == 2 and not any(edge in name for edge in edges)
    }
    rest = [weight for name, weight in model.named_parameters() if name not in inside]
    muon = torch.optim.Muon(
        inside.values(), weight_decay=settings.weight_decay, adjust_lr_fn='match_rms_adamw'
    )
    return muon, torch.optim.AdamW(rest, weight_decay=0.0, betas=(0.9, 0.99))


class Trainer:
    """Trains a model step by step; the state after a step depends on the seed alone."""

    def __init__(
        self,
        config: IdmConfig,
        episodes: Sequence[Any],
        settings: TrainSettings,
        *,
        corruptions: Sequence[Corruption] = (),
        fingertips: Fingertips | None = None,
    ) -> None:
        """Prepare a training from its beginning (see `train`)."""
        self.settings = settings
        self.device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        torch.manual_seed(settings.seed)
        self.model = InverseDynamics(config)
        require_finite_labels(episodes, config.joint_names)
        mean, std = label_statistics(episodes)
        self.model.mean.copy_(torch.from_numpy(mean))
        self.model.std.copy_(torch.from_numpy(std))
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = deepcopy(self.model).requires_grad_(requires_grad=False)
        self.optimizers = optimizers(self.model, settings)
        self.sampler = ClipSampler(episodes, settings.clip_frames, settings.seed, fingertips)
        self.corruptions = corruptions
        self.budget = resume.Budget(settings.steps, settings.minutes)
        self.guard = DivergenceGuard('idm')
        self.step = 0

    def run_step(self) -> dict[str, float]:
        """Take one optimizer step; return the terms of the loss.

        Raises:
            NotFiniteError: a term or the gradient is not finite; the weights stay as they were.
        """
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step)
        clips = self.sampler.batch(self.step, self.settings.batch_clips)
        frames = augment(clips.frames, self.corruptions, self.settings.corrupted)
        clips = Clips(frames, *(t.to(self.device) for t in (clips.joints, clips.jacobians)))
        with torch.autocast(self.device.type, torch.bfloat16):
            estimate = estimate_frames(self.model, clips.frames.to(self.device))
        terms = losses(estimate, clips, self.model.std, self.settings)
        self.model.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        figures = {name: term.item() for name, term in terms.items()}
        watched = {f'loss ({name})': value for name, value in figures.items()}
        self.guard.check(self.step + 1, {**watched, 'gradient norm': float(norm)})
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group['lr'] = self.settings.learning_rate * self._schedule()
            optimizer.step()
        self.step += 1
        self._update_average()
        return figures

    def _schedule(self) -> float:
        warm = min(1.0, (self.step + 1) / self.settings.warmup_steps)
        return warm * (0.5 + 0.5 * math.cos(math.pi * self.budget.share(self.step)))

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.settings.average, self.step / (self.step + 10))
        for slow, fast in zip(self.average.parameters(), self.model.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)

    def save_state(self, folder: Path) -> None:
        """Write everything a resumed training needs, atomically."""
        tensors = resume.pack(
            model=self.model.state_dict(),
            average=self.average.state_dict(),
            muon=resume.optimizer_tensors(self.optimizers[0]),
            adam=resume.optimizer_tensors(self.optimizers[1]),
        )
        facts = {'step': self.step, 'spent_s': self.budget.spent_s, 'world': self._world()}
        resume.write_tensors(folder / STATE, tensors, facts)
        self.guard.saved_step = self.step

    def load_state(self, folder: Path) -> None:
        """Go on where `save_state` was.

        Raises:
            UserError: that training had other data, another shape or other settings, or its state
                is damaged.
        """
        tensors, facts = resume.read_tensors(folder / STATE)
        if facts['world'] != self._world():
            raise UserError(
                f'{folder / STATE} is of a training with other data or settings: repeat the '
                'command it was begun with, or give another --out.'
            )
        self.model.load_state_dict(resume.unpack(tensors, 'model'))
        self.average.load_state_dict(resume.unpack(tensors, 'average'))
        resume.restore_optimizer(self.optimizers[0], resume.unpack(tensors, 'muon'))
        resume.restore_optimizer(self.optimizers[1], resume.unpack(tensors, 'adam'))
        self.step = self.guard.saved_step = facts['step']
        self.budget = resume.Budget(self.settings.steps, self.settings.minutes, facts['spent_s'])

    def _world(self) -> dict[str, Any]:
        """Return what must be the same for a resumed training to be the same training."""
        settings = asdict(self.settings)
        budget = {'steps', 'minutes', 'save_every_s'}
        return {
            'config': _as_json(self.model.config.to_dict()),
            'settings': {key: value for key, value in settings.items() if key not in budget},
            'clips': len(self.sampler),
            'mean': [round(value, 6) for value in self.model.mean.tolist()],
        }


def train(
    config: IdmConfig,
    episodes: Sequence[Any],
    out: Path,
    settings: TrainSettings,
    *,
    corruptions: Sequence[Corruption] = (),
    fingertips: Fingertips | None = None,
    facts: Mapping[str, Any] | None = None,
    view_hash: str = '',
) -> InverseDynamics:
    """Train an inverse dynamics model and write its checkpoint.

    A training whose state lies in the folder is resumed exactly where it was.

    Args:
        config: shape of the model, robot and view.
        episodes: have frames uint8 [T, H, W, 3] and joints [T, J] at the view's rate.
        out: folder of the checkpoint.
        settings: how to train.
        corruptions: functions over clips [B, T, 3, H, W] that make them look dreamed.
        fingertips: maps joints [N, J] to fingertips [N, 2, 3], m; weighs the joints' errors.
        facts: for the model card.
        view_hash: `checkpoint.view_fingerprint` of the view.

    Returns:
        The average of the weights, ready for inference.

    Raises:
        UserError: the training diverges, a label is not finite, or the folder holds another
            training.
    """
    trainer = Trainer(config, episodes, settings, corruptions=corruptions, fingertips=fingertips)
    if (out / STATE).exists():
        trainer.load_state(out)
    trainer.guard.say_resumed(out, trainer.step)
    with trainer.guard.stopping(out):
        _run(trainer, out)
    training = {
        **(facts or {}),
        'settings': asdict(settings),
        'steps': trainer.step,
        'seconds': round(trainer.budget.spent_s),
        'episodes': len(episodes),
        'frames': sum(len(episode.frames) for episode in episodes),
        'parameters': sum(p.numel() for p in trainer.model.parameters()),
    }
    save_idm(trainer.average, out, training, view_hash)
    return trainer.average.eval()


def _run(trainer: Trainer, out: Path) -> None:
    progress = resume.Progress('idm', trainer.budget)
    saved_s = trainer.budget.spent_s
    while trainer.budget.share(trainer.step) < 1:
        terms = trainer.run_step()
        progress.say(trainer.step, {'loss': sum(terms.values()), **terms})
        if trainer.budget.spent_s - saved_s > trainer.settings.save_every_s:
            saved_s = trainer.budget.spent_s
            trainer.save_state(out)
    trainer.save_state(out)


def _as_json(value: Any) -> Any:
    """Return the value as it is after a way through JSON: tuples become lists."""
    if isinstance(value, dict):
        return {key: _as_json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(entry) for entry in value]
    return value
