"""The text output of `eva bags check`."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eva_ros.inspection.check import BagCheck
from eva_ros.observations.reasons import grouped

_COLOURS = {'usable': 'green', 'partial': 'yellow', 'unusable': 'red'}
_WIDTH = 140


def print_checks(checks: Sequence[BagCheck]) -> None:
    """Print the topics, episodes and findings of each bag, and a summary."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH, no_color=True)
    for check in checks:
        colour = _COLOURS[check.verdict]
        console.print(f'{escape(check.path)}: [{colour}]{check.verdict}[/]', soft_wrap=True)
        for reason in grouped(check.reasons):
            console.print(f'  - {escape(reason)}', soft_wrap=True)
        for note in grouped(check.notes):
            console.print(f'  note: {escape(note)}', soft_wrap=True)
        if check.topics:
            console.print(_topics(check))
        for line in _episodes(check):
            console.print(escape(line), soft_wrap=True)
    usable = sum(check.verdict == 'usable' for check in checks)
    seconds = sum(check.usable_s for check in checks)
    console.print(
        f'{len(checks)} bags, {usable} of them usable; '
        f'{sum(len(check.episodes) for check in checks)} episodes, {seconds:.1f} usable seconds.'
    )


def _topics(check: BagCheck) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column('  topic', no_wrap=True)
    for name in ('messages', 'Hz', 'declared Hz', 'gaps', 'longest s'):
        table.add_column(name, justify='right', no_wrap=True)
    table.add_column('about', overflow='fold')
    for name, facts in check.topics.items():
        longest = max((seconds for _, seconds in facts['gaps']), default=0.0)
        table.add_row(
            f'  {escape(name)}',
            str(facts['messages']),
            _rate(facts),
            str(facts.get('declared_rate_hz', '')),
            str(len(facts['gaps']) or ''),
            f'{longest:.2f}' if longest else '',
            escape(_about(facts)),
        )
    return table


def _rate(facts: dict) -> str:
    """Return the usual rate; of messages that come in bursts, how many come in a second."""
    if facts['bursts']:
        return f'{facts["mean_rate_hz"]} in bursts'
    return str(facts['rate_hz'] or '')


def _about(facts: dict) -> str:
    if facts.get('resolution'):
        height, width = facts['resolution']
        age = facts.get('age_at_ticks_ms')
        late = f', {age["mean"]} ms old at the ticks ({age["max"]} at most)' if age else ''
        return f'{facts["camera"]}, {height}x{width}{late}'
    if 'joints' in facts and facts['messages']:
        return '; '.join(_arm(name, arm) for name, arm in facts['joints'].items())
    return facts['type']


def _arm(name: str, arm: dict) -> str:
    parts = [f'{name}: {len(arm["found"])} joints']
    if arm['missing']:
        parts.append(f'without {", ".join(arm["missing"])}')
    if arm['motionless']:
        parts.append(f'{len(arm["motionless"])} never move')
    return ', '.join(parts)


def _episodes(check: BagCheck) -> list[str]:
    said = {True: 'success', False: 'failure', None: 'not judged'}
    return [
        f'  episode {number}: {episode["start_s"]:.2f} s + {episode["duration_s"]:.2f} s, '
        f'{episode["frames"]} frames, {said[episode["success"]]}, '
        f'"{_printable(episode["instruction"])}"'
        for number, episode in enumerate(check.episodes)
    ]


def _printable(text: str) -> str:
    """Return text from a bag without terminal control characters."""
    return ''.join(c if c.isprintable() else '?' for c in text)
