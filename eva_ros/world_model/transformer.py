"""The denoiser: diffusers' WanTransformer3DModel, small, with one noise level a latent frame."""

from diffusers import WanTransformer3DModel
import torch
from torch import nn
from torch import Tensor
import torch.nn.functional as F

TRAIN_TIMESTEPS = 1000.0
HEAD_WIDTH = 64
_FREQUENCIES = (0.5, 1.0, 2.0, 4.0)
POSITION_CHANNELS = 3 * 2 * len(_FREQUENCIES)


def small_wan(
    channels: int, text_width: int, *, width: int = 256, layers: int = 8, groups_before: int = 0
) -> WanTransformer3DModel:
    """Create the embedded configuration: 9.2 million weights at the default sizes.

    Args:
        channels: of a latent.
        text_width: features of a token of the instruction.
        width: features of a token.
        layers: blocks.
        groups_before: latents of observed frames before the first that it looks at.
    """
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=width // HEAD_WIDTH,
        attention_head_dim=HEAD_WIDTH,
        in_channels=(2 + groups_before) * channels + POSITION_CHANNELS,
        out_channels=channels,
        text_dim=text_width,
        freq_dim=128,
        ffn_dim=4 * width,
        num_layers=layers,
        rope_max_seq_len=64,
    )


def with_history(transformer: WanTransformer3DModel, groups: int) -> WanTransformer3DModel:
    """Return a copy that looks at the latents of observed frames before, with new zero weights.

    It dreams what the transformer does until it is trained.

    Args:
        transformer: made by `small_wan`, without history.
        groups: latents of frames before.
    """
    new = groups * transformer.config.out_channels
    config = dict(transformer.config) | {'in_channels': transformer.config.in_channels + new}
    wider = WanTransformer3DModel.from_config(config)
    weights = transformer.state_dict()
    name = 'patch_embedding.weight'
    weights[name] = F.pad(weights[name], (0, 0, 0, 0, 0, 0, 0, new))
    wider.load_state_dict(weights)
    return wider


def history_weights(transformer: WanTransformer3DModel, groups: int) -> nn.Parameter:
    """Return the weights that read the frames before, to be trained alone.

    They are columns of a larger weight: the gradient of its other columns is zeroed from now on,
    so an optimizer without weight decay leaves those as they are.

    Args:
        transformer: made by `with_history`.
        groups: latents of frames before.
    """
    weight = transformer.patch_embedding.weight.requires_grad_()
    columns = torch.zeros_like(weight[:1])
    columns[:, -groups * transformer.config.out_channels :] = 1
    weight.register_hook(lambda gradient: gradient * columns.to(gradient))
    return weight


def with_context(latents: Tensor, past: Tensor | None = None) -> Tensor:
    """Return the transformer's input: latents, what was observed, and where each cell is.

    The first frame is repeated beside every frame, as Wan's image-to-video models do, and so are
    the changes up to it where the transformer looks at them: at rest they are zero. Positions
    are sines and cosines over frames, rows and columns: rotary embeddings tell attention how far
    away something is, but a token could not say *where* it is, which is what an arm that has to
    go to a place needs to know.

    Args:
        latents: [B, C, F, h, w], frame 0 clean.
        past: latents of the frames before [B, C G, h, w], clean; None without history.

    Returns:
        [B, (2 + G) C + POSITION_CHANNELS, F, h, w].
    """
    batch, _, frames, height, width = latents.shape
    axes = torch.meshgrid(
        *(torch.linspace(0, 1, n, device=latents.device) for n in (frames, height, width)),
        indexing='ij',
    )
    phases = torch.stack([torch.pi * f * axis for axis in axes for f in _FREQUENCIES])
    position = torch.cat((phases.sin(), phases.cos())).to(latents.dtype)
    first = latents[:, :, :1].expand_as(latents)
    parts = [latents, first, position.expand(batch, -1, -1, -1, -1)]
    if past is not None:
        parts.append(past.to(latents.dtype).unsqueeze(2).expand(-1, -1, frames, -1, -1))
    return torch.cat(parts, 1)


