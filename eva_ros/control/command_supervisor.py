"""The gate entry: which command, if any, both arms get.

The state machine and the motion under way, without ROS or clocks: what happens comes in with its
time, what to publish goes out. The node publishes it; the closed loop sends it to the simulator.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from eva_ros.control import reasons
from eva_ros.control.chunk import Chunk
from eva_ros.control.chunk_checks import Findings
from eva_ros.control.gate import check_chunk
from eva_ros.control.gate import plan_home
from eva_ros.control.gate import prepare
from eva_ros.control.reasons import RefusedError
from eva_ros.control.running_motion import Motion
from eva_ros.control.running_motion import Order
from eva_ros.control.settings import GateSettings
from eva_ros.control.state import arming_refusal
from eva_ros.control.state import ArmingFacts
from eva_ros.control.state import Event
from eva_ros.control.state import SafetyStateMachine
from eva_ros.control.state import State
from eva_ros.control.stop import hold
from eva_ros.control.stop_monitor import StopMonitor
from eva_ros.control.tracking_monitor import TrackingMonitor
from eva_ros.control.trajectory import check_command
from eva_ros.control.verdict import begun_at_rest
from eva_ros.control.verdict import refused
from eva_ros.control.verdict import Verdict
from eva_ros.errors import UserError
from eva_ros.robot.spec import Robot

Array = NDArray[np.float64]
Fault = tuple[str, str]
_OFF = (State.DISARMED, State.ESTOP)


class CommandSupervisor:
    """Decides what both arms get. Its state changes through its methods only.

    A fault is a reason (a name in eva_msgs/ChunkReport) and a sentence.

    Args:
        robot: Robot that is driven.
        settings: Settings of the gate.
        dry_run: Whether to judge everything and send nothing.
        now_ns: Time of the start, in ns.
        latched: Latched e-stop to start with, from `latched` of the one before; None if none.

    Attributes:
        machine: Safety state, and why it was entered.
        entered_ns: Time at which the state was entered, in ns.
        motion: Motion under way; None if the arms are at rest or disarmed.
        waiting_id: Rollout that waits for approval; 0 if none.

    Raises:
        UserError: The robot's YAML lacks limits, a controller or a home pose.
    """

    def __init__(
        self,
        robot: Robot,
        settings: GateSettings,
        *,
        dry_run: bool,
        now_ns: int,
        latched: SafetyStateMachine | None = None,
    ) -> None:
        robot.require('gate')
        self.robot = robot
        self.settings = settings
        self.dry_run = dry_run
        self.machine = latched or SafetyStateMachine()
        self.entered_ns = now_ns
        self.motion: Motion | None = None
        self.waiting_id = 0
        self._commanded: Array | None = None
        self._held: Array | None = None
        self._rested_ns: int | None = None
        self._stops = StopMonitor(robot)

    def prepare(self) -> None:
        """Build what the first chunk would have to wait for: where time passes meanwhile."""
        prepare(self.robot, self.settings)

    @property
    def rollout_id(self) -> int:
        """Return the rollout being executed or waiting, else 0."""
        return self.motion.rollout_id if self.motion else self.waiting_id

    @property
    def is_armed(self) -> bool:
        """Return whether the arms may move, or are moving."""
        return self.machine.state not in _OFF

    @property
    def last_stop(self) -> Motion | None:
        """Return the stop that was sent last: under way, or over; None if none was."""
        return self._stops.motion

    def latched(self, pressed: str = '') -> SafetyStateMachine | None:
        """Return the latched e-stop, which outlives this configuration; None if none is.

        Args:
            pressed: Sentence on an e-stop that was pressed while nobody could act on it; latches
                one too.
        """
        machine = self.machine
        if pressed:
            machine = machine.on(Event.ESTOP, reasons.ESTOP, pressed).machine
        return machine if machine.state is State.ESTOP else None

    def set_dry_run(self, dry_run: bool, now_ns: int) -> None:
        """Switch the dry run on or off; UserError unless the arms are disarmed and at rest."""
        if dry_run != self.dry_run and (self.is_armed or self.is_braking(now_ns)):
            raise UserError(
                'dry_run changes only while disarmed arms are at rest: call ~/disarm first.'
            )
        self.dry_run = dry_run

    def set_scaling(self, name: str, factor: float) -> None:
        """Set velocity_scaling_factor or acceleration_scaling_factor.

        Raises:
            UserError: It would be raised while the arms are armed.
        """
        if self.is_armed and factor > getattr(self.settings, name):
            raise UserError(f'{name} is raised only while disarmed: call ~/disarm first.')
        self.settings = self.settings.model_copy(update={name: factor})

    def is_braking(self, now_ns: int) -> bool:
        """Return whether a stop that was sent is still under way."""
        stop = self._stops.motion
        return stop is not None and not stop.is_over(now_ns)

    def watched_s(self, now_ns: int) -> float:
        """Return for how long stopped arms are still monitored: one may have missed its stop."""
        return self._stops.watched_ns(now_ns) * 1e-9

    def clock_jumped(self, by_ns: int) -> None:
        """Shift all remembered times after a clock jump: the arms go on as they were."""
        self.entered_ns += by_ns
        if self._rested_ns is not None:
            self._rested_ns += by_ns
        is_a_stop = self.motion is self._stops.motion
        self._stops.clock_jumped(by_ns)
        if is_a_stop:
            self.motion = self._stops.motion
        elif self.motion is not None:
            self.motion = self.motion.shifted(by_ns)

    def arm(self, facts: ArmingFacts, now_ns: int) -> tuple[bool, str]:
        """Arm if allowed; return (armed, sentence)."""
        refusal = arming_refusal(
            facts,
            simulated=self.robot.simulated,
            max_joint_state_age_s=self.settings.max_joint_state_age_s,
            max_clock_skew_s=self.settings.max_clock_skew_s,
        )
        if refusal is not None:
            return False, refusal[1]
        if not self.is_armed:
            # The arms may have been moved by hand meanwhile.
            self._held = self._commanded if self._commanded is not None else self._held
            self._commanded = None
        return self._go(Event.ARM, reasons.OPERATOR, 'Armed by the operator.', now_ns)

    def judge(
        self, chunk: Chunk, measured: Array | None, stamp_ns: int | None, now_ns: int
    ) -> Verdict:
        """Return the gate's verdict on a chunk; the state stays as it is."""
        running = self._running(now_ns)
        if running is None and self._is_late(chunk):
            detail = (
                'The chunk came too late: its dream began while the arms moved, and they rest.'
            )
            return refused(RefusedError(reasons.STALE_OBSERVATION, detail), Findings())
        verdict = check_chunk(
            chunk,
            measured,
            self.robot,
            self.settings,
            now_ns,
            measured_stamp_ns=stamp_ns,
            commanded=self._last_command(measured),
            running=running,
        )
        return verdict if running else begun_at_rest(verdict, self.robot, self.settings)

    def judge_home(self, measured: Array | None, stamp_ns: int | None, now_ns: int) -> Verdict:
        """Return the verdict on the move to the home pose; the state stays as it is."""
        verdict = plan_home(
            measured,
            self.robot,
            self.settings,
            now_ns,
            measured_stamp_ns=stamp_ns,
            commanded=self._last_command(measured),
        )
        return begun_at_rest(verdict, self.robot, self.settings)

    def refusal(self, now_ns: int) -> Fault | None:
        """Return why no motion may begin now; None if one may."""
        state = self.machine.state
        if state is State.ARMED and (left_s := self.watched_s(now_ns)) > 0.0:
            return reasons.BUSY, f'The arms were stopped just now: wait for {left_s:.1f} s.'
        joins = state is State.EXECUTING and self.settings.mode == 'overlap'
        if state is State.ARMED or joins:
            return None
        reason = {State.DISARMED: reasons.NOT_ARMED, State.ESTOP: reasons.ESTOP}.get(
            state, reasons.BUSY
        )
        detail = SafetyStateMachine(state).refusal(Event.EXECUTE)
        return reason, detail.replace('execute', 'execute a chunk')

    def missed_switch(self, judged_ns: int, now_ns: int) -> Fault | None:
        """Return why an accepted chunk can no longer join the motion under way; None if it can.

        Args:
            judged_ns: Time for which it was judged, in ns.
            now_ns: Time now, in ns.
        """
        late_s = (now_ns - judged_ns) * 1e-9
        if late_s <= self.settings.switch_lead_s - self.settings.control_period_s:
            return None
        detail = f'It took {late_s:.3f} s to check the chunk: the switch to it is past.'
        return reasons.STALE_OBSERVATION, detail

    def propose(self, verdict: Verdict, rollout_id: int, now_ns: int) -> bool:
        """Let an accepted chunk wait, if it needs approval; return whether it waits."""
        asks = self.settings.approve and not self.dry_run and self.motion is None
        if not (verdict.accepted and asks):
            return False
        detail = f'Rollout {rollout_id} waits for approval. {verdict.detail}'
        went, _ = self._go(Event.PROPOSE, reasons.AWAITING_APPROVAL, detail, now_ns)
        self.waiting_id = rollout_id if went else 0
        return went

    def reject(self, reason: str, detail: str, now_ns: int) -> bool:
        """Give up the chunk that waits for approval; return whether there was one."""
        self.waiting_id = 0
        return self._go(Event.REJECT, reason, detail, now_ns)[0]

    def expired(self, now_ns: int) -> bool:
        """Return whether a chunk has waited for approval too long."""
        waited_s = (now_ns - self.entered_ns) * 1e-9
        waits = self.machine.state is State.AWAITING_APPROVAL
        return waits and waited_s >= self.settings.approve_timeout_s

    def execute(
        self, verdict: Verdict, rollout_id: int, measured: Array | None, now_ns: int
    ) -> Order | None:
        """Begin an accepted motion; return what to publish to both arms: None in a dry run."""
        order = verdict.order
        if self.dry_run or order is None or measured is None:
            return None
        moving = self.machine.state is State.EXECUTING
        event = Event.JOIN if moving else Event.EXECUTE
        went, _ = self._go(event, reasons.OK, verdict.detail, now_ns)
        if not went:
            return None
        self.waiting_id = 0
        watch = TrackingMonitor(self.robot, self.settings, order.path, measured, moving=moving)
        self.motion = Motion(order.path, now_ns, rollout_id, watch)
        self._stops = StopMonitor(self.robot)
        self._commanded = order.path.positions[-1]
        return order

    def astray(
        self, measured: Mapping[str, tuple[Array, int] | None], now_ns: int
    ) -> tuple[str, Fault] | None:
        """Return an arm that does not do what it was sent, and its fault; None if none.

        Joints that are stamped ahead of now are not compared with what is only to come.

        Args:
            measured: Measured joints [K] and their stamp in ns by arm; None if never measured.
            now_ns: Time now, in ns.
        """
        latest_ns = now_ns + self.settings.max_clock_skew_s * 1e9
        for arm, joints in measured.items():
            if joints is None or joints[1] > latest_ns:
                continue
            if fault := self.watch(arm, *joints):
                return arm, fault
        return None

    def watch(self, arm: str, measured: Array, stamp_ns: int) -> Fault | None:
        """Return the fault of an arm in motion; None if it follows.

        A stop is monitored in every state, and a little beyond its end.
        """
        motion = self.motion
        if motion is None or motion is self._stops.motion:
            return self._stops.fault(arm, measured, stamp_ns, self.settings)
        if motion.watch is None or stamp_ns < motion.start_ns:
            return None
        return motion.watch.fault(arm, measured, motion.elapsed_s(stamp_ns))

    def finish(self, now_ns: int) -> bool:
        """Return to armed if the motion is over; return whether that happened just now."""
        if self.motion is None or not self.motion.is_over(now_ns):
            return False
        self._rested_ns, self.motion = self.motion.end_ns, None
        return self._go(Event.FINISH, reasons.OK, 'The motion is over.', now_ns)[0]

    def leave(
        self, event: Event, reason: str, detail: str, measured: Array | None, now_ns: int
    ) -> tuple[bool, str, Order | None]:
        """Disarm, fault or e-stop: change state and bring both arms to rest.

        Returns:
            Whether the event was possible, a sentence, and what to publish to both arms: None
            where they were not armed.
        """
        # An e-stop brakes harder what brakes already.
        harder = event is Event.ESTOP and self.is_braking(now_ns)
        must_rest = self.is_armed or (harder and self.machine.state is State.DISARMED)
        # First of all: what fails from here on leaves the arms disarmed, and an e-stop latched.
        went, sentence = self._go(event, reason, detail, now_ns)
        if not went:
            return False, sentence, None
        motion, self.motion, self.waiting_id = self.motion, None, 0
        if not must_rest:
            return True, sentence, None
        order = self._rest(motion, measured, now_ns, urgent=event is Event.ESTOP)
        return True, self.machine.detail, order

    def stop_again(
        self, arm: str, fault: Fault, measured: Array | None, now_ns: int
    ) -> Order | None:
        """Handle a fault of an arm that is stopping and not armed; return what to publish.

        An arm that goes on because its stop was lost gets another. Other faults are only noted.

        Args:
            arm: Name of the arm.
            fault: Fault from `watch`.
            measured: Joints now [J].
            now_ns: Time now, in ns.
        """
        unreached, urgent = self._stops.unreached, self.machine.state is State.ESTOP
        self._stops.tell(arm)
        self._add(*fault)
        if not unreached:
            return None
        order = self._rest(None, measured, now_ns, urgent=urgent)
        if order:
            self._add(fault[0], 'It is sent another.')
        return order

    def stop(self, measured: Array | None, now_ns: int) -> Order | None:
        """Brake and stay armed; return what to publish to bring both arms to rest."""
        order = self._rest(self.motion, measured, now_ns, urgent=False)
        if order and order.goes_on:
            self.motion = self._stops.motion
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

    def _is_late(self, chunk: Chunk) -> bool:
        """Return whether a chunk was to join a motion that is over, in mode overlap."""
        rested_ns = self._rested_ns
        overlaps = self.settings.mode == 'overlap'
        return overlaps and rested_ns is not None and chunk.observation_stamp_ns < rested_ns

    def _running(self, now_ns: int) -> Motion | None:
        motion = self.motion or self._stops.motion
        return None if motion is None or motion.is_over(now_ns) else motion

    def _last_command(self, measured: Array | None) -> Array | None:
        """Return the end of the last command [J]; the measured joints if unknown.

        Grippers that still press on an object they closed on before disarming keep pressing.
        """
        if self._commanded is not None:
            return self._commanded
        if self._held is None or measured is None:
            return measured
        allowed = self.settings.allowed_start_tolerance_gripper
        pressed = np.abs(self.robot.gripping(measured) - self._held) <= allowed
        return np.where(self.robot.gripper_mask & pressed, self._held, measured)

    def _rest(
        self, motion: Motion | None, measured: Array | None, now_ns: int, *, urgent: bool
    ) -> Order | None:
        """Return what brings both arms to rest: a brake in mid-motion, else a hold.

        Args:
            motion: Motion under way; None for the last stop, if there is one.
            measured: Joints now [J].
            now_ns: Time now, in ns.
            urgent: Whether it is an e-stop.
        """
        if self.dry_run:
            return None
        motion = motion or self._stops.motion
        if motion is not None and (not motion.is_over(now_ns) or self._stops.unreached):
            try:
                stop = self._stops.begin(motion, self.settings, measured, now_ns, urgent=urgent)
            except RefusedError as refusal:
                raise UserError(
                    f'No stop could be sent; the arms end at rest what they were sent last. '
                    f'{refusal.detail}'
                ) from refusal
            self._commanded = stop.path.positions[-1]
            return stop
        position = self._last_command(measured)
        if position is None:
            return None
        held = hold(self.robot, self.settings, position)
        if held is None:
            detail = 'They rest outside their limits, and stay with their controllers.'
            self._add(self.machine.reason, detail)
            return None
        check_command(held.command, self.robot)
        return held

    def _add(self, reason: str, sentence: str) -> None:
        """Add a sentence to the present state; an e-stop keeps its reason."""
        reason = self.machine.reason if self.machine.state is State.ESTOP else reason
        detail = f'{self.machine.detail} {sentence}'.strip()
        self.machine = replace(self.machine, reason=reason, detail=detail)

    def _go(self, event: Event, reason: str, detail: str, now_ns: int) -> tuple[bool, str]:
        transition = self.machine.on(event, reason, detail)
        if transition.machine is not self.machine:
            self.entered_ns = now_ns
        self.machine = transition.machine
        return transition.accepted, transition.detail
