"""The last guard before the arms: checks each chunk and publishes both trajectories, or neither.

Starts disarmed and in dry run. An e-stop latches. Whatever ends the work of this node in mid-
motion ends with both arms braking.
"""

from collections.abc import Callable
from pathlib import Path
import sys
from typing import Any

from rclpy.clock import JumpThreshold
from rclpy.clock import TimeJump
from rclpy.duration import Duration
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from eva_msgs.msg import ActionChunk
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import SafetyState
from eva_ros.control import reasons
from eva_ros.control.settings import load_gate_settings
from eva_ros.control.state import ArmingFacts
from eva_ros.control.state import Event
from eva_ros.errors import UserError
from eva_ros.nodes.arm_guard import ArmGuard
from eva_ros.nodes.arm_guard import Command
from eva_ros.nodes.measured_joints import MeasuredJoints
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.chunks import received_chunk
from eva_ros.ros.diagnostics import Health
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.lifecycle import flush
from eva_ros.ros.parameters import Param
from eva_ros.ros.reports import refusal_report
from eva_ros.ros.reports import safety_message
from eva_ros.ros.reports import verdict_report
from eva_ros.ros.run import run
from eva_ros.ros.trajectories import path_message
from eva_ros.ros.trajectories import trajectory_message

# A reason of ChunkReport that the gate has no use for.
_DEACTIVATED = 'DEACTIVATED'
_NO_FAULT = (reasons.OK, reasons.OPERATOR, _DEACTIVATED)
_TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'
_TICK_S = 0.02
# Looking at who else publishes costs a walk through the graph.
_TICKS_PER_LOOK = 50
# A lost joint state is one that is still lost after the executor had time to take newer ones.
_TICKS_LOST = 5
_FORWARD_JUMP = Duration(seconds=5)
_BACKWARD_JUMP = Duration(nanoseconds=-1)


