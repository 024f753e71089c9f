"""The world model as its users see it: a view and an instruction in, a rollout out."""

from collections.abc import Callable
from dataclasses import dataclass
import hashlib
from itertools import pairwise
import time

from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers import WanTransformer3DModel
from diffusers.utils.torch_utils import randn_tensor
import numpy as np
import torch
from torch import nn
from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.training.finite import require_finite
from eva_ros.training.manifest import World
from eva_ros.world_model.codec import LinearCodec
from eva_ros.world_model.sampler import euler_step
from eva_ros.world_model.sampler import noise_levels
from eva_ros.world_model.sampler import velocity_from_clean
from eva_ros.world_model.text import WordEncoder
from eva_ros.world_model.transformer import wan_forward
from eva_ros.world_model.transformer import with_context


@dataclass(frozen=True)
class Rollout:
    """Dreamed frames.

    Attributes:
        frames: views [T, H, W, 3], uint8 RGB; the first is the observed one.
        dt: seconds between frames.
        instruction: what was asked for.
        seed: of the noise.
        duration_s: how long the dream took.
        checkpoint: name of the weights, with the adapter's when one is loaded.
    """

    frames: np.ndarray
    dt: float
    instruction: str
    seed: int
    duration_s: float
    checkpoint: str


@dataclass(frozen=True)
class Condition:
    """What a dream starts from.

    Attributes:
        first: latent of the observed frame [B, C, 1, h, w].
        tokens: word indices of the instructions [B, L].
        views: the observed frames [B, 3, H, W] in 0..1.
    """

    first: Tensor
    tokens: Tensor
    views: Tensor


@dataclass(frozen=True)
class WorldSettings:
    """What a checkpoint says of the world it dreams (eva.json).

    Attributes:
        name: of the checkpoint.
        view: name of the view, with height, width and rate_hz.
        robot: name of the robot whose recordings it was trained on.
        frames: length of a rollout, the observed frame included.
        steps: denoising steps of an ordinary dream.
        view_hash: fingerprint of the view; empty where a checkpoint does not say it.
    """

    name: str
    robot: str
    view: str
    height: int
    width: int
    rate_hz: float
    frames: int
    steps: int = 4
    view_hash: str = ''

    @property
    def world(self) -> World:
        """Return the robot and the view, as a manifest says them."""
        return World(
            robot=self.robot,
            view=self.view,
            view_hash=self.view_hash,
            height=self.height,
            width=self.width,
            rate_hz=self.rate_hz,
        )


