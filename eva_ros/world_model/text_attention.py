"""Wan's attention to the instruction, with the padding of the text kept once.

Wan pads every instruction to 512 tokens of zeros and attends to all of them. They all have the
same key and value, so that one of them with the weight of all, log(count) added to its score,
gives the same result for a fraction of the work: the instruction of a robot has ten tokens.
"""

from diffusers import WanTransformer3DModel
import torch
from torch import Tensor
import torch.nn.functional as F

# Tokens that an instruction is padded to; built into Wan's cross-attention.
MAX_TOKENS = 512


class TextAttention:
    """An attention processor of diffusers for all cross-attention layers of one transformer.

    Attributes:
        weights: Logarithm of how many tokens each token stands for [B or 1, L]; set it before the
            transformer runs.
    """

    def __init__(self) -> None:
        self.weights = torch.zeros(1, MAX_TOKENS)

    def __call__(
        self,
        attn,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Attend from latents [B, N, D] to tokens of the picture and the words [B or 1, L, D]."""
        size = self.weights.shape[1]
        picture, words = encoder_hidden_states[:, :-size], encoder_hidden_states[:, -size:]
        query = _heads(attn, attn.norm_q(attn.to_q(hidden_states)))
        key, value = attn.norm_k(attn.to_k(words)), attn.to_v(words)
        weights = self.weights.to(query)[:, None, None]
        mixed = _attend(query, _heads(attn, key), _heads(attn, value), weights)
        if attn.add_k_proj is not None:
            key, value = attn.norm_added_k(attn.add_k_proj(picture)), attn.add_v_proj(picture)
            mixed = mixed + _attend(query, _heads(attn, key), _heads(attn, value), None)
        return attn.to_out[1](attn.to_out[0](mixed.transpose(1, 2).flatten(2, 3)))


def attend_to_text_once(transformer: WanTransformer3DModel) -> TextAttention:
    """Give a transformer the processor, and return it."""
    processor = TextAttention()
    for block in transformer.blocks:
        block.attn2.set_processor(processor)
    return processor


def shorten(words: Tensor, lengths: Tensor) -> Tensor:
    """Return embeddings [B, L, D] with one token of zeros after the longest text."""
    size = min(MAX_TOKENS, int(lengths.max()) + 1)
    return F.pad(words, (0, 0, 0, max(0, size - words.shape[1])))[:, :size]


def token_weights(words: Tensor) -> Tensor:
    """Return the logarithm of how many of 512 tokens each token [B, L, D] stands for [B, L]."""
    padding = (words == 0).all(-1)
    count = padding.sum(1, keepdim=True)
    stands_for = (MAX_TOKENS - words.shape[1] + count) / count.clamp(min=1)
    return torch.where(padding, stands_for.log(), 0.0)


def _heads(attn, x: Tensor) -> Tensor:
    return x.unflatten(2, (attn.heads, -1)).transpose(1, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor, weights: Tensor | None) -> Tensor:
    key, value = (x.expand(len(query), -1, -1, -1) for x in (key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=weights)
