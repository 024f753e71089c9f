"""As-of lookup: the newest sample that is not after an instant, never a later one."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Generic
from typing import TypeVar

ValueT = TypeVar('ValueT')

# A sample this much older than the newest one is not late, the clock was set back.
CLOCK_JUMP_NS = 1_000_000_000
_KEEP_NS = 2_000_000_000
_MOST = 4096


@dataclass(frozen=True)
class Sample(Generic[ValueT]):
    """A value and the instant it was measured at."""

    stamp_ns: int
    value: ValueT


class AsOfBuffer(Generic[ValueT]):
    """The last two seconds of a stream, and at least its newest sample.

    Samples may come a little late: they are put in order. A stamp more than a second behind the
    newest one means that the clock was set back (a simulation restarted, a bag played again):
    what was kept is forgotten.
    """

    def __init__(self) -> None:
        self._stamps: list[int] = []
        self._samples: list[Sample[ValueT]] = []

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def newest(self) -> Sample[ValueT] | None:
        """Return the sample with the latest stamp."""
        return self._samples[-1] if self._samples else None

    def clear(self) -> None:
        """Forget everything."""
        self._stamps.clear()
        self._samples.clear()

    def add(self, stamp_ns: int, value: ValueT) -> int:
        """Take in a sample.

        Returns:
            How far the clock was set back, in ns: what was kept is forgotten then; usually 0.
        """
        jump_ns = self._stamps[-1] - stamp_ns if self._stamps else 0
        if jump_ns > CLOCK_JUMP_NS:
            self.clear()
        index = bisect_right(self._stamps, stamp_ns)
        self._stamps.insert(index, stamp_ns)
        self._samples.insert(index, Sample(stamp_ns, value))
        self._trim()
        return jump_ns if jump_ns > CLOCK_JUMP_NS else 0

    def at(self, stamp_ns: int) -> Sample[ValueT] | None:
        """Return the newest sample not after an instant."""
        index = bisect_right(self._stamps, stamp_ns)
        return self._samples[index - 1] if index else None

    def span(self, since_ns: int, until_ns: int) -> list[Sample[ValueT]]:
        """Return the samples from the one as of an instant to the one as of a later one."""
        first = max(0, bisect_right(self._stamps, since_ns) - 1)
        return self._samples[first : bisect_right(self._stamps, until_ns)]

    def after(self, stamp_ns: int) -> Sample[ValueT] | None:
        """Return the oldest sample that is later than an instant."""
        index = bisect_right(self._stamps, stamp_ns)
        return self._samples[index] if index < len(self._samples) else None

    def _trim(self) -> None:
        """Keep what the last seconds may be asked for: one sample from before them, too."""
        first = bisect_right(self._stamps, self._stamps[-1] - _KEEP_NS) - 1
        first = max(0, first, len(self._stamps) - _MOST)
        del self._stamps[:first]
        del self._samples[:first]
