"""Which command, if any, both arms get: the state machine and the motion that is under way.

Pure bookkeeping around eva_ros.control: what happens comes in with its time, what is to be
published goes out. The node publishes it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eva_ros.control import reasons
from eva_ros.control.chunk import Chunk
from eva_ros.control.gate import check_chunk
from eva_ros.control.gate import Verdict
from eva_ros.control.settings import GateSettings
from eva_ros.control.state import arming_refusal
from eva_ros.control.state import ArmingFacts
from eva_ros.control.state import Event
from eva_ros.control.state import SafetyStateMachine
from eva_ros.control.state import State
from eva_ros.control.stop import brake
from eva_ros.control.stop import hold
from eva_ros.control.trajectory import ArmTrajectory
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline

Command = dict[str, ArmTrajectory]


@dataclass(frozen=True)
class Motion:
    """A path that is being executed."""

    path: HermiteSpline
    start_ns: int
    rollout_id: int

    def elapsed_s(self, now_ns: int) -> float:
        """Return how long it has been under way."""
        return (now_ns - self.start_ns) * 1e-9

    def is_over(self, now_ns: int) -> bool:
        """Return whether it has come to its end."""
        return self.elapsed_s(now_ns) >= self.path.duration


class ArmGuard:
    """Decides what both arms get.

    Args:
        robot: whose arms.
        settings: of the gate.
        dry_run: judge everything, send nothing.
        now_ns: time of the start.
    """

    def __init__(self, robot: Robot, settings: GateSettings, *, dry_run: bool, now_ns: int):
        self.robot = robot
        self.settings = settings
        self.dry_run = dry_run
        self.machine = SafetyStateMachine()
        self.entered_ns = now_ns
        self.motion: Motion | None = None
        self._commanded: NDArray[np.float64] | None = None

    @property
    def rollout_id(self) -> int:
        """Return the rollout being executed, else 0."""
        return self.motion.rollout_id if self.motion else 0

    @property
    def is_armed(self) -> bool:
        """Return whether the arms may move, or are moving."""
        return self.machine.state in (State.ARMED, State.EXECUTING)

    def arm(self, facts: ArmingFacts, now_ns: int) -> tuple[bool, str]:
        """Arm if nothing speaks against it; return whether, and a sentence."""
        refusal = arming_refusal(
            facts,
            simulated=self.robot.simulated,
            max_joint_state_age_s=self.settings.max_joint_state_age_s,
        )
        if refusal is not None:
            return False, refusal[1]
        if not self.is_armed:
            # Whoever had the arms may have moved them.
            self._commanded = None
        return self._go(Event.ARM, reasons.OPERATOR, 'Armed by the operator.', now_ns)

    def judge(
        self, chunk: Chunk, measured: NDArray[np.float64] | None, stamp_ns: int | None, now_ns: int
    ) -> Verdict:
        """Return what the gate says about a chunk; nothing is changed."""
        return check_chunk(
            chunk,
            measured,
            self.robot,
            self.settings,
            now_ns,
            measured_stamp_ns=stamp_ns,
            commanded=self._commanded,
        )

    def refusal(self) -> tuple[str, str] | None:
        """Return why no chunk is taken in this state, as reason and sentence; None if one is."""
        if self.machine.may_execute:
            return None
        reason = {
            State.DISARMED: reasons.NOT_ARMED,
            State.EXECUTING: reasons.BUSY,
            State.ESTOP: reasons.ESTOP,
        }[self.machine.state]
        return reason, self.machine.on(Event.EXECUTE).detail.replace('execute', 'execute a chunk')

    def execute(self, verdict: Verdict, rollout_id: int, now_ns: int) -> Command:
        """Begin an accepted motion; return what to publish to both arms, nothing in a dry run."""
        if self.dry_run or not verdict.accepted or verdict.path is None:
            return {}
        went, _ = self._go(Event.EXECUTE, reasons.OK, verdict.detail, now_ns)
        if not went:
            return {}
        self.motion = Motion(verdict.path, now_ns, rollout_id)
        self._commanded = verdict.path.positions[-1]
        return verdict.command

    def finish(self, now_ns: int) -> bool:
        """Return whether a motion has just come to its end, and be armed again if so."""
        if self.motion is None or not self.motion.is_over(now_ns):
            return False
        self.motion = None
        return self._go(Event.FINISH, reasons.OK, 'The motion is over.', now_ns)[0]

    def leave(
        self,
        event: Event,
        reason: str,
        detail: str,
        measured: NDArray[np.float64] | None,
        now_ns: int,
    ) -> tuple[bool, str, Command]:
        """Disarm, fault or e-stop: change state and bring both arms to rest.

        Returns:
            Whether the event was possible, a sentence, and what to publish to both arms: nothing
            where they were not armed.
        """
        stop = self.stop(measured, now_ns) if self.is_armed else {}
        went, sentence = self._go(event, reason, detail, now_ns)
        if not went:
            return False, sentence, {}
        self.motion = None
        return True, sentence, stop

    def stop(self, measured: NDArray[np.float64] | None, now_ns: int) -> Command:
        """Return what brings both arms to rest: a brake in mid-motion, else a hold."""
        if self.dry_run:
            return {}
        if self.motion is not None and not self.motion.is_over(now_ns):
            elapsed_s = max(0.0, self.motion.elapsed_s(now_ns))
            stop = brake(self.robot, self.settings, self.motion.path, elapsed_s)
            self.motion = Motion(stop.path, now_ns, self.motion.rollout_id)
            self._commanded = stop.path.positions[-1]
            return stop.command
        position = self._commanded if self._commanded is not None else measured
        return {} if position is None else hold(self.robot, self.settings, position).command

    def reset(self, now_ns: int) -> tuple[bool, str]:
        """Clear a latched e-stop."""
        detail = 'The e-stop was reset: the arms are disarmed.'
        return self._go(Event.RESET, reasons.OPERATOR, detail, now_ns)

    def _go(self, event: Event, reason: str, detail: str, now_ns: int) -> tuple[bool, str]:
        transition = self.machine.on(event, reason, detail)
        if transition.machine is not self.machine:
            self.entered_ns = now_ns
        self.machine = transition.machine
        return transition.accepted, transition.detail
