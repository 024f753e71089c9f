"""Progress of a long computation: a bar on a terminal, a line now and then in a file."""

from datetime import timedelta
import time
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn
from rich.progress import Progress as Bar
from rich.progress import TaskProgressColumn
from rich.progress import TextColumn
from rich.progress import TimeRemainingColumn

_LINE_PERIOD_S = 10.0


class Progress:
    """Shows how much of something is done; use it in a `with` block."""

    def __init__(self, what: str, total: float, stream: TextIO | None) -> None:
        """Prepare the bar.

        Args:
            what: Name of the computation, or of the things counted, in the plural.
            total: Number of things, or 1 for a share.
            stream: Stream to write to; None to stay silent.
        """
        console = Console(file=stream, quiet=stream is None)
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
        self._bar.add_task(what, total=total, text='')
        self._said = time.monotonic()

    def advance(self) -> None:
        """Count one more."""
        (task,) = self._bar.tasks
        done = task.completed + 1
        self.show(done, f'{done:.0f}/{task.total:.0f}')

    def show(self, done: float, text: str) -> None:
        """Show how much of the total is done, and a text beside it."""
        (task,), console = self._bar.tasks, self._bar.console
        self._bar.update(task.id, completed=done, text=text)
        now = time.monotonic()
        if console.is_terminal or (now - self._said < _LINE_PERIOD_S and not task.finished):
            return
        self._said = now
        left = (
            f', {timedelta(seconds=round(task.time_remaining))} left'
            if task.time_remaining
            else ''
        )
        line = f'{task.description}: {text}  {task.percentage:.0f}%{left}'
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> 'Progress':
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Leave the bar as it is."""
        self._bar.stop()
