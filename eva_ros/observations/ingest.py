"""Images and joint states in, observations out: live, in the closed loop and from bags.

The same messages give identical observations wherever they come from.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.observations.images import decode_image
from eva_ros.observations.images import format_doubt
from eva_ros.observations.joints import Floats
from eva_ros.observations.joints import JointReading
from eva_ros.observations.joints import JointTrack
from eva_ros.observations.joints import NotReady as NotReady
from eva_ros.observations.joints import NotYet as NotYet
from eva_ros.observations.reasons import doubt
from eva_ros.observations.reasons import spelled
from eva_ros.observations.stamp_repeats import Repeats
from eva_ros.observations.sync import AsOfBuffer
from eva_ros.observations.sync import Sample
from eva_ros.observations.video import is_video
from eva_ros.observations.video import VideoDecoder
from eva_ros.observations.views import ViewSpec
from eva_ros.observations.wraps import Wrap
from eva_ros.robot.spec import Camera
from eva_ros.robot.spec import Robot

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Observation:
    """Time-aligned camera images and joint state at one instant.

    Attributes:
        stamp_ns: the instant; nothing below is newer.
        view: the tiled image [H, W, 3], uint8, RGB.
        image_stamps: when each camera's image was taken, in the view's order.
        joint_positions: [J], rad, grippers 0 to 1.
        joint_stamp_ns: of the joint state, the older one's where there are two.
        joint_velocities: [J], nan where the robot reports none.
        at_rest: every joint was slower than the robot's rest velocity.
        before: observations before this one, the latest last, at the view's rate: what a model
            may tell the arms' speed from. Empty where the arms are at rest.
    """

    stamp_ns: int
    view: NDArray[np.uint8]
    image_stamps: dict[str, int]
    joint_positions: NDArray[np.float64]
    joint_stamp_ns: int
    joint_velocities: NDArray[np.float64]
    at_rest: bool
    before: tuple['Observation', ...] = ()


@dataclass(frozen=True)
class _Compressed:
    """The fields of sensor_msgs/CompressedImage that matter."""

    format: str
    data: Any


@dataclass(frozen=True, eq=False)
class _Shown:
    """A frame of a video, which must be decoded when it comes, as it stands in the view.

    None where it could not be decoded; `problem` says why.
    """

    picture: NDArray[np.uint8] | None
    problem: str = ''


class ObservationBuilder:
    """Makes observations of what has arrived so far.

    Images are decoded when an observation needs them, each once; the frames of video streams
    (foxglove_msgs/CompressedVideo, or its formats in sensor_msgs/CompressedImage) as they come.
    """

    def __init__(
        self,
        robot: Robot,
        view: ViewSpec,
        *,
        max_image_age_s: float = 2.0,
        max_joint_age_s: float = 0.5,
        max_age_s: Mapping[str, float] | None = None,
        on_clock_jump: Callable[[str], None] = _log.warning,
    ) -> None:
        """Begin with nothing.

        Args:
            robot: whose joints and cameras.
            view: how the cameras are tiled.
            max_image_age_s: no observation is made with an image older than this.
            max_joint_age_s: nor with joints older than this.
            max_age_s: another age for single cameras (by name) and joint-state topics.
            on_clock_jump: is given a sentence when stamps jump back and everything is forgotten.

        Raises:
            UserError: the view shows a camera that the robot has not.
        """
        missing = [name for name in view.camera_names if name not in robot.cameras]
        if missing:
            raise UserError(
                f"The view '{view.name}' shows {', '.join(missing)}, which '{robot.name}' has not "
                f'(it has {", ".join(robot.cameras)}).'
            )
        self._robot, self._view = robot, view
        ages_s = max_age_s or {}
        self._max_image_age_ns = {
            name: round(ages_s.get(name, max_image_age_s) * 1e9) for name in view.camera_names
        }
        self._images: dict[str, AsOfBuffer[Any]] = {n: AsOfBuffer() for n in view.camera_names}
        self._joints = JointTrack(robot, max_joint_age_s, ages_s)
        self._pictures: dict[str, tuple[Sample[Any], NDArray[np.uint8]]] = {}
        self._videos: dict[str, VideoDecoder] = {}
        self._repeats = {name: Repeats() for name in view.camera_names}
        self._last_ns: dict[str, int] = {}
        self._doubts: dict[str, str] = {}
        self._on_clock_jump = on_clock_jump

    def add_image(
        self,
        camera: str,
        stamp_ns: int,
        data: Any,
        format: str = 'jpeg',  # noqa: A002
    ) -> None:
        """Take in the bytes of a sensor_msgs/CompressedImage; other cameras are ignored."""
        self.add_image_message(camera, stamp_ns, _Compressed(format, data))

    def add_image_message(self, camera: str, stamp_ns: int, message: Any) -> None:
        """Take in whatever decode_image decodes; cameras that the view does not show are ignored.

        The message must not change afterwards.
        """
        if camera in self._images:
            self._count(camera, stamp_ns)
            value = self._frame(camera, message) if is_video(message) else message
            self._note(camera, stamp_ns, self._images[camera].add(stamp_ns, value))

    def add_joint_state(
        self,
        stamp_ns: int,
        names: Sequence[str],
        positions: Floats,
        velocities: Floats = (),
        topic: str = '',
    ) -> None:
        """Take in a joint state; `topic` is needed where the arms have a topic each."""
        jump_ns = self._joints.add(stamp_ns, names, positions, velocities, topic)
        self._note(topic or self._robot.joint_state_topics[0], stamp_ns, jump_ns)

    def newest(self) -> dict[str, int]:
        """Return the latest stamp of every camera and joint-state topic heard so far."""
        found = {name: buffer.newest for name, buffer in self._images.items()}
        images = {name: sample.stamp_ns for name, sample in found.items() if sample}
        return {**images, **self._joints.newest}

    def skipped(self) -> dict[str, int]:
        """Return how many video frames of each camera came before a keyframe, where any did."""
        return {name: video.skipped for name, video in self._videos.items() if video.skipped}

    def repeats(self) -> dict[str, Repeats]:
        """Return how many pictures of each camera repeat the stamp before them."""
        return dict(self._repeats)

    def doubts(self) -> dict[str, str]:
        """Return why the colours of a camera's latest picture are in doubt, where they are."""
        return dict(self._doubts)

    def wrap(self, since_ns: int, until_ns: int) -> Wrap | None:
        """Return the first encoder that wraps between the joint states as of two instants."""
        return self._joints.wrap(since_ns, until_ns)

    def next_fresh(self, camera: str, now_ns: int) -> int | None:
        """Return the first instant from `now_ns` on at which an image is there and not too old.

        None where no image that has been heard so far is.
        """
        buffer = self._images[camera]
        sample, after = buffer.at(now_ns), buffer.after(now_ns)
        if sample and now_ns - sample.stamp_ns <= self._max_image_age_ns[camera]:
            return now_ns
        return after.stamp_ns if after else None

    def latest(self, now_ns: int) -> Observation:
        """Return the observation as of an instant: of each stream the newest sample not after it.

        Raises:
            NotReady: a camera or joint is missing or too old, or an image cannot be used; says
                which.
        """
        images = {name: self._image(name, now_ns) for name in self._images}
        joints = self._joints.at(now_ns)
        pictures = {name: self._picture(name, sample) for name, sample in images.items()}
        return Observation(
            stamp_ns=now_ns,
            view=self._view.join(pictures),
            image_stamps={name: sample.stamp_ns for name, sample in images.items()},
            joint_positions=joints.positions,
            joint_stamp_ns=joints.stamp_ns,
            joint_velocities=joints.velocities,
            at_rest=self._joints.at_rest(now_ns),
        )

    def joints(self, now_ns: int) -> JointReading:
        """Return the joints alone as of an instant; NotReady as in `latest`."""
        return self._joints.at(now_ns)

    def joints_between(self, stamp_ns: int) -> NDArray[np.float64]:
        """Return the joints [J] interpolated at an instant in the past: labels, never inputs.

        Raises:
            NotReady: no joint state before or after the instant, a gap around it, or an encoder
                that wraps there.
        """
        return self._joints.interpolated(stamp_ns)

    def _count(self, camera: str, stamp_ns: int) -> None:
        before = self._repeats[camera]
        again = bool(stamp_ns) and stamp_ns == self._last_ns.get(camera)
        self._repeats[camera] = Repeats(before.repeated + again, before.heard + 1)
        self._last_ns[camera] = stamp_ns

    def _note(self, stream: str, stamp_ns: int, jump_ns: int) -> None:
        """Forget the other streams when one of them jumps back."""
        if not jump_ns:
            return
        for name, buffer in self._images.items():
            if name != stream:
                buffer.clear()
        if stream in self._images:
            self._joints.clear()
        self._on_clock_jump(
            f"The stamps of '{stream}' jumped back by {spelled(jump_ns * 1e-9)} to "
            f'{stamp_ns * 1e-9:.2f} s: what was received before is forgotten.'
        )

    def _image(self, name: str, now_ns: int) -> Sample[Any]:
        topic = self._robot.cameras[name].topic
        sample = self._images[name].at(now_ns)
        newest = self._images[name].newest
        if sample is None and newest:
            ahead_s = (newest.stamp_ns - now_ns) * 1e-9
            raise NotYet(f"The images of camera '{name}' on '{topic}'", ahead_s)
        if sample is None:
            raise NotReady(f"There is no image of camera '{name}' on '{topic}' yet.")
        age_ns = now_ns - sample.stamp_ns
        max_age_ns = self._max_image_age_ns[name]
        if age_ns > max_age_ns:
            raise NotReady(
                f"The newest image of camera '{name}' on '{topic}' is {spelled(age_ns * 1e-9)} "
                f'old (at most {max_age_ns * 1e-9:.2f} s): '
                f'{doubt(age_ns * 1e-9, "is the camera still running?")}'
            )
        return sample

    def _frame(self, camera: str, message: Any) -> _Shown:
        """Return a video frame as it stands in the view."""
        decoder = self._videos.setdefault(camera, VideoDecoder())
        try:
            picture = decoder.decode(message)
            if picture is None:
                return _Shown(None, f"The video of format '{message.format}' has no keyframe yet.")
            return _Shown(self._view.camera(camera).picture(picture))
        except UserError as error:
            return _Shown(None, str(error))

    def _picture(self, name: str, sample: Sample[Any]) -> NDArray[np.uint8]:
        """Return an image as it stands in the view, decoded once."""
        kept = self._pictures.get(name)
        if kept and kept[0] is sample:
            return kept[1]
        camera = self._robot.cameras[name]
        try:
            picture = self._shown(camera, sample.value)
            self._doubt(camera, sample.value)
        except UserError as error:
            raise NotReady(f"Camera '{name}' on '{camera.topic}': {error}") from error
        self._pictures[name] = (sample, picture)
        return picture

    def _doubt(self, camera: Camera, value: Any) -> None:
        said = '' if isinstance(value, _Shown) else format_doubt(value)
        self._doubts.pop(camera.name, None)
        if said:
            self._doubts[camera.name] = f"Camera '{camera.name}' on '{camera.topic}': {said}"

    def _shown(self, camera: Camera, value: Any) -> NDArray[np.uint8]:
        if isinstance(value, _Shown):
            if value.picture is None:
                raise UserError(value.problem)
            return value.picture
        return self._view.camera(camera.name).picture(decode_image(value, camera.value_range))
