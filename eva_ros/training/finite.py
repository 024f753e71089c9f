"""Values that are not finite stop here, before they are clamped, rounded or written."""

from collections.abc import Mapping

import torch
from torch import Tensor

from eva_ros.errors import NotFiniteError


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Return which tensor holds values that are not finite, and how many; '' if none does.

    Args:
        tensors: by the name that a person knows them by.
    """
    for name, tensor in tensors.items():
        # The sum is quick, and is finite only where all values are; huge ones may overflow it.
        if bool(tensor.detach().sum().isfinite()):
            continue
        finite = torch.isfinite(tensor)
        if not bool(finite.all()):
            count = int((~finite).sum())
            verb = 'is' if count == 1 else 'are'
            return f"{count} of {tensor.numel()} values of '{name}' {verb} not finite"
    return ''


def require_finite(tensors: Mapping[str, Tensor], where: str, advice: str) -> None:
    """Refuse tensors that hold a value that is not finite.

    Args:
        tensors: by the name that a person knows them by.
        where: what they belong to; begins the sentence.
        advice: what to do; ends the sentence.

    Raises:
        NotFiniteError: names the first such tensor.
    """
    bad = not_finite(tensors)
    if bad:
        raise NotFiniteError(f'{where}: {bad}', advice)
