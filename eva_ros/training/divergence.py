"""A training that diverges is stopped before it spoils what is on disk, or warned about."""

from collections import deque
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
import json
import math
import os
from pathlib import Path
import sys

import numpy as np

from eva_ros.errors import NotFiniteError
from eva_ros.errors import UserError

# Beyond so many times its running median a quantity is warned about.
FACTOR = 20.0
WINDOW = 100
STOPPED = 'stopped.json'
_ADVICE = 'train again with a lower --learning-rate and another --out'


class DivergenceGuard:
    """Watches the loss and the gradient norm of one training.

    What is not finite stops the training before the optimizer uses it. What stays finite and lies
    far beyond its running median is warned about, once until it has come back.

    Attributes:
        step: the one that was looked at last.
        saved_step: of the state on disk; None if there is none.

    Args:
        label: the training's name in what is said.
        unit: what a step is called.
        quiet: says nothing, where another process of the same training does.
    """

    def __init__(self, label: str, unit: str = 'step', *, quiet: bool = False) -> None:
        self.step = 0
        self.saved_step: int | None = None
        self._label = label
        self._unit = unit
        self._quiet = quiet
        self._recent: dict[str, deque[float]] = {}
        self._beyond: set[str] = set()

    def require_finite(self, step: int, quantities: Mapping[str, float]) -> None:
        """Stop the training if a quantity of a step is not finite.

        Raises:
            NotFiniteError: names it.
        """
        self.step = step
        for name, value in quantities.items():
            if not math.isfinite(value):
                raise NotFiniteError(f'the {name} is {value}', _ADVICE)

    def check(self, step: int, quantities: Mapping[str, float]) -> None:
        """Stop the training if a quantity is not finite, and warn of one far beyond its median.

        Args:
            step: its number, from 1.
            quantities: losses and norms of this step, before the optimizer uses the gradient.

        Raises:
            NotFiniteError: names the first that is not finite.
        """
        self.require_finite(step, quantities)
        news = [text for name, value in quantities.items() if (text := self._compare(name, value))]
        if news:
            self._say(
                f'warning: at {self._unit} {step} {", ".join(news)}: this training may be '
                'diverging; a lower --learning-rate helps'
            )

    def warn(self, fact: str, advice: str) -> None:
        """Warn of what a step has met, once in a run."""
        if fact not in self._beyond:
            self._beyond.add(fact)
            self._say(f'warning: at {self._unit} {self.step} {fact}: {advice}')

    def _compare(self, name: str, value: float) -> str:
        """Return by how much a quantity went beyond its median at this step; '' if it did not."""
        recent = self._recent.setdefault(name, deque(maxlen=WINDOW))
        usual = _usual(recent)
        if not 0 < FACTOR * usual < value:
            # What is beyond stays out: else a training that has diverged becomes the measure.
            recent.append(value)
            self._beyond.discard(name)
        elif name not in self._beyond:
            self._beyond.add(name)
            return f'the {name} is {value:.3g} ({value / usual:.3g} times its median)'
        return ''

    def say_resumed(self, folder: Path, step: int) -> None:
        """Say where a training goes on, and why it had been stopped if it was.

        Args:
            folder: of its state.
            step: of the state that was loaded, or 0 if there is none.
        """
        sentence = f'resumed at {self._unit} {step}' if step else 'starting from the beginning'
        stop = _read_stop(folder)
        if stop is not None and stop['step'] > step:
            sentence += (
                f'; the run before was stopped at {self._unit} {stop["step"]}: {stop["reason"]}'
            )
        if step or stop is not None:
            self._say(sentence)

    def say_interrupted(self, folder: Path, step: int) -> None:
        """Say that a training was interrupted, with its state on disk."""
        self._say(
            f'interrupted after {self._unit} {step}; the state in {folder} is kept: run the same '
            'command to resume'
        )

    @contextmanager
    def stopping(self, folder: Path) -> Iterator[None]:
        """Turn what is not finite into the end of the training, and keep the reason on disk.

        Args:
            folder: of its state, which stays as it was last saved.

        Raises:
            UserError: step, quantity, what is kept and what to do.
        """
        try:
            yield
        except NotFiniteError as error:
            _write_stop(folder, {'step': self.step, 'reason': error.fact})
            kept = (
                f'the state of {self._unit} {self.saved_step} in {folder} is kept'
                if self.saved_step is not None
                else 'nothing had been saved yet'
            )
            raise UserError(
                f'{self._label}: stopped at {self._unit} {self.step}: {error.fact}; {kept}: '
                f'{_ADVICE}.'
            ) from error
        (folder / STOPPED).unlink(missing_ok=True)

    def _say(self, sentence: str) -> None:
        if not self._quiet:
            print(f'{self._label}: {sentence}', file=sys.stderr, flush=True)


def _usual(values: Sequence[float]) -> float:
    """Return what a quantity is measured by: its median, or its spread where that is larger.

    A log-likelihood crosses zero: its median may be next to nothing, its spread is not.
    """
    if not values:
        return 0.0
    median = np.median(values)
    return float(max(median, np.median(np.abs(np.asarray(values) - median))))


def _write_stop(folder: Path, stop: Mapping[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Every process of a training writes it, and each may be ended by the others' end.
    draft = folder / f'{STOPPED}.{os.getpid()}.part'
    draft.write_text(json.dumps(stop, indent=2) + '\n', encoding='utf-8')
    os.replace(draft, folder / STOPPED)


def _read_stop(folder: Path) -> dict | None:
    try:
        stop = json.loads((folder / STOPPED).read_text(encoding='utf-8'))
        return {'step': int(stop['step']), 'reason': str(stop['reason'])}
    except (OSError, ValueError, KeyError, TypeError):
        return None
