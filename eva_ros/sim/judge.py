"""Judges: when a task is done, and by which hand. Only they read privileged state.

A judge counts its own task and no other: a hand that grasps has not reached, a lift with help
from the other arm is not a lift, and a cube that the left hand picked up by itself was not
handed over.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eva_ros.sim.tasks import Task
from eva_ros.sim.world import AlohaWorld
from eva_ros.sim.world import SIDES

REACH_M = 0.03
# An arm that lifts stands open at the cube for less, even if it pauses there (1 s).
REACH_S = 1.2
REACH_SPEED_M_S = 0.03
REACH_OPENING = 0.5
LIFT_M = 0.05
HOLD_S = 0.5
BAR_TILT_RAD = float(np.deg2rad(10))
# While one arm works, the other hand stays this close to where it started.
STAY_M = 0.06


@dataclass(frozen=True)
class Sight:
    """What judges see at one instant.

    Attributes:
        time_ns: Time since the reset.
        target: Centre of the object [3].
        height: Height of the object above the table, in m.
        tilt: Angle between the object's long axis and the table, in rad.
        fingertips: Midpoint of each hand's fingertips [3].
        openings: Opening of each hand, 0 to 1.
        touching: What touches the object: 'table', 'left/left' (arm/finger), 'left/arm', ...
    """

    time_ns: int
    target: NDArray[np.float64]
    height: float
    tilt: float
    fingertips: dict[str, NDArray[np.float64]]
    openings: dict[str, float]
    touching: frozenset[str]

    @classmethod
    def of(cls, world: AlohaWorld) -> 'Sight':
        """Look at a world."""
        return cls(
            time_ns=world.time_ns,
            target=world.target,
            height=world.height,
            tilt=world.tilt,
            fingertips={side: world.fingertips(side) for side in SIDES},
            openings=dict(zip(SIDES, world.joints[6::7])),
            touching=frozenset(world.touching_target()),
        )

    def grasped(self, side: str) -> bool:
        """Return whether both fingers of a hand touch the object."""
        return self.touching >= {f'{side}/left', f'{side}/right'}

    def held_by(self, side: str) -> bool:
        """Return whether both fingers of a hand hold the object, and nothing else touches it."""
        return self.grasped(side) and all(by.startswith(f'{side}/') for by in self.touching)


class Judge:
    """Detects when a task is done.

    Attributes:
        done_ns: World time at which the task was first done, or None.
        gym_aloha_done_ns: The same by the criterion of gym-aloha, for transfer_cube only.
    """

    def __init__(self, task: Task):
        """Start with nothing done."""
        self._task = task
        self._holds = {
            'reach': self._reaches,
            'lift': self._lifts,
            'transfer': self._hands_over,
            'lift_bar': self._lifts_level,
            'explore': lambda sight: False,
        }[task.kind]
        self._hold_s = REACH_S if task.kind == 'reach' else HOLD_S
        self._start: Sight | None = None
        self._last: Sight | None = None
        self._since_ns: int | None = None
        self._right_held = False
        self.done_ns: int | None = None
        self.gym_aloha_done_ns: int | None = None

    @property
    def success(self) -> bool:
        """Return whether the task has been done since the start."""
        return self.done_ns is not None

    def watch(self, sight: Sight) -> None:
        """Judge one instant; call this every few milliseconds."""
        self._start = self._start or sight
        holds = self._holds(sight)
        self._last = sight
        self._watch_as_gym_aloha(sight)
        if not holds:
            self._since_ns = None
            return
        if self._since_ns is None:
            self._since_ns = sight.time_ns
        if self.done_ns is None and sight.time_ns - self._since_ns >= self._hold_s * 1e9:
            self.done_ns = sight.time_ns

    def _watch_as_gym_aloha(self, sight: Sight) -> None:
        """Look for gym-aloha's reward 4: the left hand's left finger touches, no table does."""
        met = 'left/left' in sight.touching and 'table' not in sight.touching
        if self._task.kind == 'transfer' and met and self.gym_aloha_done_ns is None:
            self.gym_aloha_done_ns = sight.time_ns

    def _reaches(self, sight: Sight) -> bool:
        """Return whether the open hand stands at the object, which lies on the table."""
        side = self._task.side
        return (
            _distance(sight.fingertips[side], sight.target) < REACH_M
            and 'table' in sight.touching
            and sight.openings[side] > REACH_OPENING
            and self._stands(sight, side)
            and self._alone(sight)
        )

    def _lifts(self, sight: Sight) -> bool:
        high = sight.height > LIFT_M
        return high and sight.held_by(self._task.side) and self._alone(sight)

    def _hands_over(self, sight: Sight) -> bool:
        """Return whether the left hand holds what the right hand has held off the table."""
        if 'table' in sight.touching:
            self._right_held = False
        elif sight.held_by('right'):
            self._right_held = True
        return self._right_held and sight.held_by('left')

    def _lifts_level(self, sight: Sight) -> bool:
        """Return whether both hands hold the bar up, and level, and nothing else holds it."""
        up = sight.height > LIFT_M and all(sight.grasped(side) for side in SIDES)
        arms_only = all(by.startswith(SIDES) for by in sight.touching)
        return up and arms_only and sight.tilt < BAR_TILT_RAD

    def _stands(self, sight: Sight, side: str) -> bool:
        """Return whether a hand is at rest."""
        if self._last is None:
            return True
        moved = _distance(sight.fingertips[side], self._last.fingertips[side])
        return moved <= REACH_SPEED_M_S * (sight.time_ns - self._last.time_ns) * 1e-9

    def _alone(self, sight: Sight) -> bool:
        """Return whether the other hand has stayed where it started, off the object."""
        assert self._start is not None
        other = SIDES[1 - SIDES.index(self._task.side)]
        stayed = _distance(sight.fingertips[other], self._start.fingertips[other]) < STAY_M
        return stayed and not any(by.startswith(other) for by in sight.touching)


def _distance(a: NDArray, b: NDArray) -> float:
    return float(np.linalg.norm(a - b))
