"""Supervised training of the world model: flow matching on clips, exactly resumable.

The transformer predicts the clean change latents from noisy ones (flow matching in its
clean-target form: the loss is the velocity loss weighted by sigma squared), so that what cannot
be known comes out as the mean, and "nothing moves" is the easy answer, not noise.
"""

from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.training.launch import share_of
from eva_ros.training.launch import training_device
from eva_ros.training.loop import Budget
from eva_ros.training.loop import Task
from eva_ros.training.loop import TrainingLoop
from eva_ros.training.videos import Video
from eva_ros.world_model.clips import ClipSampler
from eva_ros.world_model.pipeline import WorldModel
from eva_ros.world_model.sample_videos import sample_videos
from eva_ros.world_model.transformer import history_weights


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a training run.

    Attributes:
        steps: optimizer steps of the whole run (the learning rate ends near zero there).
        batch: clips of a step.
        learning_rate: of AdamW, after the warm-up.
        warmup: steps until the full rate.
        shift: noise levels are drawn as shift * u / (1 + (shift - 1) u).
        ema: decay of the averaged weights that are saved.
        seed: of weights, data order and noise.
        history_alone: Train only the weights that read the history: dreams from rest, where it
            is zero, stay as they are.
    """

    steps: int
    batch: int = 8
    learning_rate: float = 1.2e-3
    warmup: int = 100
    shift: float = 3.0
    ema: float = 0.998
    seed: int = 0
    history_alone: bool = False


def flow_loss(
    model: WorldModel, frames: Tensor, instructions: list[str], sigma: Tensor, noise: Tensor
) -> Tensor:
    """Return the mean squared error of what the model predicts, on noisy clips.

    Args:
        model: the world model.
        frames: clips [B, T, 3, H, W] in 0..1, on any device, from rest; or [B, K + T, 3, H, W],
            where the first K are the history that the model takes.
        instructions: one each.
        sigma: noise level of each clip [B], in (0, 1], on any device.
        noise: unit noise [B, C, F, h, w].
    """
    frames, settings = frames.to(model.device), model.settings
    history = None
    if settings.history and frames.shape[1] > settings.frames:
        history, frames = frames[:, : settings.history], frames[:, settings.history :]
    with torch.no_grad():
        target = model.encode(frames, history)
        condition = model.condition(frames[:, 0], instructions, history=history)
    return model.denoising_loss(target, sigma.to(target.device), noise, condition)


def draw_noise_levels(count: int, shift: float, generator: torch.Generator) -> Tensor:
    """Return noise levels [count]: 30 % are pure noise, where every dream starts.

    The others follow shift * u / (1 + (shift - 1) u) for uniform u, as inference steps do.
    """
    u = torch.rand(count, generator=generator, device=generator.device)
    pure = torch.rand(count, generator=generator, device=generator.device) < 0.3
    sigma = (shift * u / (1 + (shift - 1) * u)).clamp(0.02, 1.0)
    return sigma.masked_fill(pure, 1.0)


def warm_and_fall(step: int, share: float, warmup: int) -> float:
    """Return the factor on the learning rate: it warms up, stays, then falls linearly to 5 %.

    Args:
        step: Steps done.
        share: Share of the run that is done; it falls over the last 40 %.
        warmup: Steps until the full rate.
    """
    warm = min(1.0, (step + 1) / warmup)
    return warm * max(0.05, min(1.0, (1 - share) / 0.4))


class WorldModelTask(Task):
    """Learning to dream, on a GPU if there is one."""

    label = 'world-model'

    def __init__(self, model: WorldModel, sampler: ClipSampler, settings: TrainSettings) -> None:
        """Prepare a training of the transformer, and of the words where they are its own."""
        self.settings = settings
        self.average = settings.ema
        self._device = training_device()
        self._share = share_of(settings.batch, 'clips')
        self._sampler = sampler
        self.model: WorldModel = model.to(self._device).train()
        self.model.requires_grad_(requires_grad=False)
        trained = self._trained()
        for weight in trained:
            weight.requires_grad_()
        decay = 0.0 if settings.history_alone else 0.01
        # AdamW: Muon's orthogonalisation costs more than a training step on two cores
        self.optimizers = [
            torch.optim.AdamW(
                trained, settings.learning_rate, betas=(0.9, 0.98), weight_decay=decay, fused=True
            )
        ]

    def _trained(self) -> list[torch.nn.Parameter]:
        model = self.model
        if self.settings.history_alone:
            if os.environ.get('ACCELERATE_USE_FSDP', '').lower() == 'true':
                raise UserError(
                    'The weights that read the history are a part of a larger one, which FSDP '
                    'splits: add a history without FSDP.'
                )
            groups = model.settings.history // model.codec.config.group
            return [history_weights(model.transformer, groups)]
        text = [] if model.text.frozen else model.text.parameters()
        return [*model.transformer.parameters(), *text]

    def compile(self) -> None:
        """Compile the forward pass of training: a minute's work, then a GPU has less to wait for.

        It needs what torch.compile needs: on a GPU Triton and a C compiler.
        """
        self.model.clean = torch.compile(self.model.clean)  # type: ignore[method-assign]

    def step(self, loop: TrainingLoop, number: int) -> Mapping[str, float]:
        """Take one optimizer step on a batch of clips."""
        return loop.update(lambda: self._loss(number))

    def _loss(self, number: int) -> tuple[Tensor, dict[str, float]]:
        settings, share = self.settings, self._share
        frames, instructions = self._sampler.batch(number, settings.batch, share)
        generator = torch.Generator(self._device)
        generator.manual_seed(settings.seed * 1_000_003 + number)
        sigma = draw_noise_levels(settings.batch, settings.shift, generator)
        noise = self.model.noise(settings.batch, generator)
        loss = flow_loss(self.model, frames, instructions, sigma[share], noise[share])
        return loss, {'loss': loss.item()}

    def videos(self) -> Mapping[str, Video]:
        """Return dreams of fixed clips beside the recordings."""
        # What was compiled would be compiled again for the shapes of dreams.
        compiled = self.model.__dict__.pop('clean', None)
        try:
            return sample_videos(self.model, self._sampler, self.settings.seed)
        finally:
            if compiled is not None:
                self.model.clean = compiled  # type: ignore[method-assign]

    def rate(self, step: int, share: float) -> float:
        """Return `warm_and_fall` with the settings' warm-up."""
        return warm_and_fall(step, share, self.settings.warmup)

    def identity(self) -> Mapping[str, Any]:
        """Return what must be the same for a resumed run to be the same run."""
        return {'settings': {k: v for k, v in asdict(self.settings).items() if k != 'steps'}}


def training_loop(
    model: WorldModel, sampler: ClipSampler, settings: TrainSettings, folder: Path
) -> TrainingLoop:
    """Return the training of a model in a folder, from its beginning.

    Args:
        model: the world model; it is trained in place.
        sampler: of the recorded clips.
        settings: how to train.
        folder: of the run's state.
    """
    return TrainingLoop(WorldModelTask(model, sampler, settings), folder, Budget(settings.steps))


def averaged_model(loop: TrainingLoop) -> WorldModel:
    """End a training, and return its model with the averaged weights, on the CPU."""
    model: WorldModel = loop.task.model  # type: ignore[assignment]
    model.__dict__.pop('clean', None)  # what compile() put there
    loop.finish()
    return model.eval().cpu()
