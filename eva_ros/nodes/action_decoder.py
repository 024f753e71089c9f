"""Reads joint positions out of a rollout, and says how executable they are."""

import math
from typing import Any

from eva_msgs.msg import ActionChunk
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import Rollout
from eva_ros.alignment.reward import executability
from eva_ros.alignment.reward import MotionLimits
from eva_ros.control import reasons
from eva_ros.errors import NotFiniteError
from eva_ros.errors import UserError
from eva_ros.idm.checkpoint import load_idm
from eva_ros.idm.reading import read_rollout
from eva_ros.idm.reading import Reading
from eva_ros.nodes.checkpoints import checkpoint_folder
from eva_ros.observations.views import view_of
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.chunks import chunk_message
from eva_ros.ros.discovery import FirstListener
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.lifecycle import VIEW_PARAM
from eva_ros.ros.observations import check_robot
from eva_ros.ros.observations import joint_names
from eva_ros.ros.parameters import Param
from eva_ros.ros.reports import refusal_report
from eva_ros.ros.rollouts import received_rollout
from eva_ros.ros.rollouts import StampedRollout
from eva_ros.ros.run import run
from eva_ros.ros.worker import Worker
from eva_ros.training.weights import checkpoint_label


class ActionDecoder(EvaNode):
    """The node `action_decoder`."""

    PARAMS = (
        VIEW_PARAM,
        Param(
            'checkpoint',
            'default',
            "Folder of the inverse dynamics model; 'default' is the shipped one.",
        ),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(topics.ACTION_DECODER, **options)

    def _setup(self) -> None:
        self._view = view_of(self.robot, self.param('view') or None)
        folder = checkpoint_folder(self.param('checkpoint'), 'idm')
        self._model = load_idm(folder, self.robot, self._view)
        self._label = checkpoint_label(folder)
        self.diagnostics.report('idm', 'ok', 'loaded', checkpoint=self._label)
        self._publisher = self.publish_on(ActionChunk, topics.CHUNK, qos.PIPELINE)
        self._listener = FirstListener(self._publisher)
        self._reports = self.publish_on(ChunkReport, topics.CHUNK_REPORT, qos.REPORT)
        self._worker = Worker('decode', self.guarded('decode', self._decode))
        self.own(self._worker.close)
        self.listen_to(Rollout, topics.ROLLOUT, self._worker.submit, qos.PIPELINE)

    def _decode(self, message: Rollout) -> None:
        check_robot(message.robot, self.robot, 'rollout')
        joint_names(message.joint_names, self.robot, 'rollout')
        rollout = received_rollout(message)
        self._check_view(rollout)
        reading = self._read(message, rollout)
        chunk = chunk_message(
            rollout,
            self.robot.gripping(reading.smoothed),
            self._executability(reading),
            confidence=reading.confidence,
            checkpoint=self._label,
            now_ns=self.now_ns(),
        )
        self._listener.wait()
        self._publisher.publish(chunk)

    def _read(self, message: Rollout, rollout: StampedRollout) -> Reading:
        try:
            return read_rollout(self._model, rollout.frames)
        except NotFiniteError as error:
            # Whoever waits for the chunk waits in vain.
            missing = ActionChunk(
                observation_stamp=message.observation_stamp,
                observation_id=rollout.observation_id,
                rollout_id=rollout.rollout_id,
            )
            self._reports.publish(
                refusal_report(missing, reasons.NON_FINITE, str(error), self.now_ns())
            )
            raise

    def _executability(self, reading: Reading) -> dict[str, float]:
        """Judge what was read from the dream as it was read: smoothing would hide the gap."""
        limits = MotionLimits.of(self.robot.limits, self.robot.gripper_mask)
        judged = executability(reading.positions.double(), reading.dt, limits)
        return {name: float(value) for name, value in judged._asdict().items()}

    def _check_view(self, rollout: StampedRollout) -> None:
        size = (self._view.height, self._view.width)
        if rollout.frames.shape[1:3] != size:
            raise UserError(
                f'Rollout {rollout.rollout_id} has frames of {rollout.frames.shape[1:3]} pixels '
                f"and the view '{self._view.name}' has {size}: start both nodes with one view."
            )
        if not math.isclose(rollout.dt * self._view.rate_hz, 1.0, rel_tol=1e-3):
            raise UserError(
                f'Rollout {rollout.rollout_id} has a frame every {rollout.dt} s and the view '
                f"'{self._view.name}' {self._view.rate_hz} a second: start both nodes with one "
                'view.'
            )


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT."""
    return run([ActionDecoder], args=args)
