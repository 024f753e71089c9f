"""What joint states hold and what is wrong with them, message by message."""

from array import array
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.observations.reasons import figure
from eva_ros.observations.reasons import listed
from eva_ros.observations.wraps import wrapped
from eva_ros.recordings.arm_states import ArmStates
from eva_ros.recordings.records import JointStateRecord
from eva_ros.recordings.streams import JUMP_NS
from eva_ros.robot.spec import Arm

# A joint that stays within this moved no more than noise; rad, or a share of the opening.
_STILL = 2e-3
# A value that was repeated exactly for so long, and then jumped, was frozen.
_FROZEN_NS = 300_000_000
# One that stops at once and repeats its value to the end, while others move for so long, too.
_GONE_NS = 2_000_000_000
_ABRUPT = 0.01
# What an encoder counts in is no more than this, rad; a gripper may be a switch.
_COARSEST = 0.02
# A joint that stops by itself slows down: its last changes against those before them.
_CHANGES, _SLOWS = 4, 0.8
# Measured joints may be off a little: a share of the range, and a share of the speed.
_POSITION_SLACK, _VELOCITY_SLACK = 0.01, 0.2
_WINDOW_NS = 20_000_000
_MOST_NAMES = 1000


class ArmCheck:
    """Watches the joints of one arm.

    Joints of an unknown unit are not held against what is known in rad: limits, speeds, turns.

    Args:
        arm: its names and units.
        low: least positions [K].
        high: greatest positions [K].
        fastest: greatest velocities [K].
    """

    def __init__(self, arm: Arm, low: NDArray, high: NDArray, fastest: NDArray) -> None:
        count = len(arm.joint_names)
        self._arm = arm
        self._states = ArmStates(arm)
        self._unknown = ~arm.in_rad & (np.arange(count) < len(arm.joints))
        low = np.where(self._unknown, -np.inf, low)
        high = np.where(self._unknown, np.inf, high)
        fastest = np.where(self._unknown, np.inf, fastest)
        slack = _POSITION_SLACK * np.where(np.isfinite(high - low), high - low, 0.0)
        self._low, self._high = low - slack, high + slack
        self._fastest = fastest * (1 + _VELOCITY_SLACK)
        self._least, self._most = np.full(count, np.inf), np.full(count, -np.inf)
        self._value, self._stamp = np.full(count, np.nan), np.zeros(count, np.int64)
        self._since, self._last_ns = np.zeros(count, np.int64), 0
        self._before, self._before_ns = np.full(count, np.nan), np.zeros(count, np.int64)
        self.messages, self.empty, self.sentinels = 0, 0, 0
        self.bad: Counter[str] = Counter()
        # The names in joint states, in the order in which they were met.
        self._named: dict[str, None] = {}
        self._outside = np.zeros(count, int)
        # The least change of each joint: what its encoder counts in.
        self._count = np.full(count, np.inf)
        self._coarsest = np.full(count, _COARSEST)
        self._coarsest[len(arm.joints) :] = np.inf
        self._fast, self._frozen = _Excesses(self._coarsest), _Excesses(self._coarsest)
        self._rest_s = np.zeros(count)
        # Full turns between two states, and when the first one was, from the first state on.
        self._wraps, self._wrapped_ns = np.zeros(count, int), np.zeros(count, np.int64)
        self._first_ns: int | None = None
        # As of each joint's last change: its speed, all joints' values, the longest rest before.
        self._speed, self._around = np.zeros(count), np.full((count, count), np.nan)
        self._rested_ns = np.zeros(count, np.int64)
        # Values and times of each joint's last changes, the newest last.
        self._changes = np.full((2, count, 2 * _CHANGES + 1), np.nan)

    def add(self, record: JointStateRecord) -> None:
        """Take in a joint state."""
        self.messages += 1
        if not record.names:
            self.empty += 1
            return
        if len(self._named) < _MOST_NAMES:
            self._named.update(dict.fromkeys(record.names))
        if len(record.names) != len(record.positions):
            self.bad['names and positions differ in number'] += 1
            return
        found = self._states.values(record)
        if found is None:
            self.sentinels += 1
        elif len(found[0]):
            self._take(record.stamp_ns, *found)

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
        self._count[held] = np.fmin(self._count[held], np.where(moved, step, np.inf))
        with np.errstate(invalid='ignore'):
            excess = step - 2 * self._fastest[held] * step_s
            turned = wrapped(step, step_s) & self._arm.in_rad[held]
        self._wrap(stamp_ns, held[turned], values[turned])
        jumps = moved & ~turned & (still_ns > _FROZEN_NS)
        self._frozen.add(held[jumps], excess[jumps], step[jumps], still_ns[jumps] * 1e-9)
        longest = np.where(known & ~moved, still_ns * 1e-9, 0)
        self._rest_s[held] = np.maximum(self._rest_s[held], longest)
        self._since[held] = np.where(moved | ~known, stamp_ns, self._since[held])
        self._value[held], self._stamp[held] = values, stamp_ns
        changed = held[moved]
        with np.errstate(over='ignore'):
            speed = np.where(turned, 0.0, step / step_s)
        self._speed[changed], self._around[changed] = speed[moved], self._value
        self._rested_ns[changed] = np.maximum(self._rested_ns[changed], still_ns[moved])
        self._changes[:, changed, :-1] = self._changes[:, changed, 1:]
        self._changes[:, changed, -1] = values[moved], np.full(len(changed), stamp_ns * 1e-9)
        # Speeds over a little time: neighbours in time are too near for a clock's jitter.
        fresh = np.isnan(self._before[held]) | (self._before_ns[held] > stamp_ns)
        due = stamp_ns - self._before_ns[held] >= _WINDOW_NS
        seconds = np.maximum(stamp_ns - self._before_ns[held], 1) * 1e-9
        due &= ~fresh
        with np.errstate(invalid='ignore', over='ignore'):
            moved = np.abs(values - self._before[held])
            excess, speed = moved - self._fastest[held] * seconds, moved / seconds
        self._fast.add(held[due], excess[due], speed[due])
        renew = due | fresh
        self._before[held[renew]], self._before_ns[held[renew]] = values[renew], stamp_ns

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
        stopped &= (self._rested_ns <= _FROZEN_NS) & ~self._slowed()
        count = len(self._arm.joints)
        stopped &= self._arm.in_rad  # a gripper holds what it closed on
        with np.errstate(invalid='ignore'):
            moved = np.abs(self._value - self._around)[:, :count] > _STILL
        longer = self._since[None, :count] - self._since[:, None] >= _GONE_NS
        return stopped & (moved & longer).any(axis=1)

    def _slowed(self) -> NDArray:
        """Return which joints slowed down, or did not go anywhere, before they stopped.

        From several changes: an encoder that counts coarsely shows each as a leap.
        """
        values, times = self._changes[..., ::_CHANGES]
        went, took = np.abs(np.diff(values)), np.diff(times)
        with np.errstate(invalid='ignore', divide='ignore'):
            speeds = went / took
            steady = (speeds[:, 1] >= _SLOWS * speeds[:, 0]) & (went[:, 1] > 2 * self._count)
        return ~steady

    @property
    def _step(self) -> NDArray:
        """Return what each joint's encoder may leave out of a value or add to it."""
        known = np.isfinite(self._count) & (self._count <= self._coarsest)
        return np.where(known, self._count, 0.0) * (1 + 1e-6)

    def _names(self, mask: NDArray) -> list[str]:
        return [name for name, chosen in zip(self._arm.joint_names, mask) if chosen]

    @property
    def missing(self) -> list[str]:
        """Return the joints that no message names, under their names in joint states."""
        return [name for name in self._arm.state_joints if name not in self._named]

    @property
    def unmeasured(self) -> list[str]:
        """Return the joints that messages name, and of which none has a value to use."""
        return [
            name
            for name, value in zip(self._arm.state_joints, self._value)
            if name in self._named and np.isnan(value)
        ]

    @property
    def foreign(self) -> list[str]:
        """Return the names in messages that are none of the arm's."""
        return [name for name in self._named if name not in self._arm.state_joints]

    @property
    def motionless(self) -> list[str]:
        """Return the joints that are there and never move."""
        with np.errstate(invalid='ignore'):
            still = self._most - self._least <= np.where(self._unknown, 0.0, _STILL)
        return self._names(still & ~np.isnan(self._value))

    @property
    def found(self) -> list[str]:
        """Return the joints that are there."""
        return self._names(~np.isnan(self._value))

    def faults(self, known: Collection[str] = ()) -> list[str]:
        """Return what is wrong, a phrase each.

        Args:
            known: names in the same joint states that belong to another arm.
        """
        found = []
        if self.empty:
            found.append(f'{self.empty} of {self.messages} joint states name no joint')
        if self.sentinels:
            found.append(f'all joints are -1 in {self.sentinels} joint states: no measurement')
        found += [f'{what} in {count} joint states' for what, count in self.bad.items()]
        if self.missing:
            other = [name for name in self.foreign if name not in known]
            hint = f'; the bag has {listed(other, 20)}: is the robot YAML right?' if other else ''
            found.append(f'no joint state holds {", ".join(self.missing)}{hint}')
        if self.unmeasured:
            names = ', '.join(self.unmeasured)
            found.append(f'joint states hold {names}, and never with a value that can be used')
        return found + self._wrapped_joints() + self._frozen_joints() + self._limits()

    def _wrapped_joints(self) -> list[str]:
        return [
            f'the encoder of {name} wraps ({count} times, first at {since_ns * 1e-9:.2f} s of its '
            'joint states): episodes are cut there'
            for name, count, since_ns in zip(self._arm.joint_names, self._wraps, self._wrapped_ns)
            if count
        ]

    def _frozen_joints(self) -> list[str]:
        found = []
        for name, excess in zip(self._arm.joint_names, self._frozen.over(self._step)):
            if excess:
                step, rest_s = excess.worst
                found.append(
                    f'{name} repeats one value for {rest_s:.2f} s and then jumps by '
                    f'{figure(step)} ({excess.count} times): a frozen encoder'
                )
        gone, silent_s = self._gone(), (self._stamp - self._since) * 1e-9
        for name, is_gone, since_s in zip(self._arm.joint_names, gone, silent_s):
            if is_gone:
                found.append(
                    f'{name} repeats one value for the last {since_s:.1f} s while others move: '
                    'a frozen encoder'
                )
        return found

    def _limits(self) -> list[str]:
        found = []
        for name, count, low, high, lowest, highest in zip(
            self._arm.joint_names, self._outside, self._low, self._high, self._least, self._most
        ):
            if count:
                worst = lowest if low - lowest > highest - high else highest
                found.append(
                    f'{name} reaches {figure(worst)}, outside its limits of {low:.3f} to '
                    f'{high:.3f} ({count} times): is its unit or name mapped wrongly?'
                )
        limits = self._fastest / (1 + _VELOCITY_SLACK)
        for name, excess, limit in zip(self._arm.joint_names, self._fast.over(self._step), limits):
            if excess:
                found.append(
                    f'{name} goes at {figure(excess.worst[0])} a second, faster than its limit of '
                    f'{limit:.2f} ({excess.count} times)'
                )
        return found

    def facts(self) -> dict[str, Any]:
        """Return what was found as JSON holds it."""
        fast = [excess.count if excess else 0 for excess in self._fast.over(self._step)]
        return {
            'found': self.found,
            'missing': self.missing,
            'motionless': self.motionless,
            'longest_exact_rest_s': round(float(self._rest_s.max(initial=0.0)), 3),
            'limits_exceeded': {
                name: int(a + b)
                for name, a, b in zip(self._arm.joint_names, self._outside, fast)
                if a + b
            },
        }


