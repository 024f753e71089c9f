"""Wan 2.1 and 2.2 image-to-video models, by diffusers' own classes and its own forward pass.

The same latents as `WanImageToVideoPipeline` on the same folder (equal in a test), for many
candidates at once: views and instructions are encoded once, what depends on the time alone is
computed once for the batch, and the padding of the text is attended to once (`TextAttention`).
"""

from collections.abc import Mapping
from dataclasses import replace

from diffusers import AutoencoderKLWan
from diffusers import WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from diffusers.utils.torch_utils import randn_tensor
import torch
from torch import nn
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from eva_ros.errors import UserError
from eva_ros.training.finite import require_finite
from eva_ros.world_model.condition import Condition
from eva_ros.world_model.folder import WAN_22_TI2V
from eva_ros.world_model.instructions import require_tokens
from eva_ros.world_model.pipeline import WorldModel
from eva_ros.world_model.rollout import to_uint8
from eva_ros.world_model.rollout import WorldSettings
from eva_ros.world_model.sampler import make_sampler
from eva_ros.world_model.sampler import Sampler
from eva_ros.world_model.sampler import Scheduler
from eva_ros.world_model.text_attention import attend_to_text_once
from eva_ros.world_model.text_attention import MAX_TOKENS
from eva_ros.world_model.text_attention import shorten
from eva_ros.world_model.text_attention import token_weights

TRAIN_TIMESTEPS = 1000.0


