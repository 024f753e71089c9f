"""Cameras and joint states in, observations out: what a rollout starts from.

Listens to the very streams that are recorded, and makes of them what is made of recordings.
"""

from collections import deque
from functools import partial
from typing import Any

from sensor_msgs.msg import JointState

from eva_msgs.msg import Observation
from eva_ros.episodes.settings import by_reception
from eva_ros.episodes.settings import ResamplingSettings
from eva_ros.observations.ingest import NotReady
from eva_ros.observations.ingest import ObservationBuilder
from eva_ros.observations.reasons import sentence
from eva_ros.observations.stamp_repeats import Repeats
from eva_ros.observations.views import view_of
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.diagnostics import Health
from eva_ros.ros.images import image_type
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.lifecycle import VIEW_PARAM
from eva_ros.ros.observations import observation_message
from eva_ros.ros.parameters import Param
from eva_ros.ros.run import run
from eva_ros.ros.stamps import to_ns

# Stamps are judged by the pictures of this time, and of fewer pictures they are not.
_JUDGED_S, _FEWEST = 10.0, 20
# Joint states may come in another order than they were stamped, so late at most.
_LATE_NS = 250_000_000
# How long an observation waits for new images, as a part of its period: a camera at 30 Hz sends
# one meanwhile, and observations stay nearly evenly spaced.
_PATIENCE = 0.45


