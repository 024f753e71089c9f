"""What a stream of stamped messages is like: rate, gaps, and stamps that cannot be true."""

from array import array
from dataclasses import dataclass
from dataclasses import field
import heapq
from typing import Any

import numpy as np

from eva_ros.observations.reasons import spelled
from eva_ros.observations.stamp_repeats import Repeats
from eva_ros.recordings.records import IMAGES

# Stamps before the year 2000 count from the start of a machine or of a simulation.
_EPOCH_NS = 946_684_800 * 1_000_000_000
# A stamp and the time of reception that are further apart are of two clocks.
_CLOCKS_NS = 2_000_000_000
# An interval this many times the usual one, and at least so long, is a gap.
_GAP = 3.0
_SHORTEST_GAP_S = 0.1
# Messages come in bursts where this share of the intervals is that much longer than usual.
_PAUSES = 0.05
_INTERVALS, _FEWEST = 200_000, 3
_GAPS = 50
# Stamps so far apart, of messages that were received one soon after the other, show that a clock
# was set. Less may be a pause in a bag that was converted: its times of reception are made up.
JUMP_NS, _SOON = 3600 * 1_000_000_000, 100


@dataclass
class _Span:
    """Stamps between two jumps of the clock, and how long the spans before it took."""

    first_ns: int
    last_ns: int
    before_ns: int

    def until_ns(self) -> int:
        return self.before_ns + self.last_ns - self.first_ns


