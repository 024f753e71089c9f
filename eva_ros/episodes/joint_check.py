"""What joint states hold and what is wrong with them, message by message."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.episodes.joints import is_sentinel
from eva_ros.episodes.records import JointStateRecord
from eva_ros.episodes.streams import JUMP_NS
from eva_ros.episodes.wraps import wrapped
from eva_ros.robot.spec import Arm

# A joint that stays within this moved no more than noise; rad, or a share of the opening.
_STILL = 2e-3
# A value that was repeated exactly for so long, and then jumped, was frozen.
_FROZEN_NS = 300_000_000
# One that stops at once and repeats its value to the end, while others move for so long, too.
_GONE_NS = 2_000_000_000
_ABRUPT = 0.01
# Measured joints may be off a little: a share of the range, and a share of the speed.
_POSITION_SLACK, _VELOCITY_SLACK = 0.01, 0.2
_WINDOW_NS = 20_000_000


class ArmCheck:
    """Watches the joints of one arm.

    Args:
        arm: its names and units.
        low: least positions [K].
        high: greatest positions [K].
        fastest: greatest velocities [K].
    """

    def __init__(self, arm: Arm, low: NDArray, high: NDArray, fastest: NDArray) -> None:
        count = len(arm.joint_names)
        self._arm = arm
        self._scale, self._zero = arm.state_interface.scale, arm.state_interface.offset
        self._places: dict[tuple[str, ...], NDArray] = {}
        slack = _POSITION_SLACK * np.where(np.isfinite(high - low), high - low, 0.0)
        self._low, self._high = low - slack, high + slack
        self._fastest = fastest * (1 + _VELOCITY_SLACK)
        self._least, self._most = np.full(count, np.inf), np.full(count, -np.inf)
        self._value, self._stamp = np.full(count, np.nan), np.zeros(count, np.int64)
        self._since, self._last_ns = np.zeros(count, np.int64), 0
        self._before, self._before_ns = np.full(count, np.nan), np.zeros(count, np.int64)
        self.messages, self.empty, self.sentinels = 0, 0, 0
        self.bad: Counter[str] = Counter()
        self._outside, self._fast = np.zeros(count, int), np.zeros(count, int)
        self._frozen = np.zeros(count, int)
        self._rest_s = np.zeros(count)
        # Full turns between two states, and when the first one was, from the first state on.
        self._wraps, self._wrapped_ns = np.zeros(count, int), np.zeros(count, np.int64)
        self._first_ns: int | None = None
        # As of each joint's last change: its speed, all joints' values, the longest rest before.
        self._speed, self._around = np.zeros(count), np.full((count, count), np.nan)
        self._rested_ns = np.zeros(count, np.int64)

    def add(self, record: JointStateRecord) -> None:
        """Take in a joint state."""
        self.messages += 1
        if not record.names:
            self.empty += 1
            return
        if len(record.names) != len(record.positions):
            self.bad['names and positions differ in number'] += 1
            return
        held, places = self._held(record.names)
        raw = np.asarray(record.positions, np.float64)[places]
        if is_sentinel(record.positions) or is_sentinel(raw):
            self.sentinels += 1
            return
        if len(held):
            self._take(record.stamp_ns, held, (raw - self._zero[held]) / self._scale[held])

    def _held(self, names: tuple[str, ...]) -> tuple[NDArray, NDArray]:
        """Return which joints a message holds, and where."""
        if len(self._places) > 1000:
            self._places.clear()
        if names not in self._places:
            given = {name: place for place, name in enumerate(names)}
            found = [(i, given[n]) for i, n in enumerate(self._arm.state_joints) if n in given]
            self._places[names] = np.array(found, int).reshape(-1, 2)
        return self._places[names][:, 0], self._places[names][:, 1]

    def _take(self, stamp_ns: int, held: NDArray, values: NDArray) -> None:
        if not np.isfinite(values).all():
            self.bad['a position is not a number'] += 1
            return
        self._least[held] = np.minimum(self._least[held], values)
        self._most[held] = np.maximum(self._most[held], values)
        self._outside[held] += (values < self._low[held]) | (values > self._high[held])
        self._watch(stamp_ns, held, values)

    def _watch(self, stamp_ns: int, held: NDArray, values: NDArray) -> None:
        """Compare with the last values: speed, and how long they have been the same."""
        if abs(stamp_ns - self._last_ns) > JUMP_NS:
            # A clock was set: nothing rested that long.
            self._since[:] = stamp_ns
        self._last_ns = stamp_ns
        self._first_ns = stamp_ns if self._first_ns is None else self._first_ns
        known = ~np.isnan(self._value[held])
        moved = known & (values != self._value[held])
        still_ns = stamp_ns - self._since[held]
        step_s = np.maximum(stamp_ns - self._stamp[held], 1) * 1e-9
        step = np.abs(values - self._value[held])
        with np.errstate(invalid='ignore'):
            far = step > 2 * self._fastest[held] * step_s
            turned = wrapped(step, step_s) & (held < len(self._arm.joints))
        self._wrap(stamp_ns, held[turned], values[turned])
        self._frozen[held] += moved & far & ~turned & (still_ns > _FROZEN_NS)
        longest = np.where(known & ~moved, still_ns * 1e-9, 0)
        self._rest_s[held] = np.maximum(self._rest_s[held], longest)
        self._since[held] = np.where(moved | ~known, stamp_ns, self._since[held])
        self._value[held], self._stamp[held] = values, stamp_ns
        changed = held[moved]
        speed = np.where(turned, 0.0, step / step_s)
        self._speed[changed], self._around[changed] = speed[moved], self._value
        self._rested_ns[changed] = np.maximum(self._rested_ns[changed], still_ns[moved])
        # Speeds over a little time: neighbours in time are too near for a clock's jitter.
        fresh = np.isnan(self._before[held]) | (self._before_ns[held] > stamp_ns)
        due = stamp_ns - self._before_ns[held] >= _WINDOW_NS
        seconds = np.maximum(stamp_ns - self._before_ns[held], 1) * 1e-9
        with np.errstate(invalid='ignore'):
            fast = np.abs(values - self._before[held]) > self._fastest[held] * seconds
        self._fast[held] += due & ~fresh & fast
        renew = held[due | fresh]
        self._before[renew], self._before_ns[renew] = values[due | fresh], stamp_ns

    def _wrap(self, stamp_ns: int, turned: NDArray, values: NDArray) -> None:
        """Count joints that jumped by a full turn: it is no speed."""
        new = turned[self._wraps[turned] == 0]
        self._wrapped_ns[new] = stamp_ns - (self._first_ns or 0)
        self._wraps[turned] += 1
        self._before[turned], self._before_ns[turned] = values, stamp_ns

    def _gone(self) -> NDArray:
        """Return which joints froze for good: they stop in motion while others go on.

        A joint that came to rest slowly, or that repeated a value before, may well rest.
        """
        stopped = (self._most - self._least > _STILL) & (self._speed > _ABRUPT)
        stopped &= self._rested_ns <= _FROZEN_NS
        count = len(self._arm.joints)
        stopped[count:] = False  # a gripper holds what it closed on
        with np.errstate(invalid='ignore'):
            moved = np.abs(self._value - self._around)[:, :count] > _STILL
        longer = self._since[None, :count] - self._since[:, None] >= _GONE_NS
        return stopped & (moved & longer).any(axis=1)

    def _names(self, mask: NDArray) -> list[str]:
        return [name for name, chosen in zip(self._arm.joint_names, mask) if chosen]

    @property
    def missing(self) -> list[str]:
        """Return the joints that no message holds, under their names in joint states."""
        return [n for n, v in zip(self._arm.state_joints, self._value) if np.isnan(v)]

    @property
    def motionless(self) -> list[str]:
        """Return the joints that are there and never move."""
        with np.errstate(invalid='ignore'):
            still = self._most - self._least <= _STILL
        return self._names(still & ~np.isnan(self._value))

    @property
    def found(self) -> list[str]:
        """Return the joints that are there."""
        return self._names(~np.isnan(self._value))

    def faults(self) -> list[str]:
        """Return what is wrong, a phrase each."""
        found = []
        if self.empty:
            found.append(f'{self.empty} of {self.messages} joint states name no joint')
        if self.sentinels:
            found.append(f'all joints are -1 in {self.sentinels} joint states: no measurement')
        found += [f'{what} in {count} joint states' for what, count in self.bad.items()]
        if self.missing:
            found.append(f'no joint state holds {", ".join(self.missing)}')
        for name, count, since_ns in zip(self._arm.joint_names, self._wraps, self._wrapped_ns):
            if count:
                found.append(
                    f'the encoder of {name} wraps ({count} times, first at {since_ns * 1e-9:.2f} '
                    's of its joint states): episodes are cut there'
                )
        if self._frozen.any():
            names = ', '.join(self._names(self._frozen > 0))
            found.append(f'{names} repeat one value and then jump: a frozen encoder')
        gone = self._gone()
        if gone.any():
            since_s = (self._stamp - self._since)[gone].max() * 1e-9
            found.append(
                f'{", ".join(self._names(gone))} repeat one value for the last {since_s:.1f} s '
                'while others move: a frozen encoder'
            )
        return found + self._limits()

    def _limits(self) -> list[str]:
        found = []
        for name, count, low, high, lowest, highest in zip(
            self._arm.joint_names, self._outside, self._low, self._high, self._least, self._most
        ):
            if count:
                worst = lowest if low - lowest > highest - high else highest
                found.append(
                    f'{name} reaches {worst:.3f}, outside its limits of {low:.3f} to {high:.3f} '
                    f'({count} times): is its unit or name mapped wrongly?'
                )
        if self._fast.any():
            names = ', '.join(self._names(self._fast > 0))
            found.append(f'{names} go faster than their limits ({self._fast.sum()} times)')
        return found

    def facts(self) -> dict[str, Any]:
        """Return what was found as JSON holds it."""
        return {
            'found': self.found,
            'missing': self.missing,
            'motionless': self.motionless,
            'longest_exact_rest_s': round(float(self._rest_s.max(initial=0.0)), 3),
            'limits_exceeded': {
                name: int(a + b)
                for name, a, b in zip(self._arm.joint_names, self._outside, self._fast)
                if a + b
            },
        }