class WanWorldModel(WorldModel):
    """Predicts the velocity of the latents of all frames [B, C, F, h, w], the observed one's too.

    Args:
        settings: World that the checkpoint dreams of.
        family: One of the Wan families in `folder.py`.
        parts: 'vae', 'text_encoder', 'transformer', and where the family has them
            'transformer_2' and 'image_encoder'.
        tokenizer: Of the text encoder.
        scheduler: Noise schedule.
        image_processor: Of the image encoder, if there is one.
        boundary: Noise level below which `transformer_2` takes over; None without one.
    """

    def __init__(
        self,
        settings: WorldSettings,
        family: str,
        parts: Mapping[str, nn.Module],
        tokenizer: PreTrainedTokenizerBase,
        scheduler: Scheduler,
        *,
        image_processor=None,
        boundary: float | None = None,
    ) -> None:
        super().__init__(settings, parts['transformer'], scheduler)  # type: ignore[arg-type]
        self.family = family
        self.vae: AutoencoderKLWan = parts['vae']
        self.text_encoder = parts['text_encoder']
        self.transformer_2: WanTransformer3DModel | None = parts.get('transformer_2')
        self.image_encoder = parts.get('image_encoder')
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.boundary = boundary
        self.execution_device: torch.device | None = None
        self._attention = {t: attend_to_text_once(t) for t in self.transformers}
        config = self.vae.config
        shape = (1, config.z_dim, 1, 1, 1)
        mean, std = torch.tensor(config.latents_mean), torch.tensor(config.latents_std)
        self.register_buffer('latents_mean', mean.view(shape), persistent=False)
        self.register_buffer('latents_scale', 1.0 / std.view(shape), persistent=False)

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Return channels, frames, rows and columns of what is dreamed."""
        config, settings = self.vae.config, self.settings
        frames = (settings.frames - 1) // config.scale_factor_temporal + 1
        size = config.scale_factor_spatial
        return (config.z_dim, frames, settings.height // size, settings.width // size)

    @property
    def device(self) -> torch.device:
        """Return where the work is done: with offloading, not where the weights rest."""
        return self.execution_device or self.latents_mean.device

    @property
    def transformers(self) -> list[WanTransformer3DModel]:
        """Return the denoisers, for high noise levels first."""
        both = (self.transformer, self.transformer_2)
        return [transformer for transformer in both if transformer is not None]

    def check_instruction(self, instruction: str) -> None:
        """Raise a UserError when an instruction is empty, too long or cannot be encoded."""
        require_tokens(self.tokenizer, instruction, MAX_TOKENS, self.settings.name)

    @torch.no_grad()
    def condition(
        self,
        views: Tensor,
        instructions: list[str],
        latent_frames: int | None = None,
        history: Tensor | None = None,
    ) -> Condition:
        """Encode views [B, 3, H, W] in 0..1 and instructions; equal ones once."""
        views = views.to(self.device)
        observed = views[:, None]
        if history is not None:
            observed = torch.cat((history.to(self.device), observed), 1)
        first, past = self._encode_observed(observed, latent_frames or self.latent_shape[1])
        tokens, words = self._embed(instructions)
        return Condition(first, tokens, views, words, self._look(_once(views)), past)

    def without_instruction(self, condition: Condition) -> Condition:
        """Return the condition of the same views with an empty instruction."""
        tokens, words = self._embed([''] * len(condition.tokens))
        return replace(condition, tokens=tokens, words=words)

    @torch.no_grad()
    def without_history(self, condition: Condition) -> Condition:
        """Return the condition of the same views and instructions, as from rest."""
        if condition.past is None:
            return condition
        frames = condition.first.shape[2] - _length(condition.past)
        first, past = self._encode_observed(condition.views[:, None], frames)
        return replace(condition, first=first, past=past)

    def take_history(self, frames: int) -> None:
        """Dream of moving arms from this many frames before the first, in whole latents."""
        step = self.vae.config.scale_factor_temporal
        require_history(f'The world model {self.settings.name}', frames, step)
        self.settings = replace(self.settings, history=frames)

    @torch.no_grad()
    def _embed(self, instructions: list[str]) -> tuple[Tensor, Tensor]:
        """Return token indices [B, L] and embeddings [B or 1, L + 1, D], zero after the text."""
        encoded = self.tokenizer(
            [prompt_clean(text) for text in instructions],
            padding='max_length',
            max_length=MAX_TOKENS,
            truncation=True,
            return_attention_mask=True,
            return_tensors='pt',
        )
        size = max(1, int(encoded.attention_mask.sum(1).max()))
        tokens, mask = (
            encoded[key][:, :size].to(self.device) for key in ('input_ids', 'attention_mask')
        )
        same = bool((tokens == tokens[:1]).all())
        ids, seen = (tokens[:1], mask[:1]) if same else (tokens, mask)
        hidden = self.text_encoder(ids, seen).last_hidden_state
        words = shorten(hidden * seen.unsqueeze(-1).to(hidden.dtype), seen.sum(1))
        return tokens, words.to(self.transformer.dtype)

    def _look(self, views: Tensor) -> Tensor | None:
        """Return the image encoder's last layer but one for views [B, 3, H, W]."""
        if self.image_encoder is None:
            return None
        pictures = list(to_uint8(views))
        pixels = self.image_processor(images=pictures, return_tensors='pt').pixel_values
        encoder = self.image_encoder
        seen = encoder(pixels.to(self.device, encoder.dtype), output_hidden_states=True)
        return seen.hidden_states[-2].to(self.transformer.dtype)

    def _encode_observed(self, observed: Tensor, frames: int) -> tuple[Tensor, Tensor | None]:
        """Return `first` and `past` of the condition of observed frames [B, K + 1, 3, H, W].

        The first is the last known latent [B, C, 1, h, w] for models that keep it; for the others
        a mask of the known frames beside the latents of these frames followed by grey
        [B, 4 + C, K / 4 + F, h, w].
        """
        shown, step = _once(observed), self.vae.config.scale_factor_temporal
        video, before = 2.0 * shown.transpose(1, 2) - 1.0, (observed.shape[1] - 1) // step
        if self.family == WAN_22_TI2V:
            latents = self._encode(video)
            first = latents[:, :, before:]
        else:
            grey = video.new_zeros(*video.shape[:2], (frames - 1) * step, *video.shape[3:])
            latents = self._encode(torch.cat((video, grey), 2))
            mask = latents.new_zeros(len(latents), step, *latents.shape[2:])
            mask[:, :, : before + 1] = 1.0
            first = torch.cat((mask, latents), 1)
        parts = [part.expand(len(observed), *part.shape[1:]) for part in (first, latents)]
        return parts[0], parts[1][:, :, :before] if before else None

    def _encode(self, video: Tensor) -> Tensor:
        """Return the normalised latents of videos [B, 3, T, H, W] in -1..1."""
        latents = self.vae.encode(video.to(self.vae.dtype)).latent_dist.mode().float()
        return (latents - self.latents_mean) * self.latents_scale

    @torch.no_grad()
    def encode(self, frames: Tensor, history: Tensor | None = None) -> Tensor:
        """Return the latents [B, C, F, h, w] of clips [B, T, 3, H, W] in 0..1.

        With frames before them, a latent says what changed since those.
        """
        before = 0
        if history is not None:
            before = history.shape[1] // self.vae.config.scale_factor_temporal
            frames = torch.cat((history.to(frames), frames), 1)
        video = 2.0 * frames.to(self.device).transpose(1, 2) - 1.0
        return torch.cat([self._encode(clip)[:, :, before:] for clip in video.split(1)])

    def sampler(self, name: str, steps: int) -> Sampler:
        """Return a sampler with the spacing that the pipeline of diffusers has."""
        return make_sampler(self.scheduler, name, steps)

    def velocity(
        self,
        x: Tensor,
        sigma: float | Tensor,
        condition: Condition,
        *,
        time: float | None = None,
    ) -> Tensor:
        """Predict the velocity; the known latents of a model that keeps them are held fixed."""
        times = torch.as_tensor(TRAIN_TIMESTEPS * sigma if time is None else time)
        times = times.to(x.device, torch.float32).reshape(-1)
        inputs = self.hold_context(x, condition)
        if condition.past is not None:
            inputs = torch.cat((self._past(condition.past, sigma), inputs), 2)
        if self.family != WAN_22_TI2V:
            inputs = torch.cat((inputs, condition.first), 1)
        if self.transformer_2 is None or self.boundary is None:
            return self._predict(self.transformer, inputs, times, condition)
        late = times < TRAIN_TIMESTEPS * self.boundary
        if bool(late.all()) or not bool(late.any()):
            chosen = self.transformer_2 if bool(late.any()) else self.transformer
            return self._predict(chosen, inputs, times, condition)
        result = torch.empty_like(x)
        for rows, model in ((~late, self.transformer), (late, self.transformer_2)):
            part = condition.rows(rows)
            result[rows] = self._predict(model, inputs[rows], times[rows], part).to(x.dtype)
        return result

    def _past(self, past: Tensor, sigma: float | Tensor) -> Tensor:
        """Return the latents before a dream, as the transformer takes them at a noise level.

        Clean where each token has its own level. Where all have the same, they are as noisy as
        the rest, always with the same noise: their clean form is in the other channels.
        """
        if self.family == WAN_22_TI2V:
            return past
        level = torch.as_tensor(sigma, dtype=past.dtype, device=past.device).view(-1, 1, 1, 1, 1)
        noise = randn_tensor(past.shape[1:], torch.Generator().manual_seed(0), past.device)
        return (1 - level) * past + level * noise

    def _predict(
        self, model: WanTransformer3DModel, inputs: Tensor, times: Tensor, condition: Condition
    ) -> Tensor:
        """Run a transformer; times [1] or [B], and with one for each token where it needs that."""
        count, before = len(inputs), _length(condition.past)
        if self.family == WAN_22_TI2V:
            # One row serves the whole batch: it broadcasts in every block.
            _, rows, columns = model.config.patch_size
            grid = (inputs.shape[3] // rows) * (inputs.shape[4] // columns)
            levels = times[:, None].repeat(1, inputs.shape[2])
            levels[:, : before + 1] = 0.0
            times = levels.repeat_interleave(grid, 1)
        words, picture = condition.words, condition.picture
        if words is not None and picture is not None and len(picture) != len(words):
            words, picture = (part.expand(count, -1, -1) for part in (words, picture))
        self._attention[model].weights = token_weights(words)
        return model(
            hidden_states=inputs.to(model.dtype),
            timestep=times,
            encoder_hidden_states=words,
            encoder_hidden_states_image=picture,
            return_dict=False,
        )[0][:, :, before:]

    def hold_context(self, latents: Tensor, condition: Condition) -> Tensor:
        """Return latents whose first is the last known one, where the model keeps that one."""
        if self.family != WAN_22_TI2V:
            return latents
        return torch.cat((condition.first, latents[:, :, 1:]), 2)

    def denoising_loss(
        self, target: Tensor, sigma: Tensor, noise: Tensor, condition: Condition
    ) -> Tensor:
        """Return the mean squared error of the predicted velocity of what is not known."""
        level = sigma.view(-1, 1, 1, 1, 1)
        noisy = (1 - level) * target + level * noise
        error = self.velocity(noisy, sigma, condition).float() - (noise - target)
        if self.family == WAN_22_TI2V:
            error = error[:, :, 1:]
        return error.square().mean()

    def decode(self, latents: Tensor, condition: Condition) -> Tensor:
        """Return frames [B, T, 3, H, W] in 0..1; the first is the observed one itself.

        Raises:
            NotFiniteError: The latents or the frames are not finite.
        """
        name = f'A dream of the world model {self.settings.name}{self.adapter_name}'
        advice = 'nothing of it is passed on; check the checkpoint and its adapter'
        # Before the decoder: it clamps, which would make numbers of what is not finite.
        require_finite({'latents': latents}, name, advice)
        whole = latents if condition.past is None else torch.cat((condition.past, latents), 2)
        plain = (whole / self.latents_scale + self.latents_mean).to(self.vae.dtype)
        video = torch.cat([self.vae.decode(z, return_dict=False)[0] for z in plain.split(1)])
        before = _length(condition.past) * self.vae.config.scale_factor_temporal
        frames = (0.5 * video.float() + 0.5).transpose(1, 2)[:, before:]
        require_finite({'frames': frames}, name, advice)
        return torch.cat((condition.views[:, None], frames[:, 1:]), 1)

    def _check_noise(self, views: Tensor, noise: Tensor) -> None:
        config, name = self.vae.config, f'The world model {self.settings.name}'
        height, width = views.shape[2:]
        require_size(name, config, self.transformer.config, height, width)
        size = config.scale_factor_spatial
        wanted = (config.z_dim, height // size, width // size)
        found = tuple(noise.shape[1:2] + noise.shape[3:])
        if noise.ndim != 5 or found != wanted:
            raise UserError(
                f'{name} takes noise [B, {wanted[0]}, frames, {wanted[1]}, {wanted[2]}] for '
                f'frames of {height}x{width}, not {list(noise.shape)}.'
            )


def _once(rows: Tensor) -> Tensor:
    """Return the first of rows [B, ...] that are all the same, else all of them."""
    return rows[:1] if len(rows) > 1 and bool((rows == rows[:1]).all()) else rows


def _length(past: Tensor | None) -> int:
    return 0 if past is None else past.shape[2]


def require_size(name: str, vae, transformer, height: int, width: int) -> None:
    """Refuse frames that cannot be cut into the tokens of a transformer.

    Args:
        name: What the sentence begins with.
        vae: Configuration of the VAE.
        transformer: Configuration of the transformer.
        height: Height of the frames, pixels.
        width: Width of the frames, pixels.
    """
    size = vae['scale_factor_spatial']
    _, rows, columns = transformer['patch_size']
    for what, pixels, unit in (('height', height, size * rows), ('width', width, size * columns)):
        if pixels % unit or not pixels:
            near = max(unit, round(pixels / unit) * unit)
            raise UserError(
                f'{name} needs a {what} that is a multiple of {unit}, not {pixels}: use a view '
                f'with a {what} of {near}.'
            )


def require_frames(name: str, frames: int, step: int = 4) -> None:
    """Refuse a number of frames that is not the first one and groups of `step`."""
    if frames % step != 1 or frames < 1 + step:
        near = max(1, round((frames - 1) / step)) * step + 1
        raise UserError(
            f'{name} dreams 1 frame more than a multiple of {step}, not {frames}: use a view '
            f'with {near} frames.'
        )


def require_history(name: str, frames: int, step: int = 4) -> None:
    """Refuse a number of frames before the first that is not in groups of `step`."""
    if not isinstance(frames, int) or frames < 0 or frames % step:
        raise UserError(
            f'{name} takes a history in multiples of {step} frames, not {frames}: each latent is '
            f'of {step} frames.'
        )
