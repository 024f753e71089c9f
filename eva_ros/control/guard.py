"""Which command, if any, both arms get: the state machine and the motion that is under way.

Pure bookkeeping around eva_ros.control: what happens comes in with its time, what is to be
published goes out. The node publishes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eva_ros.control import reasons
from eva_ros.control.chunk import Chunk
from eva_ros.control.gate import check_chunk
from eva_ros.control.gate import plan_home
from eva_ros.control.gate import Verdict
from eva_ros.control.rest import begun_at_rest
from eva_ros.control.seam import Running
from eva_ros.control.settings import GateSettings
from eva_ros.control.state import arming_refusal
from eva_ros.control.state import ArmingFacts
from eva_ros.control.state import Event
from eva_ros.control.state import SafetyStateMachine
from eva_ros.control.state import State
from eva_ros.control.stop import brake
from eva_ros.control.stop import hold
from eva_ros.control.trajectory import ArmTrajectory
from eva_ros.control.watch import ExecutionWatch
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline

Array = NDArray[np.float64]
_MOVING = (State.EXECUTING, State.STOPPING)
_OFF = (State.DISARMED, State.ESTOP)


@dataclass(frozen=True)
class Motion:
    """A path that is being executed, and who looks whether it is."""

    path: HermiteSpline
    start_ns: int
    rollout_id: int
    watch: ExecutionWatch | None = None

    def elapsed_s(self, now_ns: int) -> float:
        """Return how long it has been under way."""
        return (now_ns - self.start_ns) * 1e-9

    def is_over(self, now_ns: int) -> bool:
        """Return whether it has come to its end."""
        return self.elapsed_s(now_ns) >= self.path.duration


@dataclass(frozen=True)
class Order:
    """What both arms get: trajectories, and the motion they describe; empty: nothing.

    Attributes:
        command: by arm.
        path: of all joints.
        goes_on: it goes on with a motion under way, and so needs its stamp: begun at receipt, it
            would lead back over the way that was gone until then.
    """

    command: Mapping[str, ArmTrajectory]
    path: HermiteSpline | None = None
    goes_on: bool = False

    def __bool__(self) -> bool:
        return bool(self.command)


NOTHING = Order({})


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
        self.waiting_id = 0
        self._commanded: Array | None = None
        self._stop: Motion | None = None

    @property
    def rollout_id(self) -> int:
        """Return the rollout being executed or waiting, else 0."""
        return self.motion.rollout_id if self.motion else self.waiting_id

    @property
    def is_armed(self) -> bool:
        """Return whether the arms may move, or are moving."""
        return self.machine.state not in _OFF

    def is_braking(self, now_ns: int) -> bool:
        """Return whether a stop that was sent is still under way."""
        return self._stop is not None and not self._stop.is_over(now_ns)

    def clock_jumped(self, by_ns: int) -> None:
        """Take over what is remembered into a clock that jumped: the arms go on as they were."""
        self.entered_ns += by_ns
        if self.motion is not None:
            self.motion = replace(self.motion, start_ns=self.motion.start_ns + by_ns)
        if self._stop is not None:
            self._stop = replace(self._stop, start_ns=self._stop.start_ns + by_ns)

    def arm(self, facts: ArmingFacts, now_ns: int) -> tuple[bool, str]:
        """Arm if nothing speaks against it; return whether, and a sentence."""
        refusal = arming_refusal(
            facts,
            simulated=self.robot.simulated,
            max_joint_state_age_s=self.settings.max_joint_state_age_s,
            max_clock_skew_s=self.settings.max_clock_skew_s,
        )
        if refusal is not None:
            return False, refusal[1]
        if not self.is_armed:
            # Whoever had the arms may have moved them.
            self._commanded = None
        return self._go(Event.ARM, reasons.OPERATOR, 'Armed by the operator.', now_ns)

    def judge(
        self, chunk: Chunk, measured: Array | None, stamp_ns: int | None, now_ns: int
    ) -> Verdict:
        """Return what the gate says about a chunk; nothing is changed."""
        running = self._running(now_ns)
        verdict = check_chunk(
            chunk,
            measured,
            self.robot,
            self.settings,
            now_ns,
            measured_stamp_ns=stamp_ns,
            commanded=self._commanded,
            running=running,
        )
        return verdict if running is not None else self._from_rest(verdict)

    def judge_home(self, measured: Array | None, stamp_ns: int | None, now_ns: int) -> Verdict:
        """Return the move to the home pose; nothing is changed."""
        return self._from_rest(
            plan_home(
                measured,
                self.robot,
                self.settings,
                now_ns,
                measured_stamp_ns=stamp_ns,
                commanded=self._commanded,
            )
        )

    def _from_rest(self, verdict: Verdict) -> Verdict:
        return begun_at_rest(verdict, self.robot, self.settings)

    def refusal(self) -> tuple[str, str] | None:
        """Return why no chunk is taken in this state, as reason and sentence; None if one is."""
        state = self.machine.state
        joins = state is State.EXECUTING and self.settings.mode == 'overlap'
        if state is State.ARMED or joins:
            return None
        reason = {State.DISARMED: reasons.NOT_ARMED, State.ESTOP: reasons.ESTOP}.get(
            state, reasons.BUSY
        )
        detail = SafetyStateMachine(state).refusal(Event.EXECUTE)
        return reason, detail.replace('execute', 'execute a chunk')

    def propose(self, verdict: Verdict, rollout_id: int, now_ns: int) -> bool:
        """Let an accepted chunk wait for approval; return whether it waits."""
        detail = f'Rollout {rollout_id} waits for approval. {verdict.detail}'
        went, _ = self._go(Event.PROPOSE, reasons.AWAITING_APPROVAL, detail, now_ns)
        self.waiting_id = rollout_id if went else 0
        return went

    def reject(self, reason: str, detail: str, now_ns: int) -> bool:
        """Give up what waits for approval; return whether anything did."""
        self.waiting_id = 0
        return self._go(Event.REJECT, reason, detail, now_ns)[0]

    def expired(self, now_ns: int) -> bool:
        """Return whether what waits has waited too long."""
        waited_s = (now_ns - self.entered_ns) * 1e-9
        waits = self.machine.state is State.AWAITING_APPROVAL
        return waits and waited_s >= self.settings.approve_timeout_s

    def execute(
        self, verdict: Verdict, rollout_id: int, measured: Array | None, now_ns: int
    ) -> Order:
        """Begin an accepted motion; return what to publish to both arms, nothing in a dry run."""
        if self.dry_run or not verdict.accepted or verdict.path is None or measured is None:
            return NOTHING
        moving = self.machine.state is State.EXECUTING
        event = Event.JOIN if moving else Event.EXECUTE
        went, _ = self._go(event, reasons.OK, verdict.detail, now_ns)
        if not went:
            return NOTHING
        self.waiting_id = 0
        watch = ExecutionWatch(self.robot, self.settings, verdict.path, measured, moving=moving)
        self.motion = Motion(verdict.path, now_ns, rollout_id, watch)
        self._commanded = verdict.path.positions[-1]
        return Order(verdict.command, verdict.path)

    def watch(self, arm: str, measured: Array, stamp_ns: int) -> tuple[str, str] | None:
        """Return what is wrong with an arm in motion, as reason and sentence; None if nothing."""
        motion = self.motion
        if motion is None or motion.watch is None or stamp_ns < motion.start_ns:
            return None
        return motion.watch.fault(arm, measured, motion.elapsed_s(stamp_ns))

    def finish(self, now_ns: int) -> bool:
        """Return whether a motion has just come to its end, and be armed again if so."""
        if self.motion is None or not self.motion.is_over(now_ns):
            return False
        self.motion = None
        return self._go(Event.FINISH, reasons.OK, 'The motion is over.', now_ns)[0]

    def leave(
        self, event: Event, reason: str, detail: str, measured: Array | None, now_ns: int
    ) -> tuple[bool, str, Order]:
        """Disarm, fault or e-stop: change state and bring both arms to rest.

        Returns:
            Whether the event was possible, a sentence, and what to publish to both arms: nothing
            where they were not armed.
        """
        stop = NOTHING
        # An e-stop brakes harder what brakes already.
        harder = event is Event.ESTOP and self.machine.state is State.DISARMED
        if self.is_armed or (harder and self.is_braking(now_ns)):
            stop = self._rest(measured, now_ns, urgent=event is Event.ESTOP)
        went, sentence = self._go(event, reason, detail, now_ns)
        if not went:
            return False, sentence, NOTHING
        self.motion = None
        self.waiting_id = 0
        return True, sentence, stop

    def stop(self, measured: Array | None, now_ns: int) -> Order:
        """Brake and stay armed; return what brings both arms to rest."""
        order = self._rest(measured, now_ns, urgent=False)
        detail = 'The arms brake; they stay armed.'
        self._go(Event.STOP, reasons.OPERATOR, detail, now_ns)
        return order

    def reset(self, now_ns: int) -> tuple[bool, str]:
        """Clear a latched e-stop, after its cool-down."""
        wait_s = self.settings.estop_reset_cooldown_s - (now_ns - self.entered_ns) * 1e-9
        if self.machine.state is State.ESTOP and wait_s > 0.0:
            return False, f'The e-stop was latched just now: reset it in {wait_s:.1f} s.'
        detail = 'The e-stop was reset: the arms are disarmed.'
        return self._go(Event.RESET, reasons.OPERATOR, detail, now_ns)

    def _running(self, now_ns: int) -> Running | None:
        motion = self.motion or self._stop
        if motion is None or motion.is_over(now_ns):
            return None
        return Running(motion.path, max(0.0, motion.elapsed_s(now_ns)))

    def _rest(self, measured: Array | None, now_ns: int, *, urgent: bool) -> Order:
        """Return what brings both arms to rest: a brake in mid-motion, else a hold."""
        if self.dry_run:
            return NOTHING
        running = self._running(now_ns)
        if running is not None:
            stop = brake(self.robot, self.settings, running.path, running.elapsed_s, urgent=urgent)
            rollout_id = self.motion.rollout_id if self.motion else 0
            self.motion = self._stop = Motion(stop.path, now_ns, rollout_id)
            self._commanded = stop.path.positions[-1]
        else:
            position = self._commanded if self._commanded is not None else measured
            if position is None:
                return NOTHING
            stop = hold(self.robot, self.settings, position)
        return Order(stop.command, stop.path, goes_on=running is not None)

    def _go(self, event: Event, reason: str, detail: str, now_ns: int) -> tuple[bool, str]:
        transition = self.machine.on(event, reason, detail)
        if transition.machine is not self.machine:
            self.entered_ns = now_ns
        self.machine = transition.machine
        return transition.accepted, transition.detail
