"""What dreams start from, encoded once for all steps and candidates."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Condition:
    """What dreams start from, encoded once.

    Attributes:
        first: What the observed frame contributes to the latents [B, C, F, h, w].
        tokens: The instructions [B, L]: word indices, or token indices of the text encoder.
        views: The observed frames [B, 3, H, W] in 0..1.
        words: Embedded instructions [B, L, D]; [1, L, D] where all have the same. None where the
            embedding is trained with the transformer.
        picture: Embedded views [B, P, D] for models that look at them with an image encoder;
            [1, P, D] where all have the same.
        past: What the observed frames before contribute: [B, K, h, w] for the small model, clean
            latents [B, C, K, h, w] for the others; None for models that were trained without
            history, and for those others from rest.
    """

    first: Tensor
    tokens: Tensor
    views: Tensor
    words: Tensor | None = None
    picture: Tensor | None = None
    past: Tensor | None = None

    def repeat(self, count: int) -> 'Condition':
        """Return the condition of `count` candidates for each dream, side by side."""
        return self._each(lambda part: part.repeat_interleave(count, 0))

    def rows(self, chosen: Tensor) -> 'Condition':
        """Return the condition of some of the dreams, chosen by a mask [B]."""
        return self._each(lambda part: part[chosen])

    def _each(self, change: Callable[[Tensor], Tensor]) -> 'Condition':
        def shared(part: Tensor | None) -> Tensor | None:
            return part if part is None or len(part) == 1 else change(part)

        return Condition(
            first=change(self.first),
            tokens=change(self.tokens),
            views=change(self.views),
            words=shared(self.words),
            picture=shared(self.picture),
            past=None if self.past is None else change(self.past),
        )