def wan_forward(
    model: WanTransformer3DModel, latents: Tensor, sigmas: Tensor, text: Tensor
) -> Tensor:
    """Run the transformer with one noise level for each latent frame.

    The same arithmetic as `WanTransformer3DModel.forward` with a timestep for every token
    (equal in a test), without repeating the modulation for each token of a frame: 1.6 times
    faster in training on a CPU.

    Args:
        model: the transformer; its linear layers may carry LoRA adapters.
        latents: [B, C, F, h, w].
        sigmas: noise level of each frame [B, F] in 0..1.
        text: word embeddings [B, L, text_dim].

    Returns:
        The output [B, C, F, h, w].
    """
    batch, _, frames, height, width = latents.shape
    rotation = _rotation(model, latents)
    hidden = model.patch_embedding(latents).flatten(3).permute(0, 2, 3, 1).contiguous()
    steps = (sigmas * TRAIN_TIMESTEPS).flatten()
    time, projected, words, _ = model.condition_embedder(
        steps, text, None, timestep_seq_len=frames
    )
    projected = projected.unflatten(2, (6, -1)).float()
    for block in model.blocks:
        hidden = _block(block, hidden, projected, words, rotation)
    table = model.scale_shift_table.unsqueeze(0) + time.unsqueeze(2)
    shift, scale = table.to(hidden.dtype).unsqueeze(3).unbind(2)
    normed = F.layer_norm(hidden, hidden.shape[-1:], eps=model.norm_out.eps)
    hidden = model.proj_out(torch.addcmul(shift, normed, 1 + scale))
    _, rows, columns = model.config.patch_size
    grid = (batch, frames, height // rows, width // columns, 1, rows, columns, -1)
    hidden = hidden.reshape(grid).permute(0, 7, 1, 4, 2, 5, 3, 6)
    return hidden.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _block(
    block: nn.Module, hidden: Tensor, projected: Tensor, words: Tensor, rotation: Tensor
) -> Tensor:
    """Run one block on hidden [B, F, P, D] with modulation [B, F, 6, D]."""
    size = hidden.shape[-1:]
    table = (block.scale_shift_table.unsqueeze(0) + projected).unsqueeze(3).to(hidden.dtype)
    shift, scale, gate, c_shift, c_scale, c_gate = table.unbind(2)
    normed = F.layer_norm(hidden, size, eps=block.norm1.eps)
    normed = torch.addcmul(shift, normed, 1 + scale).flatten(1, 2)
    mixed = _attend(block.attn1, normed, normed, rotation)
    hidden = torch.addcmul(hidden, mixed.view_as(hidden), gate)
    norm = block.norm2
    weight, bias = norm.weight.to(hidden.dtype), norm.bias.to(hidden.dtype)
    normed = F.layer_norm(hidden, size, weight, bias, norm.eps).flatten(1, 2)
    hidden = hidden + _attend(block.attn2, normed, words, None).view_as(hidden)
    normed = F.layer_norm(hidden, size, eps=block.norm3.eps)
    return torch.addcmul(hidden, block.ffn(torch.addcmul(c_shift, normed, 1 + c_scale)), c_gate)


def _attend(
    attention: nn.Module, hidden: Tensor, context: Tensor, rotation: Tensor | None
) -> Tensor:
    query = _rms(attention.norm_q, attention.to_q(hidden))
    key = _rms(attention.norm_k, attention.to_k(context))
    value = attention.to_v(context)
    query, key, value = (x.unflatten(2, (attention.heads, -1)) for x in (query, key, value))
    if rotation is not None:
        query, key = _rotate(query, rotation), _rotate(key, rotation)
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    if query.is_cuda:
        mixed = F.scaled_dot_product_attention(query, key, value)
    else:
        # plain products: faster than the fused CPU kernel at 360 tokens, above all backwards
        weights = torch.softmax(query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5, -1)
        mixed = weights @ value
    return attention.to_out[0](mixed.transpose(1, 2).flatten(2, 3))


def _rms(norm: nn.Module, x: Tensor) -> Tensor:
    return F.rms_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.eps)


def _rotation(model: WanTransformer3DModel, latents: Tensor) -> Tensor:
    """Return the rotary embedding [1, tokens, 1, head / 2], complex; on a GPU cosines and sines.

    Complex numbers are faster on a CPU; torch.compile does not know them.
    """
    cos, sin = (part.float() for part in model.rope(latents))
    cos, sin = cos[..., 0::2], sin[..., 1::2]
    return torch.stack((cos, sin)) if latents.is_cuda else torch.complex(cos, sin)


def _rotate(x: Tensor, rotation: Tensor) -> Tensor:
    pairs = x.float().unflatten(-1, (-1, 2))
    if rotation.is_complex():
        turned = torch.view_as_real(torch.view_as_complex(pairs) * rotation)
    else:
        (cos, sin), (even, odd) = rotation, pairs.unbind(-1)
        turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1)
    return turned.flatten(-2).to(x.dtype)
