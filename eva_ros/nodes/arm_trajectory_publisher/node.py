"""The last guard before the arms: checks each chunk and sends both arms their motion, or neither.

Starts disarmed and in dry run. An e-stop latches. Whatever ends the work of this node in mid-
motion ends with both arms braking.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sensor_msgs.msg import JointState

from eva_msgs.msg import ActionChunk
from eva_ros.control import reasons
from eva_ros.control.collision_checks import unchecked_space
from eva_ros.control.command_supervisor import CommandSupervisor
from eva_ros.control.settings import load_gate_settings
from eva_ros.control.settings import MODES
from eva_ros.control.state import Event
from eva_ros.control.state import SafetyStateMachine
from eva_ros.control.state import several_estops
from eva_ros.control.state import State
from eva_ros.control.watchers import FileWatch
from eva_ros.errors import UserError
from eva_ros.nodes.arm_trajectory_publisher.commands import ArmCommands
from eva_ros.nodes.arm_trajectory_publisher.interrupts import ClockJumps
from eva_ros.nodes.arm_trajectory_publisher.interrupts import EstopTopic
from eva_ros.nodes.arm_trajectory_publisher.measured_joints import MeasuredJoints
from eva_ros.nodes.arm_trajectory_publisher.monitor import ArmMonitor
from eva_ros.nodes.arm_trajectory_publisher.outputs import ArmOutputs
from eva_ros.nodes.arm_trajectory_publisher.outputs import STEADY
from eva_ros.nodes.arm_trajectory_publisher.reports import ArmReports
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
    """The node `arm_trajectory_publisher`: parameters, timer, services and wiring.

    Chunks and operators' calls go to the command flow, the monitor says when to stop, the
    supervisor decides and keeps the state.

    Attributes:
        supervisor: Safety state and motion under way; while configured, like the others.
        joints: Measured joints.
        outputs: Ways out to both arms.
        estop: E-stop topic.
    """

    PARAMS = (
        Param('gate', '', "Settings of the command gate, a YAML; the package's if empty."),
        Param(
            'mode',
            '',
            "'look_dream_move' or 'overlap': chunks come at rest, or also while the arms move; "
            "the gate file's if empty.",
        ),
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
        given: dict[str, Any] = {n: self.param(n) for n in _SCALING if self.param(n) > 0.0}
        if self.param('mode'):
            given['mode'] = self._mode()
        settings = self._file_settings.model_copy(update=given)
        self.supervisor = CommandSupervisor(
            self.robot,
            settings,
            dry_run=self.param('dry_run'),
            now_ns=self.now_ns(),
            latched=self._latched,
        )
        self.supervisor.prepare()
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
        self.diagnostics.add_check('controllers', self._monitor.starts.health)
        self.diagnostics.add_check('joint states', self.joints.health)
        unchecked = unchecked_space(self.robot, settings)
        if unchecked is not None:
            self.diagnostics.report('collision', 'warn', unchecked)

    def _mode(self) -> str:
        mode = self.param('mode')
        if mode not in MODES:
            raise UserError(f"mode is '{mode}': {' or '.join(MODES)}.")
        return mode

    def _compose(self, files: FileWatch) -> None:
        supervisor, settings = self.supervisor, self.supervisor.settings
        self.joints = MeasuredJoints(self.robot, self._joint_publishers)
        self._jumps = ClockJumps(self, settings.max_clock_skew_s, self._on_jump)
        self.outputs = ArmOutputs(
            self, self.robot, settings, self.guarded('outputs', self._on_fault)
        )
        self._reports = ArmReports(self, supervisor, self.joints)
        self._commands = ArmCommands(
            self,
            supervisor,
            self.joints,
            self._jumps,
            self.outputs,
            self._reports,
            self.param('stamp_mode'),
        )
        self.estop = EstopTopic(
            self, settings.estop_heartbeat_s, self.guarded(topics.ESTOP, self._on_estop)
        )
        self._monitor = ArmMonitor(
            self, supervisor, self.joints, self.estop, self._jumps, self.outputs.topics, files
        )

    def _listen(self) -> None:
        commands = self._commands
        for topic in self.robot.joint_state_topics:
            self.listen_to(JointState, topic, self._joint_listener(topic), qos.SENSOR_INPUT)
        self.listen_to(ActionChunk, topics.CHUNK, commands.take, qos.REPORT)
        self.offer(topics.ARM, self._arm)
        self.offer(
            topics.DISARM,
            lambda: commands.leave(Event.DISARM, reasons.OPERATOR, 'Disarmed by the operator.'),
        )
        self.offer(
            topics.TRIGGER_ESTOP,
            lambda: commands.leave(Event.ESTOP, reasons.ESTOP, 'The e-stop service was called.'),
        )
        self.offer(topics.RESET_ESTOP, self._reset_estop)
        self.offer(topics.HOLD, commands.hold)
        self.offer(topics.APPROVE, commands.approve)
        self.offer(topics.REJECT, commands.reject)
        self.offer(topics.GO_HOME, commands.go_home)

    def _start(self) -> None:
        self._jumps.forget()
        self.joints.trust_stamps()
        self._monitor.starts.ask()
        if self.estop.was_pressed:
            detail = f"True on '{topics.ESTOP}' while the node was inactive."
            self._commands.leave(Event.ESTOP, reasons.ESTOP, detail)
        self._reports.publish_state()

    def _stop(self) -> None:
        self.estop.forget()
        try:
            self._commands.leave(
                Event.FAULT, reasons.DEACTIVATED, f'{self.get_name()} was stopped.'
            )
        finally:
            # An arm that cannot be reached takes nothing away from the other.
            self.outputs.finish()
            self._reports.finish()

    def _remember_estop(self) -> None:
        pressed = f"True on '{topics.ESTOP}' before the node was configured anew."
        self._latched = self.supervisor.latched(pressed if self.estop.was_pressed else '')

    def on_parameter(self, name: str, value: Any) -> None:
        """Take `dry_run`, while disarmed, and scaling factors, while armed only downwards."""
        if name == 'dry_run' and value != self.supervisor.dry_run:
            self.supervisor.set_dry_run(value, self.now_ns())
            self._reports.publish_state()
        elif name in _SCALING:
            self.supervisor.set_scaling(name, value or getattr(self._file_settings, name))

    # What is heard.

    def _joint_publishers(self, topic: str) -> list[str]:
        return publisher_names(self, self.resolve_topic_name(topic))

    def _joint_listener(self, topic: str) -> Callable[[JointState], None]:
        return lambda message: self.joints.add(topic, message, self.now_ns())

    def _on_fault(self, reason: str, detail: str) -> None:
        if self.supervisor.is_armed:
            self._commands.leave(Event.FAULT, reason, detail)

    def _on_estop(self) -> None:
        if self.supervisor.machine.state is not State.ESTOP:
            self._commands.leave(Event.ESTOP, reasons.ESTOP, f"True on '{topics.ESTOP}'.")

    def _on_jump(self, by_ns: int) -> None:
        self.supervisor.clock_jumped(by_ns)
        self.joints.clock_jumped(by_ns)
        if not self.is_active:
            return
        detail = f'The clock jumped by {by_ns * 1e-9:.2f} s.'
        self._commands.leave(Event.FAULT, reasons.CLOCK_JUMP, detail)

    # What is looked at.

    def _tick(self) -> None:
        self._jumps.look()
        now_ns = self.now_ns()
        if self.supervisor.finish(now_ns):
            self._reports.publish_state()
        self._commands.expire(now_ns)
        if not self.supervisor.is_armed:
            if astray := self._monitor.astray(now_ns):
                self._commands.stop_again(*astray)
        elif stop := self._monitor.look(now_ns):
            self._commands.leave(*stop)

    # What is asked for.

    def _arm(self) -> str:
        now_ns = self.now_ns()
        armed, sentence = self.supervisor.arm(self._monitor.facts(now_ns), now_ns)
        if not armed:
            raise UserError(sentence)
        self._monitor.on_armed()
        self._reports.publish_state()
        return sentence + (' Dry run: nothing is sent.' if self.supervisor.dry_run else '')

    def _reset_estop(self) -> str:
        if self.estop.is_pressed:
            raise UserError('The e-stop is still pressed: release it first.')
        if several := several_estops(self.estop.publishers):
            raise UserError(several)
        reset, sentence = self.supervisor.reset(self.now_ns())
        if not reset:
            raise UserError(sentence)
        self._reports.publish_state()
        return sentence


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT."""
    return run([ArmTrajectoryPublisher], args=args)