class WorldModel(nn.Module):
    """A small Wan transformer that predicts the clean change from the observed frame."""

    def __init__(
        self,
        settings: WorldSettings,
        codec: LinearCodec,
        text: WordEncoder,
        transformer: WanTransformer3DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ):
        """Put the parts together."""
        super().__init__()
        self.settings = settings
        self.codec = codec
        self.text = text
        self.transformer = transformer
        self.scheduler = scheduler
        self.adapter_name = ''

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Return channels, groups, rows and columns of what is dreamed."""
        config = self.codec.config
        groups = (self.settings.frames - 1) // config.group
        return (config.channels, groups, *config.grid)

    @property
    def device(self) -> torch.device:
        """Return where the weights are."""
        return self.codec.frame_mean.device

    def check_instruction(self, instruction: str) -> None:
        """Raise a UserError that lists the vocabulary when a word is unknown."""
        self.text.tokenize(instruction)

    def condition(self, views: Tensor, instructions: list[str]) -> Condition:
        """Return the condition of views [B, 3, H, W] in 0..1, on any device, and instructions."""
        views = views.to(self.device)
        tokens = torch.tensor([self.text.tokenize(text) for text in instructions])
        return Condition(self.codec.encode_first(views), tokens.to(views.device), views)

    def clean(self, x: Tensor, sigma: float | Tensor, condition: Condition) -> Tensor:
        """Predict the clean change latents [B, C, G, h, w] from x at noise level sigma."""
        sigmas = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).expand(len(x))
        levels = sigmas[:, None].repeat(1, x.shape[2] + 1)
        levels[:, 0] = 0.0
        latents = with_context(torch.cat((condition.first, x), 2))
        words = self.text(condition.tokens)
        return wan_forward(self.transformer, latents, levels, words)[:, :, 1:].to(x.dtype)

    def velocity(self, x: Tensor, sigma: float, condition: Condition) -> Tensor:
        """Predict the velocity of x at one noise level for the whole batch."""
        return velocity_from_clean(x, self.clean(x, sigma, condition), sigma)

    def noise(
        self, count: int, generator: torch.Generator | list[torch.Generator] | None = None
    ) -> Tensor:
        """Return unit noise [count, C, G, h, w], the start of a dream."""
        return randn_tensor((count, *self.latent_shape), generator, self.device)

    def sample(
        self,
        condition: Condition,
        noise: Tensor,
        *,
        steps: int | None = None,
        on_step: Callable[[int, int], None] | None = None,
        gradient_steps: int = 0,
    ) -> Tensor:
        """Denoise deterministically and return change latents [B, C, G, h, w].

        Args:
            condition: what the dreams start from.
            noise: unit noise [B, C, G, h, w].
            steps: denoising steps; None takes the checkpoint's.
            on_step: called with the step done and the number of steps.
            gradient_steps: the last steps that a gradient flows through; none in inference.
        """
        levels = noise_levels(self.scheduler, steps or self.settings.steps)
        x = noise
        for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
            last = i >= len(levels) - 1 - gradient_steps
            with torch.set_grad_enabled(last and torch.is_grad_enabled()):
                with torch.autocast(x.device.type, torch.bfloat16):
                    velocity = self.velocity(x, sigma, condition)
                x = euler_step(x, velocity.float(), sigma, sigma_next)
            if on_step is not None:
                on_step(i + 1, len(levels) - 1)
        return x

    def decode(self, latents: Tensor, condition: Condition) -> Tensor:
        """Return frames [B, T, 3, H, W], about 0..1, differentiable.

        Raises:
            NotFiniteError: the latents or the frames are not finite.
        """
        frames = self.codec.decode(latents, condition.views)
        require_finite(
            {'latents': latents, 'frames': frames},
            f'A dream of the world model {self.settings.name}{self.adapter_name}',
            'nothing of it is passed on; check the checkpoint and its adapter',
        )
        return frames

    def dream(
        self,
        view: np.ndarray,
        instruction: str,
        *,
        seed: int,
        steps: int | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Rollout:
        """Dream the next frames of one view.

        Args:
            view: the observed view [H, W, 3], uint8 RGB.
            instruction: in words of the vocabulary.
            seed: of the noise; the same seed gives the same dream.
            steps: denoising steps; None takes the checkpoint's.
            on_step: called with the step done and the number of steps.

        Raises:
            UserError: the view has another size, the instruction unknown words, or the dream is
                not finite (a NotFiniteError).
        """
        start = time.perf_counter()
        settings = self.settings
        if view.shape != (settings.height, settings.width, 3) or view.dtype != np.uint8:
            raise UserError(
                f'The view is {view.dtype} {view.shape}, but the world model {settings.name} '
                f'dreams views of {settings.height}x{settings.width}x3 uint8: use its view '
                f'configuration ({settings.view}).'
            )
        frames = torch.from_numpy(view.copy()).permute(2, 0, 1)[None].float() / 255.0
        condition = self.condition(frames, [instruction])
        noise = self.noise(1, torch.Generator().manual_seed(seed))
        latents = self.sample(condition, noise, steps=steps, on_step=on_step)
        video = self.decode(latents, condition)[0]
        return Rollout(
            frames=to_uint8(video),
            dt=1.0 / settings.rate_hz,
            instruction=instruction,
            seed=seed,
            duration_s=time.perf_counter() - start,
            checkpoint=settings.name + self.adapter_name,
        )


def to_uint8(video: Tensor) -> np.ndarray:
    """Return frames [T, 3, H, W] in 0..1 as uint8 [T, H, W, 3].

    Raises:
        NotFiniteError: a value is not finite; as an integer it would look like any other.
    """
    require_finite({'frames': video}, 'A dream', 'no picture can be made of it')
    scaled = (video.detach().float() * 255.0).round().clamp(0, 255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def rollout_seed(seed: int, index: int) -> int:
    """Return the noise seed of the index-th dream of a run, the same in every process."""
    digest = hashlib.sha256(f'{seed}/{index}'.encode()).digest()
    return int.from_bytes(digest[:6], 'big')
