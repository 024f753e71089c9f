"""Live status of the demo, and its summary tables."""

from rich.box import SIMPLE
from rich.console import Console
from rich.console import Group
from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from eva_ros.evaluation.run import Attempted
from eva_ros.evaluation.run import median_and_p95
from eva_ros.evaluation.run import Run
from eva_ros.evaluation.run import shown
from eva_ros.evaluation.run import STAGES
from eva_ros.ros.demo_client import Status


class TaskScreen:
    """Live status of one task; without a terminal, one line per chunk."""

    def __init__(self, console: Console, task: str, instruction: str) -> None:
        """Prepare the status of a task."""
        self._console = console
        self._title = Text.assemble((task, 'bold'), '  "', (instruction, 'italic'), '"')
        self._said = ''
        self._live = Live(self._title, console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> 'TaskScreen':
        """Show the title."""
        if self._console.is_terminal:
            self._live.start()
        else:
            self._console.print(self._title)
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Clear the status."""
        if self._console.is_terminal:
            self._live.stop()

    def update(self, status: Status) -> None:
        """Show the status of the task executor."""
        if self._console.is_terminal:
            self._live.update(Group(self._title, _state(status), _gate(status)))
            return
        line = f'{_gate(status).plain}'
        if line != self._said and status.verdict:
            self._said = line
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _state(status: Status) -> Table:
    done, steps = status.step
    row = Table.grid(padding=(0, 2))
    cells: list[RenderableType] = [f'  {status.elapsed_s:5.1f} s', status.state]
    if status.state == 'dreaming' and steps:
        cells += [ProgressBar(steps, done, width=16), f'step {done} of {steps}']
    row.add_row(*cells)
    return row


def _gate(status: Status) -> Text:
    counts = f'{status.executed} chunks executed, {status.refused} refused'
    verdict = f'; the latest: {status.verdict}' if status.verdict else ''
    return Text(f'  {counts}{verdict}', style='dim')


def summary(console: Console, run: Run) -> None:
    """Print the tables of a finished run."""
    tasks = Table(title='Tasks', title_justify='left', header_style='dim', box=SIMPLE)
    tasks.caption = (
        'still: share of the time the arms stood still. score: executability as decoded, 10 is '
        'best. violations: of limits, as decoded → as sent.'
    )
    tasks.caption_justify = 'left'
    for column in ('task', 'outcome', 'time', 'chunks', 'still', 'score', 'violations'):
        tasks.add_column(column, justify='left' if column in ('task', 'outcome') else 'right')
    for attempt in run.attempts:
        tasks.add_row(*_row(attempt))
    console.print(tasks)
    stages = Table(title='Seconds a stage', title_justify='left', header_style='dim', box=SIMPLE)
    stages.add_column('')
    for stage in STAGES:
        stages.add_column(stage, justify='right')
    figures = [median_and_p95(run.stage_seconds(stage)) for stage in STAGES]
    stages.add_row('median', *(shown(median, '{:.2f}') for median, _ in figures))
    stages.add_row('95 %', *(shown(p95, '{:.2f}') for _, p95 in figures))
    console.print(stages)


def _row(attempt: Attempted) -> tuple[str, ...]:
    before, after = attempt.violations()
    return (
        attempt.task,
        '[green]done[/green]' if attempt.success else '[yellow]not done[/yellow]',
        f'{attempt.elapsed_s:.1f} s',
        f'{attempt.accepted} of {len(attempt.turns)}',
        shown(attempt.standing, '{:.0%}'),
        shown(attempt.score, '{:.2f}'),
        f'{before} → {after}',
    )
