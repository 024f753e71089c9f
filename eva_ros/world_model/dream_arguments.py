"""What a world model can be asked to dream; anything else is refused in one sentence."""

from collections.abc import Sequence
import math
from numbers import Integral
from numbers import Real
from typing import Any

from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.training.finite import require_finite

# Rounding leaves values this far outside 0..1.
_ROUNDING = 1e-3


def require_pixels(name: str, what: str, frames: Tensor) -> None:
    """Refuse frames that are not numbers in 0..1.

    Args:
        name: What the sentence begins with, the model.
        what: What the frames are called.
        frames: At least one frame [..., 3, H, W].
    """
    if not frames.is_floating_point():
        kind = str(frames.dtype).removeprefix('torch.')
        raise UserError(
            f'{name} takes {what} as numbers in 0..1, not {kind}: divide 8-bit values by 255.'
        )
    require_finite({what: frames}, name, 'nothing is dreamed of it')
    low, high = (float(value) for value in frames.aminmax())
    if low < -_ROUNDING or high > 1.0 + _ROUNDING:
        raise UserError(
            f'{name} takes {what} in 0..1, and these range from {low:g} to {high:g}: '
            'scale them, 8-bit values by 1/255.'
        )


def require_texts(name: str, instructions: Any) -> None:
    """Refuse instructions that are not a sequence of texts."""
    if isinstance(instructions, str) or not isinstance(instructions, Sequence):
        raise UserError(
            f'{name} takes a list of instructions, one for each frame, not '
            f'{type(instructions).__name__}: give a list of str.'
        )
    for number, text in enumerate(instructions):
        if not isinstance(text, str):
            raise UserError(
                f'{name} takes instructions as text, and instruction {number} is of type '
                f'{type(text).__name__}: give a str.'
            )


def require_steps(name: str, steps: Any) -> None:
    """Refuse a number of denoising steps that is not a whole one above zero."""
    if not isinstance(steps, Integral) or isinstance(steps, bool) or steps < 1:
        raise UserError(
            f'{name} dreams in a whole number of denoising steps, 1 or more, not {steps!r}.'
        )


def require_scale(name: str, what: str, scale: Any) -> None:
    """Refuse a weight of guidance that is not finite, or negative."""
    if not isinstance(scale, Real) or not math.isfinite(scale) or scale < 0:
        raise UserError(
            f'{name} takes a finite {what} of 0 or more, not {scale!r}: give 1 for no guidance.'
        )