class CameraIngest(EvaNode):
    """The node `camera_ingest`."""

    PARAMS = (
        VIEW_PARAM,
        Param(
            'publish_rate_hz',
            0.0,
            "Observations a second; 0 takes the view's rate.",
            low=0.0,
            high=100.0,
        ),
        Param(
            'stale_after_s',
            1.0,
            'A stream that is silent for so long is reported, and no observation made of it.',
            low=0.01,
            high=60.0,
        ),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(topics.CAMERA_INGEST, **options)

    def _setup(self) -> None:
        self._view = view_of(self.robot, self.param('view') or None)
        self._builder = ObservationBuilder(
            self.robot, self._view, on_clock_jump=self._on_clock_jump
        )
        self._count = 0
        self._by_reception = by_reception(ResamplingSettings(), self.robot)
        self._heard_ns: dict[str, int] = {}
        self._start_ns = self._latest_ns = 0
        self._publisher = self.publish_on(Observation, topics.OBSERVATION, qos.PIPELINE)
        self._streams = [self.robot.cameras[name].topic for name in self._view.camera_names]
        self._streams += self.robot.joint_state_topics
        for name in self._view.camera_names:
            topic = self.robot.cameras[name].topic
            self._follow(image_type(topic), topic, partial(self._on_image, name))
        for topic in self.robot.joint_state_topics:
            self._follow(JointState, topic, partial(self._on_joint_state, topic))
        rate_hz = self.param('publish_rate_hz') or self._view.rate_hz
        self._counts: deque[dict[str, Repeats]] = deque(maxlen=round(_JUDGED_S * rate_hz) + 1)
        self._counts.append(self._builder.repeats())
        self._looked_ns = 0
        self._due = False
        self._awaited: set[str] = set()
        self.call_every(1.0 / rate_hz, self._tick)
        self._patience = self.call_every(_PATIENCE / rate_hz, self._publish)
        self._patience.cancel()

    def _follow(self, kind: type, topic: str, callback: Any) -> None:
        """Listen to a stream and watch that it goes on."""

        def on_message(message: Any) -> None:
            self._heard_ns[topic] = self._time_ns()
            callback(message)

        self.listen_to(kind, topic, on_message, qos.SENSOR_INPUT)
        self.diagnostics.add_check(f'{topic} stream', partial(self._stream_health, topic))

    def _start(self) -> None:
        self._start_ns = self._time_ns()

    def _time_ns(self) -> int:
        """Return the ROS time; where it was set back, streams are waited for as at the start."""
        now_ns = self.now_ns()
        if now_ns < self._latest_ns:
            self._heard_ns.clear()
            self._start_ns = now_ns
        self._latest_ns = now_ns
        return now_ns

    def _on_image(self, camera: str, message: Any) -> None:
        # foxglove's video messages have a time instead of a header.
        stamp = message.header.stamp if hasattr(message, 'header') else message.timestamp
        stamp_ns = to_ns(stamp)
        self._builder.add_image_message(camera, stamp_ns, message)
        if stamp_ns <= self.now_ns():
            self._awaited.discard(camera)
        if self._due and not self._awaited:
            self._publish()

    def _on_joint_state(self, topic: str, message: JointState) -> None:
        received = topic in self._by_reception
        stamp_ns = self.now_ns() if received else to_ns(message.header.stamp)
        self._builder.add_joint_state(
            stamp_ns, message.name, message.position, message.velocity, topic
        )

    def _on_clock_jump(self, sentence: str) -> None:
        self.get_logger().warning(sentence)

    def _tick(self) -> None:
        """Let an observation be due: it is made of the next image of each camera.

        Where they do not all come in time, it is made of what there is.
        """
        if self._due:
            self._publish()
        self._due, self._awaited = True, set(self._view.camera_names)
        self._patience.reset()

    def _publish(self) -> None:
        self._due = False
        self._patience.cancel()
        self._counts.append(self._builder.repeats())
        self._watch_encoders()
        silent = [topic for topic, age_s in self._ages().items() if self._is_silent(age_s)]
        if silent:
            self.diagnostics.report('observation', 'error', f'not made: {_nothing(silent[0])}')
            return
        repeating = [said for name in self._view.camera_names if (said := self._repeating(name))]
        if repeating:
            self.diagnostics.report('observation', 'error', f'not made: {repeating[0]}')
            return
        try:
            observation = self._builder.latest(self.now_ns())
        except NotReady as reason:
            new = self.now_ns() - self._start_ns < self.param('stale_after_s') * 1e9
            level = 'ok' if new else 'error'
            self.diagnostics.report('observation', level, f'not made: {reason}')
            return
        self._count += 1
        self._publisher.publish(observation_message(observation, self._count, self.robot))
        self.diagnostics.report('observation', 'ok', 'published', count=self._count)

    def _watch_encoders(self) -> None:
        """Report an encoder that wrapped; the report stays until the node is set up again."""
        since_ns, self._looked_ns = self._looked_ns - _LATE_NS, self.now_ns()
        wrap = self._builder.wrap(since_ns, self._looked_ns)
        if wrap:
            self.diagnostics.report(
                'encoders', 'warn', sentence(f'{wrap}: restart its driver within the right turn')
            )

    # Health.

    def _recent(self, camera: str) -> Repeats:
        return self._counts[-1][camera].since(self._counts[0][camera])

    def _repeating(self, camera: str) -> str:
        """Return that a camera repeats too many stamps, '' where it does not."""
        recent = self._recent(camera)
        if recent.heard < _FEWEST or not recent.is_too_many:
            return ''
        return f"of camera '{camera}', {recent}: does its driver stamp each picture?"

    def _doubt(self, topic: str) -> str:
        """Return what is doubtful about a camera that is heard, '' where nothing is."""
        for name in self._view.camera_names:
            if self.robot.cameras[name].topic == topic:
                recent = self._recent(name)
                repeats = f'{recent}.' if recent.repeated else ''
                return self._builder.doubts().get(name, repeats)
        return ''

    def _ages(self) -> dict[str, float]:
        """Return how long ago each stream was heard, or else the node was started, s."""
        now_ns = self._time_ns()
        # A simulated clock stands at zero until the first message on /clock.
        self._start_ns = self._start_ns or now_ns
        return {
            topic: (now_ns - self._heard_ns.get(topic, self._start_ns)) * 1e-9
            for topic in self._streams
        }

    def _is_silent(self, age_s: float) -> bool:
        return age_s > self.param('stale_after_s')

    def _stream_health(self, topic: str) -> Health:
        age_s = self._ages()[topic]
        if not self._is_silent(age_s):
            said = 'received' if topic in self._heard_ns else 'awaited'
            doubt = self._doubt(topic)
            return Health('warn' if doubt else 'ok', doubt or said, {'age_s': round(age_s, 3)})
        publishers = self.count_publishers(topic)
        return Health('error', _nothing(topic), {'publishers': publishers, 'age_s': age_s})


def _nothing(topic: str) -> str:
    return f"nothing is heard on '{topic}': is its driver running, and its QoS compatible?"


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT."""
    return run([CameraIngest], args=args)