@dataclass
class _Excess:
    """How often a joint went too far, and what is to be said of the worst."""

    count: int
    worst: tuple[float, ...]


class _Excesses:
    """By how much joints went too far, kept until it is known what their encoders count in.

    Args:
        coarsest: the most that it can be, for each joint: beyond, they are only counted.
    """

    def __init__(self, coarsest: NDArray) -> None:
        self._coarsest = coarsest
        self._small = [array('d') for _ in coarsest]
        self._large = [0 for _ in coarsest]
        self._worst: list[tuple[float, tuple[float, ...]]] = [(0.0, ()) for _ in coarsest]

    def add(self, joints: NDArray, excesses: NDArray, *about: NDArray) -> None:
        """Take in how far joints went too far; those that did not are passed over."""
        for place in np.flatnonzero(excesses > 0):
            joint, excess = int(joints[place]), float(excesses[place])
            if excess > self._coarsest[joint] * 2:
                self._large[joint] += 1
            else:
                self._small[joint].append(excess)
            if excess > self._worst[joint][0]:
                self._worst[joint] = excess, tuple(float(facts[place]) for facts in about)

    def over(self, steps: NDArray) -> list[_Excess | None]:
        """Return for each joint how often it went too far by more than its encoder's step."""
        found: list[_Excess | None] = []
        for small, large, worst, step in zip(self._small, self._large, self._worst, steps):
            count = large + sum(excess > step for excess in small)
            found.append(_Excess(count, worst[1]) if count else None)
        return found
