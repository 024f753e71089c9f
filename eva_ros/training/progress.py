"""How much of a training is done, and how long the rest will take."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
import time

from rich.console import Console
from rich.progress import BarColumn
from rich.progress import Progress as Bar
from rich.progress import TaskProgressColumn
from rich.progress import TextColumn
from rich.progress import TimeRemainingColumn

# Where stderr is a file, a line this often is enough.
_PERIOD_S = 10.0


@dataclass(frozen=True)
class Budget:
    """How much training there shall be.

    Attributes:
        steps: Number of steps; or
        minutes: Wall time, that before a kill included.
    """

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError('give either steps or minutes')

    def share(self, step: int, spent_s: float) -> float:
        """Return how much is done after so many steps and seconds, 0 to 1."""
        if self.steps is not None:
            return min(1.0, step / max(1, self.steps))
        return min(1.0, spent_s / (60 * (self.minutes or 1e-9)))


class Progress:
    """A bar on stderr with figures and time left; a line now and then where it is a file.

    Args:
        label: Name of the training.
        unit: What a step is called.
        quiet: Says nothing, where another process of the same training does.
    """

    def __init__(self, label: str, unit: str, *, quiet: bool = False) -> None:
        self._unit = unit
        console = Console(stderr=True, quiet=quiet)
        self._bar = Bar(
            TextColumn('{task.description}'),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn('{task.fields[text]}'),
            console=console,
            redirect_stdout=False,
            disable=not console.is_terminal,
        )
        self._bar.add_task(label, total=1.0, text='')
        self._said = time.monotonic()

    def __enter__(self) -> 'Progress':
        self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.stop()

    def say(self, step: int, share: float, figures: Mapping[str, float]) -> None:
        """Show where the training is.

        Args:
            step: Number of steps done.
            share: How much of the training is done, 0 to 1.
            figures: What to watch, by name.
        """
        (task,), console = self._bar.tasks, self._bar.console
        shown = ' '.join(f'{name} {value:.4g}' for name, value in figures.items())
        self._bar.update(task.id, completed=share, text=f'{self._unit} {step}  {shown}')
        now = time.monotonic()
        if console.is_terminal or now - self._said < _PERIOD_S:
            return
        self._said = now
        left = f', {timedelta(seconds=round(task.time_remaining or 0))} left' if task.speed else ''
        text = f'{task.description}: {task.fields["text"]}  {share:.0%}{left}'
        console.print(text, markup=False, highlight=False, soft_wrap=True)
