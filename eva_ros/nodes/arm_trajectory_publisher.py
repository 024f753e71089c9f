"""The last guard before the arms: checks each chunk and sends both arms their motion, or neither.

Starts disarmed and in dry run. An e-stop latches. Whatever ends the work of this node in mid-
motion ends with both arms braking.
"""

from collections.abc import Callable
from pathlib import Path
import sys
from typing import Any

from sensor_msgs.msg import JointState

from eva_msgs.msg import ActionChunk
from eva_ros.control import reasons
from eva_ros.control.guard import ArmGuard
from eva_ros.control.settings import load_gate_settings
from eva_ros.control.space import unchecked_space
from eva_ros.control.state import Event
from eva_ros.control.state import SafetyStateMachine
from eva_ros.control.state import several_estops
from eva_ros.control.state import State
from eva_ros.errors import UserError
from eva_ros.nodes.arm_approval import ChunkApproval
from eva_ros.nodes.arm_clock import ClockJumps
from eva_ros.nodes.arm_conditions import ArmConditions
from eva_ros.nodes.arm_dispatch import ArmDispatch
from eva_ros.nodes.arm_estop import EstopTopic
from eva_ros.nodes.arm_intake import ChunkIntake
from eva_ros.nodes.arm_outputs import ArmOutputs
from eva_ros.nodes.arm_outputs import STEADY
from eva_ros.nodes.arm_reports import ArmReports
from eva_ros.nodes.arm_stopping import ArmStopping
from eva_ros.nodes.arm_surroundings import ArmSurroundings
from eva_ros.nodes.arm_watchers import FileWatch
from eva_ros.nodes.measured_joints import MeasuredJoints
from eva_ros.robot.paths import config_dir
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.parameters import Param
from eva_ros.ros.publishers import publisher_names
from eva_ros.ros.run import run

_SCALING = ('velocity_scaling_factor', 'acceleration_scaling_factor')
_TICK_S = 0.02