class ArmTrajectoryPublisher(EvaNode):
    """The node `arm_trajectory_publisher`."""

    PARAMS = (
        Param('gate', '', "Settings of the command gate, a YAML; the package's if empty."),
        Param(
            'dry_run',
            True,
            'Do everything but publish to the controllers; changes only while disarmed.',
            live=True,
        ),
        Param(
            'stamp_mode',
            'common',
            "'common': both trajectories carry the time of sending; "
            "'zero': they begin at receipt, where clocks are not shared.",
        ),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(topics.ARM_TRAJECTORY_PUBLISHER, **options)

    def _setup(self) -> None:
        if self.param('stamp_mode') not in ('common', 'zero'):
            raise UserError(f"stamp_mode is '{self.param('stamp_mode')}': common or zero.")
        self._check_controllers(dry_run=self.param('dry_run'))
        path = Path(self.param('gate')) if self.param('gate') else None
        settings = load_gate_settings(self.robot.name, path)
        self._guard = ArmGuard(
            self.robot, settings, dry_run=self.param('dry_run'), now_ns=self.now_ns()
        )
        self._joints = MeasuredJoints(self.robot)
        self._estop_pressed = False
        self._clock_jumped = False
        self._ticks = self._ticks_lost = 0
        self._speak()
        self._listen()
        self.call_every(_TICK_S, self._tick)
        self.diagnostics.add_check('arms', self._health)

    def _check_controllers(self, *, dry_run: bool) -> None:
        for arm in self.robot.arms.values():
            if arm.controller.type != _TRAJECTORY and not dry_run:
                raise UserError(
                    f"The {arm.name} arm of '{self.robot.name}' takes {arm.controller.type}, and "
                    f'this version sends {_TRAJECTORY} alone: leave dry_run true.'
                )

    def _speak(self) -> None:
        self._arms = {
            name: self.publish_on(JointTrajectory, arm.controller.topic, qos.COMMAND)
            for name, arm in self.robot.arms.items()
            if arm.controller.type == _TRAJECTORY
        }
        self._preview = self.publish_on(JointTrajectory, topics.PREVIEW, qos.LATCHED)
        self._reports = self.publish_on(ChunkReport, topics.CHUNK_REPORT, qos.REPORT)
        self._safety = self.publish_on(SafetyState, topics.SAFETY_STATE, qos.LATCHED)

    def _listen(self) -> None:
        for topic in self.robot.joint_state_topics:
            self.listen_to(JointState, topic, self._joint_listener(topic), qos.SENSOR_INPUT)
        self.listen_to(ActionChunk, topics.CHUNK, self._on_chunk, qos.REPORT)
        self.listen_to(Bool, topics.ESTOP, self._on_estop, qos.REPORT)
        self.offer(topics.ARM, self._arm)
        self.offer(topics.DISARM, lambda: self._leave(Event.DISARM, 'Disarmed by the operator.'))
        self.offer(topics.TRIGGER_ESTOP, lambda: self._estop('The e-stop service was called.'))
        self.offer(topics.RESET_ESTOP, self._reset)
        self.offer(topics.HOLD, self._hold)
        threshold = JumpThreshold(
            min_forward=_FORWARD_JUMP, min_backward=_BACKWARD_JUMP, on_clock_change=False
        )
        jumps = self.get_clock().create_jump_callback(
            threshold, post_callback=self.guarded('clock', self._on_jump)
        )
        self.own(jumps.unregister)

    def _start(self) -> None:
        self._clock_jumped = False
        self._show()

    def _stop(self) -> None:
        self._leave(Event.FAULT, 'The node was stopped.', _DEACTIVATED)
        flush([*self._arms.values(), self._safety])

    def on_parameter(self, name: str, value: Any) -> None:
        """Take `dry_run`, while disarmed."""
        if name == 'dry_run' and value != self._guard.dry_run:
            if self._guard.is_armed:
                raise UserError('dry_run changes only while disarmed: call ~/disarm first.')
            self._check_controllers(dry_run=value)
            self._guard.dry_run = value
            self._show()

    # What is heard.

    def _joint_listener(self, topic: str) -> Callable[[JointState], None]:
        return lambda message: self._joints.add(topic, message, self.now_ns())

    def _on_chunk(self, message: ActionChunk) -> None:
        now_ns = self.now_ns()
        try:
            report = self._judged(message, now_ns)
        except UserError as error:
            report = refusal_report(message, reasons.SHAPE_MISMATCH, str(error), now_ns)
        self._reports.publish(report)
        level = 'ok' if report.accepted else 'warn'
        self.diagnostics.report('chunk', level, report.detail, rollout_id=report.rollout_id)

    def _judged(self, message: ActionChunk, now_ns: int) -> ChunkReport:
        if message.robot != self.robot.name:
            detail = f"The chunk is for robot '{message.robot}', not for '{self.robot.name}'."
            return refusal_report(message, 'ROBOT_MISMATCH', detail, now_ns)
        refusal = self._guard.refusal()
        if refusal is not None:
            return refusal_report(message, *refusal, now_ns)
        joints = self._joints
        chunk = received_chunk(message)
        verdict = self._guard.judge(chunk, joints.positions, joints.stamp_ns, now_ns)
        now_ns = self.now_ns()
        command = self._guard.execute(verdict, message.rollout_id, now_ns)
        if command:
            self._send(command, 0 if self.param('stamp_mode') == 'zero' else now_ns)
            self._show()
        if verdict.path is not None:
            self._preview.publish(path_message(self.robot, verdict.path, now_ns))
        return verdict_report(message, verdict, self.robot, now_ns, sent=bool(command))

    def _on_estop(self, message: Bool) -> None:
        self._estop_pressed = message.data
        if message.data:
            self._estop(f"True on '{topics.ESTOP}'.")

    def _on_jump(self, jump: TimeJump) -> None:
        # The first message on /clock sets the time; that is no jump.
        if self.is_active and jump.delta.nanoseconds < self.now_ns():
            self._clock_jumped = True
            self._leave(
                Event.FAULT,
                f'The clock jumped by {jump.delta.nanoseconds * 1e-9:.2f} s.',
                reasons.CLOCK_JUMP,
            )

    def _tick(self) -> None:
        now_ns = self.now_ns()
        if self._guard.finish(now_ns):
            self._show()
        if not self._guard.is_armed:
            return
        age_s = self._joints.age_s(now_ns)
        fresh = age_s is not None and age_s <= self._guard.settings.max_joint_state_age_s
        self._ticks_lost = 0 if fresh else self._ticks_lost + 1
        if self._ticks_lost >= _TICKS_LOST:
            self._leave(
                Event.FAULT, f'The joint states are {age_s:.2f} s old.', reasons.STALE_JOINT_STATE
            )
        self._ticks += 1
        if self._ticks % _TICKS_PER_LOOK == 0 and (others := self._other_publishers()):
            self._leave(
                Event.FAULT,
                f'{", ".join(others)} publishes to the arms too.',
                reasons.SECOND_PUBLISHER,
            )

    # What is asked for.

    def _arm(self) -> str:
        now_ns = self.now_ns()
        facts = ArmingFacts(
            joint_state_age_s=self._joints.age_s(now_ns),
            estop_pressed=self._estop_pressed,
            other_publishers=self._other_publishers(),
            clock_jumped=self._clock_jumped,
            use_sim_time=self.param('use_sim_time'),
        )
        armed, sentence = self._guard.arm(facts, now_ns)
        if not armed:
            raise UserError(sentence)
        self._ticks_lost = 0
        self._show()
        return sentence + (' Dry run: nothing is sent.' if self._guard.dry_run else '')

    def _estop(self, detail: str) -> str:
        return self._leave(Event.ESTOP, detail, reasons.ESTOP)

    def _reset(self) -> str:
        if self._estop_pressed:
            raise UserError('The e-stop is still pressed: release it first.')
        reset, sentence = self._guard.reset(self.now_ns())
        if not reset:
            raise UserError(sentence)
        self._show()
        return sentence

    def _hold(self) -> str:
        if self._guard.motion is None:
            return 'The arms are not moving.'
        self._send(self._guard.stop(self._joints.positions, self.now_ns()), 0)
        return 'The arms brake; they stay armed.'

    def _leave(self, event: Event, detail: str, reason: str = reasons.OPERATOR) -> str:
        went, sentence, command = self._guard.leave(
            event, reason, detail, self._joints.positions, self.now_ns()
        )
        if command:
            # Stamp zero: a stop must begin when it arrives, however late that is.
            self._send(command, 0)
        self._show()
        if not went:
            raise UserError(sentence)
        return sentence

    # What is said.

    def _send(self, command: Command, stamp_ns: int) -> None:
        """Publish to both arms; both messages are built before the first is published."""
        messages = {
            arm: trajectory_message(trajectory, stamp_ns) for arm, trajectory in command.items()
        }
        for arm, message in messages.items():
            self._arms[arm].publish(message)

    def _show(self) -> None:
        guard = self._guard
        self._safety.publish(
            safety_message(
                guard.machine,
                self.robot,
                guard.entered_ns,
                dry_run=guard.dry_run,
                rollout_id=guard.rollout_id,
            )
        )
        self.diagnostics.publish()

    def _health(self) -> Health:
        machine = self._guard.machine
        level = 'ok' if machine.reason in _NO_FAULT else 'error'
        age_s = self._joints.age_s(self.now_ns())
        return Health(
            level,
            f'{machine.state.value}: {machine.detail}',
            {'dry_run': self._guard.dry_run, 'joint_state_age_s': age_s},
        )

    def _other_publishers(self) -> list[str]:
        me = (self.get_name(), self.get_namespace())
        return sorted(
            {
                f'{info.node_namespace.rstrip("/")}/{info.node_name}'
                for publisher in self._arms.values()
                for info in self.get_publishers_info_by_topic(publisher.topic_name)
                if (info.node_name, info.node_namespace) != me
            }
        )


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT."""
    return run([ArmTrajectoryPublisher], args=args)


if __name__ == '__main__':
    sys.exit(main())
