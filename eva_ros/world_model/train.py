"""Supervised training of the world model: flow matching on clips, exactly resumable.

The transformer predicts the clean change latents from noisy ones (flow matching in its
clean-target form: the loss is the velocity loss weighted by sigma squared), so that what cannot
be known comes out as the mean, and "nothing moves" is the easy answer, not noise.
"""

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
import math
import os
from pathlib import Path
import pickle
import time
from typing import Any

import torch
from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.training.divergence import DivergenceGuard
from eva_ros.training.finite import require_finite
from eva_ros.world_model.clips import ClipSampler
from eva_ros.world_model.parallel import agree
from eva_ros.world_model.parallel import process_count
from eva_ros.world_model.parallel import process_rank
from eva_ros.world_model.parallel import share_gradients
from eva_ros.world_model.parallel import share_mean
from eva_ros.world_model.pipeline import WorldModel

STATE = 'state.pt'


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
        checkpoint_every: steps between checkpoints of the run.
    """

    steps: int
    batch: int = 8
    learning_rate: float = 1.2e-3
    warmup: int = 100
    shift: float = 3.0
    ema: float = 0.998
    seed: int = 0
    checkpoint_every: int = 200


def training_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def flow_loss(
    model: WorldModel, frames: Tensor, instructions: list[str], sigma: Tensor, noise: Tensor
) -> Tensor:
    """Return the mean squared error of the predicted clean latents.

    Args:
        model: the world model.
        frames: clips [B, T, 3, H, W] in 0..1, on any device.
        instructions: one each.
        sigma: noise level of each clip [B], in (0, 1], on any device.
        noise: unit noise [B, C, G, h, w].
    """
    frames = frames.to(model.device)
    with torch.no_grad():
        target = model.codec.encode_changes(frames)
        condition = model.condition(frames[:, 0], instructions)
    sigma = sigma.to(target.device)
    level = sigma.view(-1, 1, 1, 1, 1)
    noisy = (1 - level) * target + level * noise
    with torch.autocast(noisy.device.type, torch.bfloat16):
        clean = model.clean(noisy, sigma, condition)
    return (clean.float() - target).square().mean()


def draw_noise_levels(count: int, shift: float, generator: torch.Generator) -> Tensor:
    """Return noise levels [count]: 30 % are pure noise, where every dream starts.

    The others follow shift * u / (1 + (shift - 1) u) for uniform u, as inference steps do.
    """
    u = torch.rand(count, generator=generator, device=generator.device)
    pure = torch.rand(count, generator=generator, device=generator.device) < 0.3
    sigma = (shift * u / (1 + (shift - 1) * u)).clamp(0.02, 1.0)
    return sigma.masked_fill(pure, 1.0)


class Trainer:
    """One training run in a folder; `run` continues where a killed one stopped."""

    def __init__(
        self, model: WorldModel, sampler: ClipSampler, settings: TrainSettings, folder: Path
    ):
        """Prepare the optimizer, on a GPU if there is one; nothing is read or written yet."""
        self.device = training_device()
        self.model = model.to(self.device)
        self.sampler = sampler
        self.settings = settings
        self.folder = folder
        self.step = 0
        self.seconds = 0.0
        self.guard = DivergenceGuard('world-model', quiet=process_rank() != 0)
        self._trainable = dict(self._named_parameters())
        self.average = {k: p.detach().clone() for k, p in self._trainable.items()}
        # AdamW: Muon's orthogonalisation costs more than a training step on two cores
        self._optimizer = torch.optim.AdamW(
            self._trainable.values(),
            settings.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=0.01,
            fused=True,
        )

    def _named_parameters(self):
        yield from self.model.transformer.named_parameters(prefix='transformer')
        yield from self.model.text.named_parameters(prefix='text')

    def compile(self) -> None:
        """Compile the forward pass of training: a minute's work, then a GPU has less to wait for.

        It needs what torch.compile needs: on a GPU Triton and a C compiler.
        """
        self.model.clean = torch.compile(self.model.clean)  # type: ignore[method-assign]

    def run(
        self,
        report: Callable[[int, Tensor, float], None] | None = None,
        *,
        max_seconds: float = math.inf,
    ) -> float:
        """Train to the last step and return the last smoothed loss.

        Args:
            report: called after every step with the step, smoothed loss and seconds so far. To
                read the loss is to wait for the GPU.
            max_seconds: stop (with a checkpoint) after so long in this call.

        Raises:
            NotFiniteError: the loss, the gradient or a weight is not finite; the checkpoint of the
                run stays as it was.
        """
        start = time.perf_counter()
        before = self.seconds
        smooth = torch.tensor(math.nan, device=self.device)
        self.model.train()
        while self.step < self.settings.steps:
            loss = self._train_step()
            smooth = torch.where(smooth.isnan(), loss, 0.97 * smooth + 0.03 * loss)
            self.step += 1
            self.seconds = before + time.perf_counter() - start
            if report is not None:
                report(self.step, smooth, self.seconds)
            late = agree(time.perf_counter() - start > max_seconds)
            if late or self.step % self.settings.checkpoint_every == 0:
                self.save()
            if late:
                break
        self.save()
        return smooth.item()

    def _train_step(self) -> Tensor:
        settings = self.settings
        for group in self._optimizer.param_groups:
            group['lr'] = settings.learning_rate * _rate(self.step, settings)
        loss = self._loss()
        loss.backward()
        share_gradients(self._trainable.values())
        norm = torch.nn.utils.clip_grad_norm_(self._trainable.values(), 1.0)
        # The mean, and of gradients that are shared: all processes stop at the same step.
        loss = share_mean(loss.detach())
        self.guard.check(self.step + 1, {'loss': float(loss), 'gradient norm': float(norm)})
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._average()
        return loss

    def _loss(self) -> Tensor:
        """Return the loss of this process' share of the batch."""
        settings = self.settings
        share = slice(process_rank(), None, process_count())
        frames, instructions = self.sampler.batch(self.step, settings.batch, share)
        generator = torch.Generator(self.device)
        generator.manual_seed(settings.seed * 1_000_003 + self.step)
        sigma = draw_noise_levels(settings.batch, settings.shift, generator)
        noise = self.model.noise(settings.batch, generator)
        return flow_loss(self.model, frames, instructions, sigma[share], noise[share])

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.settings.ema, (self.step + 1) / (self.step + 10))
        averages = [self.average[name] for name in self._trainable]
        torch._foreach_lerp_(averages, list(self._trainable.values()), 1.0 - decay)

    @torch.no_grad()
    def averaged_model(self) -> WorldModel:
        """Put the averaged weights into the model (ends the training run) and return it."""
        self.model.__dict__.pop('clean', None)  # what compile() put there
        for name, parameter in self._trainable.items():
            parameter.copy_(self.average[name])
        return self.model.eval().cpu()

    def save(self) -> None:
        """Write the whole state of the run; a kill while writing leaves the old one.

        Raises:
            NotFiniteError: it holds a value that is not finite; the old one is left.
        """
        path = self.folder / STATE
        optimizer = self._optimizer.state_dict()
        weights = {k: p.detach() for k, p in self._trainable.items()}
        moments = _flat(optimizer)
        for part in (weights, self.average, moments):
            require_finite(part, str(path), 'it is left as it was')
        self.guard.saved_step = self.step
        if process_rank() != 0:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            'step': self.step,
            'seconds': self.seconds,
            'settings': asdict(self.settings),
            'weights': weights,
            'average': self.average,
            'optimizer': optimizer,
        }
        draft = self.folder / f'{STATE}.part'
        torch.save(state, draft)
        os.replace(draft, path)

    def resume(self) -> bool:
        """Continue from the folder's state, if there is one.

        Raises:
            UserError: it is damaged, or holds a value that is not finite.
        """
        path = self.folder / STATE
        if not path.is_file():
            return False
        advice = 'delete this file to train from the beginning'
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            raise UserError(f'{path} cannot be read: it is damaged; {advice}.') from error
        for part in (state['weights'], state['average'], _flat(state['optimizer'])):
            require_finite(part, str(path), advice)
        self.step, self.seconds = state['step'], state['seconds']
        with torch.no_grad():
            for name, parameter in self._trainable.items():
                parameter.copy_(state['weights'][name])
        self.average = state['average']
        self._optimizer.load_state_dict(state['optimizer'])
        self.guard.saved_step = self.step
        return True


def _flat(optimizer: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the moments in an optimizer's state, by the number of the weight and their name."""
    return {
        f'optimizer {index} {name}': value
        for index, entry in optimizer['state'].items()
        for name, value in entry.items()
    }


def _rate(step: int, settings: TrainSettings) -> float:
    """Linear warm-up, then constant, then linear to 5 % over the last 40 % of the run."""
    warm = min(1.0, (step + 1) / settings.warmup)
    left = (settings.steps - step) / (0.4 * settings.steps)
    return warm * max(0.05, min(1.0, left))
