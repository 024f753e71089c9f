"""Which of several adapters succeeds most often: a choice, whose scenes are not to be reported."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eva_ros.errors import UserError
from eva_ros.evaluation.comparison import Comparison
from eva_ros.evaluation.comparison import Outcome
from eva_ros.evaluation.comparison import successes
from eva_ros.evaluation.statistics import Interval
from eva_ros.evaluation.statistics import paired_difference
from eva_ros.evaluation.statistics import wilson_interval
from eva_ros.training.manifest import read_manifest
from eva_ros.world_model.adapters import ADAPTER

# First scene of a selection: far from the default of a measurement.
SEED = 800_000
_UNALIGNED = 'unaligned'


@dataclass(frozen=True)
class Selection:
    """The adapter with the most successes.

    Attributes:
        variant: Its name among the variants.
        lora: Its folder.
        successes: Number of successes in all tasks.
        episodes: Number of attempts.
        interval: 95 % Wilson interval of the success rate.
        gain: Success rate less that of the unaligned model; None if that was not attempted.
        gain_interval: 95 % bootstrap interval of it over paired scenes; None with `gain`.
    """

    variant: str
    lora: Path
    successes: int
    episodes: int
    interval: Interval
    gain: float | None = None
    gain_interval: Interval | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what `eva evaluate --select --json` prints as "selected"."""
        return {**vars(self), 'lora': str(self.lora)}

    def sentence(self) -> str:
        """Return the choice in words."""
        low, high = self.interval
        told = (
            f'Selected: {self.lora}, {self.successes} of {self.episodes} = '
            f'{self.successes / self.episodes:.0%} [{low:.0%}, {high:.0%}]'
        )
        if self.gain is not None and self.gain_interval is not None:
            low, high = (100 * bound for bound in self.gain_interval)
            told += (
                f'; against {_UNALIGNED} {100 * self.gain:+.0f} points [{low:+.0f}, {high:+.0f}]'
            )
            if self.gain <= 0:
                told += ', which no adapter surpasses'
        return (
            f'{told}. The best of several looks better than it is: report its success on other '
            'scenes (--seed).'
        )


def candidates(folders: Sequence[Path]) -> tuple[tuple[str, Path], ...]:
    """Return (variant, folder) of each adapter, the least trained first.

    Raises:
        UserError: A folder holds no adapter, or two have the same name.
    """
    trained = [(read_manifest(f, ADAPTER).training.get('iterations', 0), f) for f in folders]
    named = [(folder.resolve().name, folder) for _, folder in sorted(trained)]
    names = [name for name, _ in named]
    if again := [name for name in names if names.count(name) > 1]:
        raise UserError(f'--select: two folders are called {again[0]}; rename one.')
    return tuple(named)


def select(
    comparison: Comparison, outcomes: Sequence[Outcome], adapters: Sequence[tuple[str, Path]]
) -> Selection:
    """Return the adapter with the most successes; of equals, the first.

    Args:
        comparison: What was attempted.
        outcomes: Outcomes of it.
        adapters: Adapters to choose from, (variant, folder) each.
    """
    won = {name: _won(comparison, outcomes, name) for name, _ in adapters}
    best, lora = max(adapters, key=lambda adapter: sum(won[adapter[0]]))
    total, episodes = sum(won[best]), len(won[best])
    interval = wilson_interval(total, episodes)
    if _UNALIGNED not in comparison.variants:
        return Selection(best, lora, total, episodes, interval)
    before = _won(comparison, outcomes, _UNALIGNED)
    gain, gain_interval = paired_difference(won[best], before, seed=0)
    return Selection(best, lora, total, episodes, interval, gain, gain_interval)


def _won(comparison: Comparison, outcomes: Sequence[Outcome], variant: str) -> list[int]:
    return [int(won) for *_, won in successes(outcomes, variant, comparison.tasks)]
