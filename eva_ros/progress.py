"""Progress of a long computation: a bar on a terminal, a line now and then in a file."""

import time
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn
from rich.progress import MofNCompleteColumn
from rich.progress import Progress
from rich.progress import TextColumn
from rich.progress import TimeRemainingColumn

_LINE_PERIOD_S = 30.0


class Counter:
    """Counts up to a total and shows it; use it in a `with` block."""

    def __init__(self, what: str, total: int, stream: TextIO | None) -> None:
        """Prepare the count.

        Args:
            what: Name of the things counted, in the plural.
            total: Number of them.
            stream: Stream to write to; None to stay silent.
        """
        console = Console(file=stream, quiet=stream is None)
        self._bar = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            redirect_stdout=False,
            disable=not console.is_terminal,
        )
        self._bar.add_task(what, total=total)
        self._said = time.monotonic()

    def advance(self) -> None:
        """Count one more."""
        (task,), console = self._bar.tasks, self._bar.console
        self._bar.advance(task.id)
        now = time.monotonic()
        if console.is_terminal or (now - self._said < _LINE_PERIOD_S and not task.finished):
            return
        self._said = now
        left = f', {task.time_remaining:.0f} s left' if task.time_remaining else ''
        console.print(
            f'{task.completed:.0f}/{task.total:.0f} {task.description}{left}', soft_wrap=True
        )

    def __enter__(self) -> 'Counter':
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Leave the bar as it is."""
        self._bar.stop()
