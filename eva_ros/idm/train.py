"""Supervised training of the inverse dynamics model from recorded episodes."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from eva_ros.episodes.fingerprint import fingerprint
from eva_ros.idm.augment import augment
from eva_ros.idm.augment import Corruption
from eva_ros.idm.backbones import Pretrained
from eva_ros.idm.checkpoint import save_idm
from eva_ros.idm.config import IdmConfig
from eva_ros.idm.data import Clips
from eva_ros.idm.data import ClipSampler
from eva_ros.idm.data import Fingertips
from eva_ros.idm.data import label_statistics
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.model import JointEstimate
from eva_ros.idm.reading import estimate_frames
from eva_ros.training.labels import require_finite_labels
from eva_ros.training.launch import share_of
from eva_ros.training.launch import training_device
from eva_ros.training.loop import Budget
from eva_ros.training.loop import Task
from eva_ros.training.loop import TrainingLoop


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
        freeze_backbone: whether a pretrained backbone keeps its weights.
        backbone_rate: learning rate of a pretrained backbone against that of the rest.
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
    freeze_backbone: bool = False
    backbone_rate: float = 0.1


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
) -> tuple[torch.optim.Optimizer, ...]:
    """Return Muon for the matrices inside the model and AdamW for the rest.

    The rest: biases, priors, and the layers that meet pixels or joints. A backbone that is
    fine-tuned has an AdamW of its own.
    """
    edges = ('stem', 'prior', '.joints.', '.spread.')
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    backbone = {name: weight for name, weight in trained.items() if name.startswith('backbone.')}
    own = {name: weight for name, weight in trained.items() if name not in backbone}
    inside = {
        name: weight
        for name, weight in own.items()
        if weight.ndim == 2 and not any(edge in name for edge in edges)
    }
    rest = [weight for name, weight in own.items() if name not in inside]
    muon = torch.optim.Muon(
        inside.values(),
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        adjust_lr_fn='match_rms_adamw',
    )
    rate = settings.learning_rate
    adam = torch.optim.AdamW(rest, rate, weight_decay=0.0, betas=(0.9, 0.99))
    if not backbone:
        return muon, adam
    slow = settings.backbone_rate * rate
    return muon, adam, torch.optim.AdamW(backbone.values(), slow, weight_decay=0.0)


class IdmTask(Task):
    """Learning to read joints; the state after a step depends on the seed alone."""

    label = 'idm'

    def __init__(
        self,
        config: IdmConfig,
        episodes: Sequence[Any],
        settings: TrainSettings,
        *,
        corruptions: Sequence[Corruption] = (),
        fingertips: Fingertips | None = None,
        start: InverseDynamics | None = None,
        backbone: Pretrained | None = None,
    ) -> None:
        """Prepare a training from its beginning (see `train`)."""
        self.settings = settings
        self.average = settings.average
        self._device = training_device()
        self._share = share_of(settings.batch_clips, 'clips')
        torch.manual_seed(settings.seed)
        self._start = fingerprint(w.numpy() for w in start.state_dict().values()) if start else ''
        self._backbone = backbone
        self.model = start.train().requires_grad_() if start else InverseDynamics(config)
        if self.model.backbone is not None:
            if backbone is not None:
                self.model.backbone.load(backbone.weights)
            self.model.backbone.requires_grad_(not settings.freeze_backbone)
        require_finite_labels(episodes, config.joint_names)
        if start is None:
            mean, std = label_statistics(episodes)
            self.model.mean.copy_(torch.from_numpy(mean))
            self.model.std.copy_(torch.from_numpy(std))
        self.model.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizers = optimizers(self.model, settings)
        self._sampler = ClipSampler(episodes, settings.clip_frames, settings.seed, fingertips)
        self._corruptions = corruptions

    def step(self, loop: TrainingLoop, number: int) -> Mapping[str, float]:
        """Take one optimizer step on a batch of clips."""
        return loop.update(lambda: self._loss(number))

    def _loss(self, number: int) -> tuple[Tensor, dict[str, float]]:
        settings, share = self.settings, self._share
        # Each process augments its own share, each in its own way.
        torch.manual_seed((settings.seed * 1_000_003 + number) * (share.step or 1) + share.start)
        clips = self._sampler.batch(number, settings.batch_clips, share)
        frames = augment(clips.frames, self._corruptions, settings.corrupted)
        clips = Clips(frames, *(t.to(self._device) for t in (clips.joints, clips.jacobians)))
        with torch.autocast(self._device.type, torch.bfloat16):
            estimate = estimate_frames(self.model, clips.frames.to(self._device))
        terms = losses(estimate, clips, self.model.std, settings)
        figures = {f'loss ({name})': term.item() for name, term in terms.items()}
        return torch.stack(list(terms.values())).sum(), figures

    def rate(self, step: int, share: float) -> float:
        """Warm up, then fall to nothing along a cosine."""
        warm = min(1.0, (step + 1) / self.settings.warmup_steps)
        return warm * 0.5 * (1 + math.cos(math.pi * share))

    def identity(self) -> Mapping[str, Any]:
        """Return what must be the same for a resumed training to be the same training."""
        kept = {k: v for k, v in asdict(self.settings).items() if k not in ('steps', 'minutes')}
        return {
            'config': json.loads(json.dumps(self.model.config.to_dict())),
            'settings': kept,
            'clips': len(self._sampler),
            'mean': [round(value, 6) for value in self.model.mean.tolist()],
            'start': self._start,
            **({'backbone': self._backbone.fingerprint} if self._backbone else {}),
        }


def training_loop(
    config: IdmConfig, episodes: Sequence[Any], out: Path, settings: TrainSettings, **options: Any
) -> TrainingLoop:
    """Return the training in a folder from its beginning (see `train`)."""
    task = IdmTask(config, episodes, settings, **options)
    return TrainingLoop(task, out, Budget(settings.steps, settings.minutes))


def train(
    config: IdmConfig,
    episodes: Sequence[Any],
    out: Path,
    settings: TrainSettings,
    *,
    corruptions: Sequence[Corruption] = (),
    fingertips: Fingertips | None = None,
    backbone: Pretrained | None = None,
    facts: Mapping[str, Any] | None = None,
    view_hash: str = '',
    start: InverseDynamics | None = None,
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
        backbone: where a pretrained backbone starts from.
        facts: for the model card.
        view_hash: `manifest.view_fingerprint` of the view.
        start: trained model of the same shape to fine-tune; None starts from random weights.

    Returns:
        The model with the average of the weights, ready for inference.

    Raises:
        UserError: the training diverges, a label is not finite, or the folder holds another
            training.
    """
    options = {'corruptions': corruptions, 'fingertips': fingertips, 'backbone': backbone}
    loop = training_loop(config, episodes, out, settings, start=start, **options)
    loop.resume()
    loop.run()
    loop.finish()
    model: InverseDynamics = loop.task.model  # type: ignore[assignment]
    training = {
        **(facts or {}),
        'settings': asdict(settings),
        'steps': loop.step,
        'seconds': round(loop.spent_s),
        'episodes': len(episodes),
        'frames': sum(len(episode.frames) for episode in episodes),
        'parameters': sum(p.numel() for p in model.parameters()),
    }
    if loop.is_main:
        save_idm(model, out, training, view_hash)
    return model.eval()
