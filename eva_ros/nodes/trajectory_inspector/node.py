"""Draws what the arms are about to do: paths, dreamed frames and a ghost of the robot.

Never touches a command topic.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sensor_msgs.msg import Image
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from eva_msgs.msg import ActionChunk
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import Rollout
from eva_ros.control.chunk import Chunk
from eva_ros.control.chunk import in_robot_order
from eva_ros.control.reasons import RefusedError
from eva_ros.errors import UserError
from eva_ros.nodes.trajectory_inspector.path_markers import path_markers
from eva_ros.robot.kinematics import ForwardKinematics
from eva_ros.robot.urdf import root_link
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.chunks import received_chunk
from eva_ros.ros.images import to_image
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.observations import check_robot
from eva_ros.ros.parameters import Param
from eva_ros.ros.rollouts import received_rollout
from eva_ros.ros.rollouts import StampedRollout
from eva_ros.ros.run import run
from eva_ros.ros.stamps import to_time

_TICK_S = 0.02


@dataclass(frozen=True)
class Shown:
    """A chunk, in the robot's joint order, and what became of it."""

    chunk: Chunk
    positions: np.ndarray
    verdict: str = 'not judged yet'


class TrajectoryInspector(EvaNode):
    """The node `trajectory_inspector`."""

    PARAMS = (
        Param(
            'playback_speed',
            1.0,
            'Speed of the dreamed frames and of the ghost; 1 is real time.',
            low=0.01,
            high=100.0,
            live=True,
        ),
        Param(
            'pause_s',
            0.5,
            'Pause at the end before they begin again.',
            low=0.0,
            high=60.0,
            live=True,
        ),
        Param('ghost', True, 'Publish the joint states of the ghost.'),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(topics.TRAJECTORY_INSPECTOR, **options)

    def _setup(self) -> None:
        self._kinematics = None
        if self.robot.has_end_effectors:
            self._kinematics = ForwardKinematics(self.robot)
            self._frame_id = topics.frame_prefix(self.get_namespace()) + root_link(self.robot)
        else:
            sentence = (
                f'{self.robot.name} has no URDF with an end_effector_frame: no paths are drawn.'
            )
            self.diagnostics.report('paths', 'warn', sentence)
        self._shown: Shown | None = None
        self._rollout: StampedRollout | None = None
        self._start_ns = 0
        self._frame = -1
        self._markers = self.publish_on(MarkerArray, topics.MARKERS, qos.LATCHED)
        self._dream = self.publish_on(Image, topics.DREAM, qos.SENSOR_OUTPUT)
        self._ghost = self.publish_on(JointState, topics.GHOST_JOINT_STATES, qos.SENSOR_OUTPUT)
        self.listen_to(Rollout, topics.ROLLOUT, self._on_rollout, qos.PIPELINE)
        self.listen_to(ActionChunk, topics.CHUNK, self._on_chunk, qos.PIPELINE)
        self.listen_to(ChunkReport, topics.CHUNK_REPORT, self._on_report, qos.REPORT)
        self.call_every(_TICK_S, self._play)

    def _on_rollout(self, message: Rollout) -> None:
        check_robot(message.robot, self.robot, 'rollout')
        self._rollout = received_rollout(message)
        self._start_ns, self._frame = self.now_ns(), -1

    def _on_chunk(self, message: ActionChunk) -> None:
        check_robot(message.robot, self.robot, 'chunk')
        chunk = received_chunk(message)
        try:
            positions, _ = in_robot_order(chunk, self.robot.joint_names)
        except RefusedError as refusal:
            raise UserError(refusal.detail) from refusal
        self._shown = Shown(chunk, positions)
        self._start_ns, self._frame = self.now_ns(), -1
        self._draw()

    def _on_report(self, report: ChunkReport) -> None:
        shown = self._shown
        if shown is None or shown.chunk.rollout_id != report.rollout_id:
            return
        said = 'accepted' if report.accepted else 'refused'
        verdict = f'{"sent" if report.sent else said}: {report.detail}'
        self._shown = Shown(shown.chunk, shown.positions, verdict)
        self._draw()

    def _draw(self) -> None:
        if self._shown is None or self._kinematics is None:
            return
        chunk, positions = self._shown.chunk, self._shown.positions
        caption = f"rollout {chunk.rollout_id} '{chunk.instruction}'\n{self._shown.verdict}"
        self._markers.publish(
            path_markers(
                positions,
                chunk.dt,
                self._kinematics.end_effector(positions),
                self.robot,
                caption,
                Header(frame_id=self._frame_id, stamp=to_time(self.now_ns())),
            )
        )

    def _play(self) -> None:
        """Show the frame that is due, and the ghost where that frame was decoded to."""
        if self._rollout is None:
            return
        now_ns = self.now_ns()
        frame = self._due(now_ns, self._rollout)
        if frame == self._frame:
            return
        self._frame = frame
        if self._dream.get_subscription_count():
            self._dream.publish(to_image(self._rollout.frames[frame], now_ns))
        if self.param('ghost'):
            self._move_ghost(frame, now_ns)

    def _due(self, now_ns: int, rollout: StampedRollout) -> int:
        steps = len(rollout.frames)
        period_s = steps * rollout.dt + self.param('pause_s')
        elapsed_s = (now_ns - self._start_ns) * 1e-9 * self.param('playback_speed') % period_s
        return min(int(elapsed_s / rollout.dt), steps - 1)

    def _move_ghost(self, frame: int, now_ns: int) -> None:
        shown, rollout = self._shown, self._rollout
        if shown is None or rollout is None or self._kinematics is None:
            return
        if shown.chunk.rollout_id != rollout.rollout_id:
            return
        values = self._kinematics.to_urdf(shown.positions[frame])
        message = JointState(name=self._kinematics.urdf_names, position=values.tolist())
        message.header.stamp = to_time(now_ns)
        self._ghost.publish(message)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT."""
    return run([TrajectoryInspector], args=args)
