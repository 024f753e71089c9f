"""Training that survives a kill: state on disk in one atomic file, and a line of progress."""

from collections.abc import Mapping
import json
import os
from pathlib import Path
import sys
import time
from typing import Any

from safetensors.torch import save_file
import torch
from torch import Tensor

from eva_ros.training.finite import require_finite
from eva_ros.training.weights import read_weights


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts as one safetensors file, whole or not at all.

    Raises:
        NotFiniteError: a value is not finite; what is on disk stays.
    """
    require_finite(tensors, str(path), 'it is left as it was')
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f'{path.name}.part')
    contiguous = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    save_file(contiguous, draft, metadata={'facts': json.dumps(facts)})
    with draft.open('rb') as file:
        os.fsync(file.fileno())
    os.replace(draft, path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the facts that `write_tensors` wrote.

    Raises:
        UserError: the file is damaged, or a value is not finite.
    """
    tensors, metadata = read_weights(path)
    return tensors, json.loads(metadata.get('facts', '{}'))


def pack(**parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join named groups of tensors into one flat map, 'group/name' each."""
    # Clones: safetensors refuses tensors that share their memory.
    return {f'{group}/{name}': t.clone() for group, ts in parts.items() for name, t in ts.items()}


def unpack(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    """Return one group of what `pack` joined."""
    head = f'{group}/'
    return {name[len(head) :]: t for name, t in tensors.items() if name.startswith(head)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's moments and step counts, by parameter and name."""
    state = optimizer.state_dict()['state']
    return {
        f'{index}.{name}': torch.as_tensor(value)
        for index, entry in state.items()
        for name, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition('.')
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), 'state': state})


def spell_seconds(seconds: float) -> str:
    """Return a duration as people say it: '45 s', '12 min', '3 h 05 min'."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 90 else f'{minutes // 60} h {minutes % 60:02d} min'


class Budget:
    """How much training there shall be, in steps or in minutes, and how much is done."""

    def __init__(self, steps: int | None, minutes: float | None, spent_s: float = 0.0) -> None:
        """Begin, or go on after `spent_s` seconds of earlier work."""
        if (steps is None) == (minutes is None):
            raise ValueError('give either steps or minutes')
        self.steps = steps
        self.minutes = minutes
        self._began = time.monotonic() - spent_s

    @property
    def spent_s(self) -> float:
        """Seconds of training so far, those before a kill included."""
        return time.monotonic() - self._began

    def share(self, step: int) -> float:
        """Return how much of the training is done after so many steps, 0 to 1."""
        if self.steps is not None:
            return min(1.0, step / max(1, self.steps))
        return min(1.0, self.spent_s / (60 * (self.minutes or 1e-9)))

    def left_s(self, step: int) -> float:
        """Return the seconds that the rest will take at the rate so far."""
        share = self.share(step)
        return self.spent_s * (1 - share) / max(share, 1e-6)


class Progress:
    """Says on stderr, every few seconds, where a training is."""

    def __init__(self, label: str, budget: Budget, *, every_s: float = 10.0) -> None:
        """Report on a training under this name."""
        self._label = label
        self._budget = budget
        self._every_s = every_s
        self._said: tuple[float, int] | None = None

    def say(self, step: int, figures: Mapping[str, float]) -> None:
        """Print a line if the last one is some seconds ago."""
        now = time.monotonic()
        if self._said is None:
            self._said = (now, step)
            return
        seconds, steps = now - self._said[0], step - self._said[1]
        if seconds < self._every_s or steps <= 0:
            return
        self._said = (now, step)
        rate = steps / seconds
        pace = f'{rate:.1f} steps/s' if rate >= 1 else f'{1 / rate:.1f} s/step'
        text = ' '.join(f'{name} {value:.4g}' for name, value in figures.items())
        left = spell_seconds(self._budget.left_s(step))
        total = f'/{self._budget.steps}' if self._budget.steps is not None else ''
        print(
            f'{self._label}: step {step}{total}  {text}  {pace}, {left} left',
            file=sys.stderr,
            flush=True,
        )
