"""The world model as its users see it: a view and an instruction in, a rollout out."""

from abc import ABC
from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import nullcontext
import time

from diffusers import WanTransformer3DModel
from diffusers.utils.torch_utils import randn_tensor
import numpy as np
import torch
from torch import nn
from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.training.finite import require_finite
from eva_ros.training.frames import frames_to_tensor
from eva_ros.world_model.condition import Condition
from eva_ros.world_model.dream_arguments import require_pixels
from eva_ros.world_model.dream_arguments import require_scale
from eva_ros.world_model.dream_arguments import require_steps
from eva_ros.world_model.dream_arguments import require_texts
from eva_ros.world_model.rollout import Rollout
from eva_ros.world_model.rollout import to_uint8
from eva_ros.world_model.rollout import WorldSettings
from eva_ros.world_model.sampler import Sampler
from eva_ros.world_model.sampler import Scheduler


class WorldModel(nn.Module, ABC):
    """A world model as samplers, trainers and nodes see it, whatever it is made of.

    Args:
        settings: World that the checkpoint dreams of.
        transformer: Denoiser; adapters are loaded into it.
        scheduler: Noise schedule.

    Attributes:
        adapter_name: Name of the loaded adapter, as a suffix of the checkpoint's; or ''.
        label: Name and digest of the weights that were loaded, the adapter's behind a plus; the
            name alone where they come from elsewhere.
        base: Fingerprint of the weights as they were loaded; '' where they come from elsewhere.
    """

    def __init__(
        self,
        settings: WorldSettings,
        transformer: WanTransformer3DModel,
        scheduler: Scheduler,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.transformer = transformer
        self.scheduler = scheduler
        self.adapter_name = ''
        self.base = ''
        self.label = settings.name

    @property
    def transformers(self) -> list[WanTransformer3DModel]:
        """Return the denoisers, for high noise levels first; adapters are loaded into them."""
        return [self.transformer]

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Return channels, latent frames, rows and columns of what is dreamed."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Return where the work is done."""

    @abstractmethod
    def check_instruction(self, instruction: str) -> None:
        """Raise a UserError when an instruction is empty, too long or cannot be encoded."""

    @abstractmethod
    def condition(
        self,
        views: Tensor,
        instructions: list[str],
        latent_frames: int | None = None,
        history: Tensor | None = None,
    ) -> Condition:
        """Encode views and instructions, once for all steps and candidates.

        Args:
            views: Observed frames [B, 3, H, W] in 0..1, on any device.
            instructions: One for each view.
            latent_frames: Length of the dreams; None takes that of `latent_shape`.
            history: Observed frames before the views [B, K, 3, H, W] in 0..1, the latest last; K
                is the settings' `history`. None where nothing moved before.
        """

    @abstractmethod
    def without_instruction(self, condition: Condition) -> Condition:
        """Return the condition of the same views for classifier-free guidance.

        Raises:
            UserError: The model was not trained to dream without an instruction.
        """

    @abstractmethod
    def without_history(self, condition: Condition) -> Condition:
        """Return the condition of the same views alone for classifier-free guidance.

        From rest it is the condition itself.

        Raises:
            UserError: The model was not trained to dream without knowing what was before.
        """

    @abstractmethod
    def take_history(self, frames: int) -> None:
        """Dream of moving arms from this many frames before the first, as an adapter needs.

        Raises:
            UserError: The model cannot.
        """

    @abstractmethod
    def velocity(
        self,
        x: Tensor,
        sigma: float | Tensor,
        condition: Condition,
        *,
        time: float | None = None,
    ) -> Tensor:
        """Predict the velocity of latents.

        Args:
            x: Latents [B, C, F, h, w].
            sigma: Noise level, 0 to 1: one for all, or one each [B].
            condition: What the dreams start from; it is held fixed.
            time: What the transformer is told, where a scheduler rounds it; None is 1000 sigma.
        """

    @abstractmethod
    def encode(self, frames: Tensor, history: Tensor | None = None) -> Tensor:
        """Return the clean latents [B, C, F, h, w] of clips.

        Args:
            frames: Clips [B, T, 3, H, W] in 0..1.
            history: Frames before them [B, K, 3, H, W] in 0..1, as for `condition`.
        """

    @abstractmethod
    def denoising_loss(
        self, target: Tensor, sigma: Tensor, noise: Tensor, condition: Condition
    ) -> Tensor:
        """Return the mean squared error of the prediction on noisy latents.

        Args:
            target: Clean latents [B, C, F, h, w].
            sigma: Noise level of each clip [B], in (0, 1].
            noise: Unit noise of the same shape as the target.
            condition: What the clips start from.
        """

    @abstractmethod
    def decode(self, latents: Tensor, condition: Condition) -> Tensor:
        """Return frames [B, T, 3, H, W], about 0..1; the first is the observed one.

        Raises:
            NotFiniteError: The latents or the frames are not finite.
        """

    @abstractmethod
    def sampler(self, name: str, steps: int) -> Sampler:
        """Return the sampler 'euler' or 'unipc' with so many steps of this model's schedule."""

    def hold_context(self, latents: Tensor, condition: Condition) -> Tensor:
        """Return latents in which what is known of the dream is clean."""
        return latents

    def precision(self) -> AbstractContextManager:
        """Return the context that predictions are made in."""
        return nullcontext()

    def for_dreaming(self) -> 'WorldModel':
        """Return itself, optimized for inference; it can no longer be trained or lose its adapter.

        Dreams do not change, up to rounding if an adapter was merged.
        """
        return self

    def noise(
        self, count: int, generator: torch.Generator | list[torch.Generator] | None = None
    ) -> Tensor:
        """Return unit noise [count, C, F, h, w], the start of a dream."""
        return randn_tensor((count, *self.latent_shape), generator, self.device)

    def sample(
        self,
        condition: Condition,
        noise: Tensor,
        *,
        steps: int | None = None,
        sampler: str = 'euler',
        guidance_scale: float = 1.0,
        history_scale: float = 1.0,
        on_step: Callable[[int, int], None] | None = None,
        gradient_steps: int = 0,
    ) -> Tensor:
        """Denoise deterministically and return latents [B, C, F, h, w].

        Guidance adds to the velocity v what instruction and history change of it:
        v + (g - 1) (v - v without instruction) + (h - 1) (v - v without history), with g the
        guidance scale and h the history scale. This is the sum of EVA's released sampler, whose
        two scales are g - 1 and h - 1; for g alone it is classifier-free guidance
        (arXiv 2207.12598), for h alone history guidance (arXiv 2502.06764).

        Args:
            condition: What the dreams start from.
            noise: Unit noise [B, C, F, h, w].
            steps: Denoising steps; None takes the checkpoint's.
            sampler: 'euler' or 'unipc'.
            guidance_scale: Weight of the instruction by classifier-free guidance; up to 1 there
                is none.
            history_scale: Weight of the history likewise; from rest it has no effect.
            on_step: Called with the step done and the number of steps.
            gradient_steps: The last steps that a gradient flows through; none in inference.

        Raises:
            UserError: Steps, sampler or a scale are not possible, or the model cannot be guided.
        """
        name = f'The world model {self.settings.name}'
        steps = self.settings.steps if steps is None else steps
        require_steps(name, steps)
        require_scale(name, 'guidance scale', guidance_scale)
        require_scale(name, 'history scale', history_scale)
        solver = self.sampler(sampler, steps)
        others = self._guides(condition, guidance_scale, history_scale)
        count, x = len(solver), noise
        for i in range(count):
            last = i >= count - gradient_steps
            with torch.set_grad_enabled(last and torch.is_grad_enabled()):
                sigma, time = solver.point(i)
                with self.precision():
                    known = self.velocity(x, sigma, condition, time=time)
                    velocity = known
                    for weight, other in others:
                        less = self.velocity(x, sigma, other, time=time)
                        velocity = velocity + weight * (known - less)
                x = solver.step(i, x, velocity.float())
            if on_step is not None:
                on_step(i + 1, count)
        return self.hold_context(x, condition)

    def _guides(
        self, condition: Condition, guidance_scale: float, history_scale: float
    ) -> list[tuple[float, Condition]]:
        """Return the conditions that guide away from themselves, with their weights."""
        guides = []
        if guidance_scale > 1:
            guides.append((guidance_scale - 1, self.without_instruction(condition)))
        if history_scale > 1:
            alone = self.without_history(condition)
            if alone is not condition:
                guides.append((history_scale - 1, alone))
        return guides

    @torch.no_grad()
    def sample_latents(
        self,
        first_frames: Tensor,
        instructions: list[str],
        noise: Tensor,
        *,
        steps: int,
        guidance_scale: float = 1.0,
        sampler: str = 'euler',
        history: Tensor | None = None,
        history_scale: float = 1.0,
    ) -> Tensor:
        """Dream latents, in the layout of the pipeline's own `output_type='latent'`.

        Noise and latents have the same shape with history and without: what is known of the
        frames before is put in front of the latents inside, and not returned.

        Args:
            first_frames: Observed frames [B, 3, H, W] in 0..1.
            instructions: One for each frame.
            noise: Unit noise [B, C, F, h, w].
            steps: Denoising steps.
            guidance_scale: Weight of the instruction; up to 1 there is no guidance.
            sampler: 'euler' or 'unipc'.
            history: Observed frames before the first ones [B, K, 3, H, W] in 0..1, the latest
                last, for checkpoints that were trained with K of them; None from rest.
            history_scale: Weight of the history; no guidance up to 1, nor for dreams from rest.
                Small models refuse more than 1.

        Raises:
            UserError: An argument does not fit the others or the checkpoint.
        """
        self._check_arguments(first_frames, instructions, noise)
        if history is not None:
            self._check_history(first_frames, history)
        past = None if history is None else history.float()
        condition = self.condition(first_frames.float(), instructions, noise.shape[2], past)
        return self.sample(
            condition,
            noise.to(self.device, torch.float32),
            steps=steps,
            sampler=sampler,
            guidance_scale=guidance_scale,
            history_scale=history_scale,
        )

    def _check_arguments(self, views: Tensor, instructions: list[str], noise: Tensor) -> None:
        name = f'The world model {self.settings.name}'
        if views.ndim != 4 or views.shape[1] != 3:
            raise UserError(f'{name} takes frames [B, 3, H, W], not {list(views.shape)}.')
        require_texts(name, instructions)
        if not len(views) == len(instructions) == len(noise):
            raise UserError(
                f'{name} was given {len(views)} frames, {len(instructions)} instructions and '
                f'noise for {len(noise)} dreams: give as many of each.'
            )
        if not len(views):
            raise UserError(f'{name} was given no frames: give at least one to dream from.')
        for instruction in set(instructions):
            self.check_instruction(instruction)
        self._check_noise(views, noise)
        require_pixels(name, 'first frames', views)
        require_finite({'noise': noise}, name, 'nothing is dreamed of it')

    def _check_history(self, views: Tensor, history: Tensor) -> None:
        name, wanted = f'The world model {self.settings.name}', self.settings.history
        if not wanted:
            raise UserError(
                f'{name} was trained without history: leave it out, or take a checkpoint that '
                'was trained with it.'
            )
        shape = (len(views), wanted, *views.shape[1:])
        if history.shape != shape:
            raise UserError(
                f'{name} takes the {wanted} frames before each view as history, {list(shape)}, '
                f'not {list(history.shape)}.'
            )
        require_pixels(name, 'history', history)

    def _check_noise(self, views: Tensor, noise: Tensor) -> None:
        """Refuse frames and noise that do not belong together; others than these may do more."""
        settings, wanted = self.settings, self.latent_shape
        if views.shape[2:] != (settings.height, settings.width):
            raise UserError(
                f'The world model {settings.name} dreams views of '
                f'{settings.height}x{settings.width}, and these frames have '
                f'{views.shape[2]}x{views.shape[3]}: resize them to its view ({settings.view}).'
            )
        if tuple(noise.shape[1:]) != wanted:
            raise UserError(
                f'The world model {settings.name} takes noise of {list(wanted)} for a dream '
                f'(channels, frames, rows, columns), not {list(noise.shape[1:])}.'
            )

    def dream(
        self,
        view: np.ndarray,
        instruction: str,
        *,
        seed: int,
        steps: int | None = None,
        before: Sequence[np.ndarray] = (),
        on_step: Callable[[int, int], None] | None = None,
    ) -> Rollout:
        """Dream the next frames of one view.

        Args:
            view: Observed view [H, W, 3], uint8 RGB.
            instruction: What the robot is told to do.
            seed: Seed of the noise; the same seed gives the same dream.
            steps: Denoising steps; None takes the checkpoint's.
            before: Views observed before, at the view's rate, the latest last; none where the
                arms are at rest. A model takes the last `settings.history` of them.
            on_step: Called with the step done and the number of steps.

        Raises:
            UserError: A view has another size, there are fewer before than the model takes, the
                instruction cannot be encoded, steps are not a whole number above zero, or the
                dream is not finite (a NotFiniteError).
        """
        return self.candidates(
            view, instruction, [seed], steps=steps, before=before, on_step=on_step
        )[0]

    @torch.no_grad()
    def candidates(
        self,
        view: np.ndarray,
        instruction: str,
        seeds: Sequence[int],
        *,
        steps: int | None = None,
        before: Sequence[np.ndarray] = (),
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Rollout]:
        """Dream several futures of one view in one batch, a seed each; arguments as `dream`."""
        start = time.perf_counter()
        settings, name = self.settings, f'The world model {self.settings.name}'
        if not len(seeds):
            raise UserError(f'{name} was given no seeds: give one for each dream.')
        require_texts(name, [instruction])
        steps = settings.steps if steps is None else steps
        require_steps(name, steps)
        frames = self._frames([*self._history(before), view])
        self.check_instruction(instruction)
        past = frames[None, :-1] if len(frames) > 1 else None
        condition = self.condition(frames[-1:], [instruction], history=past).repeat(len(seeds))
        noise = self.noise(len(seeds), [torch.Generator().manual_seed(seed) for seed in seeds])
        latents = self.sample(
            condition,
            noise,
            steps=steps,
            sampler=settings.sampler,
            guidance_scale=settings.guidance_scale,
            history_scale=settings.history_scale,
            on_step=on_step,
        )
        videos = [to_uint8(video) for video in self.decode(latents, condition)]
        spent = time.perf_counter() - start
        return [
            Rollout(
                frames=video,
                dt=1.0 / settings.rate_hz,
                instruction=instruction,
                seed=seed,
                duration_s=spent,
                checkpoint=self.label,
                denoising_steps=steps,
            )
            for video, seed in zip(videos, seeds)
        ]

    def _history(self, before: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """Return the views that the model takes of those before."""
        wanted = self.settings.history
        if 0 < len(before) < wanted:
            raise UserError(
                f'The world model {self.settings.name} dreams of moving arms from the {wanted} '
                f'views before, and only {len(before)} were observed: wait for more, or dream '
                'from rest.'
            )
        return before[len(before) - wanted :] if wanted else ()

    def _frames(self, views: Sequence[np.ndarray]) -> Tensor:
        """Return views [H, W, 3] as frames [N, 3, H, W] in 0..1."""
        for view in views:
            self._check_view(view)
        return frames_to_tensor(np.stack(views))

    def _check_view(self, view: np.ndarray) -> None:
        settings = self.settings
        if view.shape != (settings.height, settings.width, 3) or view.dtype != np.uint8:
            raise UserError(
                f'The view is {view.dtype} {view.shape}, but the world model {settings.name} '
                f'dreams views of {settings.height}x{settings.width}x3 uint8: use its view '
                f'configuration ({settings.view}).'
            )