@dataclass
class Stream:
    """Figures of one topic, taken message by message.

    Attributes:
        type: of its messages.
        count: messages heard.
        bytes: of all of them.
        stamped: whether its type has stamps of its own; otherwise those of reception count.
    """

    type: str
    count: int = 0
    bytes: int = 0
    stamped: bool = True
    first_ns: int = 0
    last_ns: int = 0
    first_received_ns: int = 0
    last_received_ns: int = 0
    zero: int = 0
    backward: int = 0
    repeated: int = 0
    _intervals: array = field(default_factory=lambda: array('d'))
    _longest: list[tuple[float, float]] = field(default_factory=list)
    _lags: array = field(default_factory=lambda: array('d'))
    _spans: list[_Span] = field(default_factory=list)
    _jumps: list[tuple[int, int]] = field(default_factory=list)
    _heard_ns: int = 0

    def add(self, stamp_ns: int, received_ns: int, size: int) -> None:
        """Take in a message; a stamp of zero is counted and is none."""
        if not self.count:
            self.first_received_ns = received_ns
        self.count += 1
        self.bytes += size
        self.last_received_ns = received_ns
        if not stamp_ns:
            self.zero += 1
            return
        if not self.first_ns:
            self.first_ns = stamp_ns
            self._spans.append(_Span(stamp_ns, stamp_ns, 0))
        else:
            self._step(stamp_ns, received_ns)
        self.last_ns, self._heard_ns = stamp_ns, received_ns
        if len(self._lags) < _INTERVALS:
            self._lags.append((received_ns - stamp_ns) * 1e-9)

    def _step(self, stamp_ns: int, received_ns: int) -> None:
        """Go on from the last stamp."""
        step_ns, waited_ns = stamp_ns - self.last_ns, max(0, received_ns - self._heard_ns)
        span = self._spans[-1]
        if abs(step_ns) > JUMP_NS + _SOON * waited_ns:
            if len(self._jumps) < _GAPS:
                self._jumps.append((self.count, step_ns))
                self._spans.append(_Span(stamp_ns, stamp_ns, span.until_ns() + waited_ns))
            return
        span.last_ns = max(span.last_ns, stamp_ns)
        self.repeated += step_ns == 0
        if step_ns < 0:
            self.backward += 1
        else:
            self._interval(step_ns * 1e-9, (span.before_ns + self.last_ns - span.first_ns) * 1e-9)

    def _interval(self, seconds: float, since_s: float) -> None:
        if len(self._intervals) < _INTERVALS:
            self._intervals.append(seconds)
        keep = heapq.heappush if len(self._longest) < _GAPS else heapq.heappushpop
        keep(self._longest, (seconds, since_s))

    def since_first_s(self, stamp_ns: int) -> float:
        """Return how long after the first message one was stamped, without jumps of the clock."""
        for span in self._spans:
            if span.first_ns <= stamp_ns <= span.last_ns:
                return (span.before_ns + stamp_ns - span.first_ns) * 1e-9
        return (stamp_ns - self.first_ns) * 1e-9

    @property
    def median_s(self) -> float:
        """Return the usual time between two messages."""
        return float(np.median(self._intervals)) if self._intervals else 0.0

    @property
    def rate_hz(self) -> float:
        """Return the usual rate, from the time between neighbours."""
        return 1.0 / self.median_s if self.median_s > 0 else 0.0

    @property
    def bursts(self) -> bool:
        """Return whether messages come several at once: the usual interval is within a burst."""
        if len(self._intervals) < _FEWEST:
            return False
        pause_s = float(np.quantile(self._intervals, 1 - _PAUSES))
        return pause_s > _GAP * self.median_s and self.mean_hz > 0

    @property
    def mean_hz(self) -> float:
        """Return messages over the whole time."""
        seconds = self._spans[-1].until_ns() * 1e-9 if self._spans else 0.0
        return (self.count - 1) / seconds if seconds > 0 else 0.0

    def gaps(self) -> list[tuple[float, float]]:
        """Return when gaps begin, in s from the first stamp, and how long they are, in order."""
        usual_s = 1 / self.mean_hz if self.bursts else self.median_s
        least = max(_GAP * usual_s, _SHORTEST_GAP_S)
        found = [(since, s) for s, since in self._longest if s > least and usual_s > 0]
        return sorted(found)

    def faults(self, *, simulated: bool) -> list[str]:
        """Return what is wrong with the stamps, a phrase each."""
        if not self.count or not self.stamped:
            return []
        found = []
        if self.zero:
            found.append(f'{self.zero} of {self.count} stamps are zero')
        if self.backward:
            found.append(f'stamps go back {self.backward} times')
        # Joint states of one instant may come in parts.
        if self.repeated and self.type in IMAGES:
            found.append(str(Repeats(self.repeated, self.count)))
        found += self._set_clocks()
        if not simulated and self.zero < self.count:
            found += self._foreign_clock()
        return found

    def _set_clocks(self) -> list[str]:
        """Return where stamps jump; one that is off alone says nothing about the clock."""
        found, jumps = [], list(self._jumps)
        while jumps:
            number, step_ns = jumps.pop(0)
            by = f'{"ahead" if step_ns > 0 else "back"} by {spelled(abs(step_ns) * 1e-9)}'
            if jumps and jumps[0][0] == number + 1 and abs(jumps[0][1] + step_ns) < JUMP_NS:
                jumps.pop(0)
                found.append(f'the stamp of message {number} alone is {by}: it is wrong')
            else:
                found.append(f'stamps jump {by} at message {number}: a clock was set')
        return found

    def _foreign_clock(self) -> list[str]:
        if self.last_ns < _EPOCH_NS:
            if self.last_received_ns < _EPOCH_NS:
                return []
            return ['stamps count from the start of a machine or a simulation, not from 1970']
        lag_s = float(np.median(self._lags))
        if abs(lag_s) * 1e9 > _CLOCKS_NS:
            side = 'behind' if lag_s > 0 else 'ahead of'
            return [f'stamps are {spelled(abs(lag_s), 1)} {side} the recorder: two clocks']
        return []

    def facts(self) -> dict[str, Any]:
        """Return the figures as JSON holds them."""
        gaps = self.gaps()
        return {
            'type': self.type,
            'messages': self.count,
            'rate_hz': round(self.rate_hz, 2),
            'mean_rate_hz': round(self.mean_hz, 2),
            'bursts': self.bursts,
            'gaps': [[round(at, 3), round(seconds, 3)] for at, seconds in gaps],
            'bytes': self.bytes,
        }