class ArmTrajectoryPublisher(EvaNode):
    """The node `arm_trajectory_publisher`.

    It wires and decides. What it hears comes from the e-stop topic, the clock's jumps and the
    measured joints; the guard says what follows; the dispatch sends it, and the reports tell.
    """

    PARAMS = (
        Param('gate', '', "Settings of the command gate, a YAML; the package's if empty."),
        Param(
            'dry_run',
            True,
            'Do everything but publish to the controllers; changes only while disarmed.',
            live=True,
            constraint='Changes only while the arms are disarmed and at rest.',
        ),
        Param(
            'stamp_mode',
            'common',
            "'common': both trajectories carry the time of sending; "
            "'zero': they begin at receipt, where clocks are not shared.",
            constraint="Must be 'common' or 'zero'.",
        ),
        *(
            Param(
                name,
                0.0,
                "Part of the limits that is used; 0 takes the gate file's. While armed it changes "
                'only downwards.',
                low=0.0,
                high=1.0,
                live=True,
                constraint='Is not raised while the arms are armed.',
            )
            for name in _SCALING
        ),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(topics.ARM_TRAJECTORY_PUBLISHER, **options)
        # An e-stop outlives what is configured.
        self._latched: SafetyStateMachine | None = None

    def _setup(self) -> None:
        if self.param('stamp_mode') not in ('common', 'zero'):
            raise UserError(f"stamp_mode is '{self.param('stamp_mode')}': common or zero.")
        path = Path(self.param('gate')) if self.param('gate') else config_dir() / 'gate.yaml'
        self._file_settings = load_gate_settings(
            self.robot.name, path, simulated=self.robot.simulated
        )
        given = {name: self.param(name) for name in _SCALING if self.param(name) > 0.0}
        settings = self._file_settings.model_copy(update=given)
        self._guard = ArmGuard(
            self.robot, settings, dry_run=self.param('dry_run'), now_ns=self.now_ns()
        )
        if self._latched is not None:
            self._guard.machine = self._latched
        files = FileWatch([path, *self.robot.files])
        if settings.mode == 'overlap' and self.param('stamp_mode') == 'zero':
            raise UserError(
                'Mode overlap joins chunks at a time that stamp_mode zero does not tell: share '
                'the clock with the controllers, or take mode look_dream_move.'
            )
        if settings.mode == 'overlap' and settings.approve:
            raise UserError(
                'Mode overlap moves on before anybody could approve a chunk: set approve to '
                'false, or take mode look_dream_move.'
            )
        self._compose(files)
        self.own(self._remember_estop)
        self._listen()
        # Whatever becomes of the time, the arms are looked after.
        self.call_every(_TICK_S, self._tick, clock=STEADY)
        self.diagnostics.add_check('arms', self._reports.health)
        self.diagnostics.add_check('controllers', self._surroundings.starts.health)
        self.diagnostics.add_check('joint states', self._joints.health)
        unchecked = unchecked_space(self.robot, settings)
        if unchecked is not None:
            self.diagnostics.report('collision', 'warn', unchecked)

    def _compose(self, files: FileWatch) -> None:
        guard, settings = self._guard, self._guard.settings
        joints = self._joints = MeasuredJoints(self.robot, self._joint_publishers)
        self._jumps = ClockJumps(self, settings.max_clock_skew_s, self._on_jump)
        self._outputs = ArmOutputs(
            self, self.robot, settings, self.guarded('outputs', self._on_fault)
        )
        self._reports = ArmReports(self, guard, joints)
        stamp_mode = self.param('stamp_mode')
        self._dispatch = ArmDispatch(guard, joints, self._outputs, self._reports, stamp_mode)
        self._approval = ChunkApproval(self, guard, joints, self._dispatch, self._reports)
        self._stopping = ArmStopping(
            self, guard, joints, self._jumps, self._dispatch, self._approval, self._reports
        )
        self._intake = ChunkIntake(
            self, guard, joints, self._jumps, self._approval, self._dispatch, self._reports
        )
        self._surroundings = ArmSurroundings(self, guard, self._outputs.topics, files)
        self._estop = EstopTopic(
            self, settings.estop_heartbeat_s, self.guarded(topics.ESTOP, self._on_estop)
        )
        self._conditions = ArmConditions(
            guard, joints, self._estop, self._jumps, self._surroundings
        )

    def _listen(self) -> None:
        leave = self._stopping.leave
        for topic in self.robot.joint_state_topics:
            self.listen_to(JointState, topic, self._joint_listener(topic), qos.SENSOR_INPUT)
        self.listen_to(ActionChunk, topics.CHUNK, self._intake.take, qos.REPORT)
        self.offer(topics.ARM, self._arm)
        self.offer(topics.DISARM, lambda: leave(Event.DISARM, 'Disarmed by the operator.'))
        self.offer(topics.TRIGGER_ESTOP, self._trigger_estop)
        self.offer(topics.RESET_ESTOP, self._reset_estop)
        self.offer(topics.HOLD, self._stopping.hold)
        self.offer(topics.APPROVE, self._approve)
        self.offer(topics.REJECT, self._approval.reject)
        self.offer(topics.GO_HOME, self._go_home)

    def _start(self) -> None:
        self._jumps.forget()
        self._joints.trust_stamps()
        self._surroundings.starts.ask()
        if self._estop.was_pressed:
            detail = f"True on '{topics.ESTOP}' while the node was inactive."
            self._stopping.leave(Event.ESTOP, detail, reasons.ESTOP)
        self._reports.publish_state()

    def _stop(self) -> None:
        self._estop.forget()
        try:
            self._stopping.leave(
                Event.FAULT, f'{self.get_name()} was stopped.', reasons.DEACTIVATED
            )
        finally:
            # An arm that cannot be reached takes nothing away from the other.
            self._outputs.finish()
            self._reports.finish()

    def _remember_estop(self) -> None:
        machine = self._guard.machine
        if self._estop.was_pressed:
            detail = f"True on '{topics.ESTOP}' before the node was configured anew."
            machine = machine.on(Event.ESTOP, reasons.ESTOP, detail).machine
        self._latched = machine if machine.state is State.ESTOP else None

    def on_parameter(self, name: str, value: Any) -> None:
        """Take `dry_run`, while disarmed, and scaling factors, while armed only downwards."""
        guard = self._guard
        if name == 'dry_run' and value != guard.dry_run:
            if guard.is_armed or guard.is_braking(self.now_ns()):
                raise UserError(
                    'dry_run changes only while disarmed arms are at rest: call ~/disarm first.'
                )
            guard.dry_run = value
            self._reports.publish_state()
        elif name in _SCALING:
            factor = value or getattr(self._file_settings, name)
            if guard.is_armed and factor > getattr(guard.settings, name):
                raise UserError(f'{name} is raised only while disarmed: call ~/disarm first.')
            guard.settings = guard.settings.model_copy(update={name: factor})

    # What is heard.

    def _joint_publishers(self, topic: str) -> list[str]:
        return publisher_names(self, self.resolve_topic_name(topic))

    def _joint_listener(self, topic: str) -> Callable[[JointState], None]:
        return lambda message: self._joints.add(topic, message, self.now_ns())

    def _on_fault(self, reason: str, detail: str) -> None:
        if self._guard.is_armed:
            self._stopping.leave(Event.FAULT, detail, reason)

    def _on_estop(self) -> None:
        if self._guard.machine.state is not State.ESTOP:
            self._stopping.leave(Event.ESTOP, f"True on '{topics.ESTOP}'.", reasons.ESTOP)

    def _on_jump(self, by_ns: int) -> None:
        self._guard.clock_jumped(by_ns)
        self._joints.clock_jumped(by_ns)
        if not self.is_active:
            return
        detail = f'The clock jumped by {by_ns * 1e-9:.2f} s.'
        self._stopping.leave(Event.FAULT, detail, reasons.CLOCK_JUMP)

    # What is looked at.

    def _tick(self) -> None:
        self._jumps.look()
        now_ns = self.now_ns()
        if self._guard.finish(now_ns):
            self._reports.publish_state()
        self._approval.expire(now_ns)
        if not self._guard.is_armed:
            if found := self._conditions.astray(now_ns):
                self._stopping.again(*found)
            return
        try:
            fault = self._conditions.fault(now_ns)
        except Exception as error:
            # Arms that nobody looks at do not go on.
            fault = reasons.ERROR, f'The watch failed: {type(error).__name__}: {error}'
        if fault is not None:
            self._stopping.leave(Event.FAULT, fault[1], fault[0])
        elif self._estop.is_lost:
            detail = 'The e-stop was not heard for too long.'
            self._stopping.leave(Event.ESTOP, detail, reasons.ESTOP_HEARTBEAT_LOST)

    # What is asked for.

    def _arm(self) -> str:
        now_ns = self.now_ns()
        armed, sentence = self._guard.arm(self._conditions.facts(now_ns), now_ns)
        if not armed:
            raise UserError(sentence)
        self._conditions.on_armed()
        self._reports.publish_state()
        return sentence + (' Dry run: nothing is sent.' if self._guard.dry_run else '')

    def _approve(self) -> str:
        self._jumps.look()
        return self._approval.approve()

    def _go_home(self) -> str:
        self._jumps.look()
        now_ns = self.now_ns()
        refusal = self._guard.refusal(now_ns)
        if refusal is not None or self._guard.motion is not None:
            raise UserError(refusal[1] if refusal else 'The arms are moving.')
        verdict = self._guard.judge_home(self._joints.positions, self._joints.stamp_ns, now_ns)
        if not verdict.accepted:
            raise UserError(verdict.detail)
        now_ns = self.now_ns()
        sent = self._dispatch.send(verdict, 0, now_ns)
        self._reports.preview(verdict, now_ns)
        return verdict.detail + ('' if sent else ' Dry run: nothing is sent.')

    def _trigger_estop(self) -> str:
        return self._stopping.leave(Event.ESTOP, 'The e-stop service was called.', reasons.ESTOP)

    def _reset_estop(self) -> str:
        if self._estop.is_pressed:
            raise UserError('The e-stop is still pressed: release it first.')
        if several := several_estops(self._estop.publishers):
            raise UserError(several)
        reset, sentence = self._guard.reset(self.now_ns())
        if not reset:
            raise UserError(sentence)
        self._reports.publish_state()
        return sentence


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT."""
    return run([ArmTrajectoryPublisher], args=args)


if __name__ == '__main__':
    sys.exit(main())
