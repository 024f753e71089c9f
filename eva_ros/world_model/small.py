"""The embedded world model: a small Wan transformer, a linear codec, and a word for a token."""

from contextlib import AbstractContextManager

from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers import WanTransformer3DModel
import numpy as np
import torch
from torch import nn
from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.training.finite import require_finite
from eva_ros.world_model.adapters import merge_adapter
from eva_ros.world_model.codec import LinearCodec
from eva_ros.world_model.condition import Condition
from eva_ros.world_model.pipeline import WorldModel
from eva_ros.world_model.rollout import WorldSettings
from eva_ros.world_model.sampler import make_sampler
from eva_ros.world_model.sampler import Sampler
from eva_ros.world_model.sampler import velocity_from_clean
from eva_ros.world_model.text import WordEncoder
from eva_ros.world_model.text_encoder import TextEncoder
from eva_ros.world_model.transformer import wan_forward
from eva_ros.world_model.transformer import with_context


class SmallWorldModel(WorldModel):
    """Predicts the clean change from the observed frame.

    Latents are those of the changes [B, C, G, h, w]: the observed frame's is not among them.
    """

    def __init__(
        self,
        settings: WorldSettings,
        codec: LinearCodec,
        text: WordEncoder | TextEncoder,
        transformer: WanTransformer3DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        super().__init__(settings, transformer, scheduler)
        self.codec = codec
        self.text = text

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
        """Raise a UserError when an instruction cannot be encoded; it says why."""
        self.text.check(instruction, self.settings.name)

    def condition(
        self,
        views: Tensor,
        instructions: list[str],
        latent_frames: int | None = None,
        history: Tensor | None = None,
    ) -> Condition:
        """Return the condition of views [B, 3, H, W] in 0..1, on any device, and instructions."""
        for text in set(instructions):
            self.check_instruction(text)
        views = views.to(self.device)
        tokens = torch.tensor([self.text.tokenize(text) for text in instructions])
        tokens = tokens.to(views.device)
        words = None
        if self.text.frozen:
            different, rows = tokens.unique(dim=0, return_inverse=True)
            words = self.text(different)[rows]
        first = self.codec.encode_first(views)
        return Condition(first, tokens, views, words, past=self._past(views, history))

    def _past(self, views: Tensor, history: Tensor | None) -> Tensor | None:
        """Return how the frames before differ from the view, as latents [B, C G, h, w].

        Zero says that nothing moved: from rest there is nothing else to know.
        """
        config, frames = self.codec.config, self.settings.history
        if not frames:
            return None
        if history is None:
            groups = frames // config.group
            return views.new_zeros(len(views), config.channels * groups, *config.grid)
        clip = torch.cat((views[:, None], history.to(views.device)), 1)
        return self.codec.encode_changes(clip).flatten(1, 2)

    def without_instruction(self, condition: Condition) -> Condition:
        """Refuse guidance."""
        raise UserError(
            f'The world model {self.settings.name} was trained with instructions only, so it '
            'cannot be guided: use a guidance scale of 1.'
        )

    def without_history(self, condition: Condition) -> Condition:
        """Refuse guidance: without history this model dreams of resting arms."""
        why = 'takes a missing history for arms at rest'
        if not self.settings.history:
            why = 'was trained without history'
        raise UserError(
            f'The world model {self.settings.name} {why}, so its history cannot be guided by: '
            'use a history scale of 1.'
        )

    def take_history(self, frames: int) -> None:
        """Refuse another history than that of the weights."""
        if frames != self.settings.history:
            raise UserError(
                f'The world model {self.settings.name} takes {self.settings.history} frames '
                f'before the first, not {frames}: use an adapter that was trained on it.'
            )

    def sampler(self, name: str, steps: int) -> Sampler:
        """Return a sampler whose steps are evenly spaced before the shift.

        The scheduler's own default spends its last step near zero.
        """
        return make_sampler(
            self.scheduler, name, steps, sigmas=np.linspace(1.0, 1.0 / steps, steps)
        )

    def precision(self) -> AbstractContextManager:
        """Predict in bfloat16."""
        return torch.autocast(self.device.type, torch.bfloat16)

    def for_dreaming(self) -> 'SmallWorldModel':
        """Return itself, with any adapter merged and the weights cast to bfloat16.

        Otherwise both would be repeated for every dream.
        """
        merge_adapter(self)
        for part in self.transformer.modules():
            if isinstance(part, nn.Linear | nn.Conv3d):
                part.to(torch.bfloat16)
        return self

    def clean(self, x: Tensor, sigma: float | Tensor, condition: Condition) -> Tensor:
        """Predict the clean change latents [B, C, G, h, w] from x at noise level sigma."""
        sigmas = torch.as_tensor(sigma, dtype=torch.float32, device=x.device).expand(len(x))
        levels = sigmas[:, None].repeat(1, x.shape[2] + 1)
        levels[:, 0] = 0.0
        latents = with_context(torch.cat((condition.first, x), 2), condition.past)
        words = self.text(condition.tokens) if condition.words is None else condition.words
        return wan_forward(self.transformer, latents, levels, words)[:, :, 1:].to(x.dtype)

    def velocity(
        self,
        x: Tensor,
        sigma: float | Tensor,
        condition: Condition,
        *,
        time: float | None = None,
    ) -> Tensor:
        """Predict the velocity of x; the transformer takes the noise level as it is."""
        clean = self.clean(x, sigma, condition)
        level = sigma.view(-1, 1, 1, 1, 1) if isinstance(sigma, Tensor) else sigma
        return velocity_from_clean(x, clean, level)

    def encode(self, frames: Tensor, history: Tensor | None = None) -> Tensor:
        """Return the change latents of clips [B, T, 3, H, W], whatever was before them."""
        return self.codec.encode_changes(frames)

    def denoising_loss(
        self, target: Tensor, sigma: Tensor, noise: Tensor, condition: Condition
    ) -> Tensor:
        """Return the mean squared error of the predicted clean latents."""
        level = sigma.view(-1, 1, 1, 1, 1)
        noisy = (1 - level) * target + level * noise
        with self.precision():
            clean = self.clean(noisy, sigma, condition)
        return (clean.float() - target).square().mean()

    def decode(self, latents: Tensor, condition: Condition) -> Tensor:
        """Return frames [B, T, 3, H, W], about 0..1, differentiable.

        Raises:
            NotFiniteError: The latents or the frames are not finite.
        """
        frames = self.codec.decode(latents, condition.views)
        require_finite(
            {'latents': latents, 'frames': frames},
            f'A dream of the world model {self.settings.name}{self.adapter_name}',
            'nothing of it is passed on; check the checkpoint and its adapter',
        )
        return frames
