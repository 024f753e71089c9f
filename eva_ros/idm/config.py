"""What an inverse dynamics model is made of, and which world it belongs to."""

from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from typing import Any
from typing import Protocol

ARMS = ('left', 'right')


class CameraBox(Protocol):
    """A camera of the view: where its picture lies in it."""

    name: str
    box: Sequence[int]
    arms: Sequence[str] | None


class View(Protocol):
    """What the model needs to know of `eva_ros.observations.views.ViewSpec`."""

    name: str
    height: int
    width: int
    rate_hz: float
    cameras: Sequence[CameraBox]


@dataclass(frozen=True)
class Camera:
    """One camera's place in the view.

    Attributes:
        name: as in the robot's YAML.
        box: y, x, height and width in the view, pixels.
        arms: whose joints are read from this camera; None decides by its name.
    """

    name: str
    box: tuple[int, int, int, int]
    arms: tuple[str, ...] | None = None

    def serves(self, arm: str) -> bool:
        """Return whether the arm's joints are read from this camera.

        Unless the view says otherwise, a camera named after an arm belongs to that arm alone, any
        other to both: an artefact in the picture of one wrist then cannot move the other arm.
        """
        if self.arms is not None:
            return arm in self.arms
        owners = [owner for owner in ARMS if self.name.startswith(owner)]
        return not owners or arm in owners


@dataclass(frozen=True)
class IdmConfig:
    """The shape of an inverse dynamics model and the world it was trained in.

    Attributes:
        robot: name of the robot.
        joint_names: outputs [J], left arm's before right arm's.
        gripper_mask: which of them are grippers [J].
        arms: name and number of joints, gripper included, of each arm; where there is none, two
            arms have half of the joints each (checkpoints from before robots had other arms).
        backbone: image backbone that looks at the pictures, as `backbones.read_backbone` describes
            it; None for the small towers.
        stacked: whether the three frames are stacked into one picture, to be looked at together,
            instead of joined late.
        view: name of the view.
        height: of the view, pixels.
        width: of the view, pixels.
        rate_hz: frames per second of the view.
        cameras: their boxes in the view.
        stride: frames between the three that are looked at together.
        widths: channels of a tower at a quarter and at an eighth of the camera's resolution.
        keypoints: spatial softmax maps per camera and arm.
        values: feature values read at each keypoint.
        hidden: width of the heads.
    """

    robot: str
    joint_names: tuple[str, ...]
    gripper_mask: tuple[bool, ...]
    view: str
    height: int
    width: int
    rate_hz: float
    cameras: tuple[Camera, ...]
    stride: int = 1
    widths: tuple[int, int] = (48, 96)
    keypoints: int = 32
    values: int = 8
    hidden: int = 256
    arms: tuple[tuple[str, int], ...] = ()
    backbone: dict[str, Any] | None = None
    stacked: bool = False

    @property
    def columns(self) -> dict[str, range]:
        """Return the columns of each arm's joints and gripper in J."""
        half = len(self.joint_names) // 2
        found, start = {}, 0
        for arm, count in self.arms or tuple((arm, half) for arm in ARMS):
            found[arm] = range(start, start + count)
            start += count
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> 'IdmConfig':
        """Return the configuration that `to_dict` wrote."""
        cameras = tuple(
            Camera(c['name'], tuple(c['box']), tuple(c['arms']) if c.get('arms') else None)
            for c in data['cameras']
        )
        lists = {key: tuple(value) for key, value in data.items() if isinstance(value, list)}
        arms = tuple((name, count) for name, count in data.get('arms', ()))
        return cls(**{**data, **lists, 'cameras': cameras, 'arms': arms})

    @classmethod
    def of(cls, robot: Any, view: View, **shape: Any) -> 'IdmConfig':
        """Return the configuration for a robot and a view.

        Args:
            robot: has name, arms, joint_names [J] and gripper_mask [J].
            view: has name, height, width, rate_hz and cameras.
            shape: whatever else shall differ from the defaults.
        """
        return cls(
            robot=robot.name,
            joint_names=tuple(robot.joint_names),
            gripper_mask=tuple(bool(value) for value in robot.gripper_mask),
            arms=tuple((name, len(arm.joint_names)) for name, arm in robot.arms.items()),
            view=view.name,
            height=view.height,
            width=view.width,
            rate_hz=float(view.rate_hz),
            cameras=tuple(
                Camera(
                    c.name,
                    (c.box[0], c.box[1], c.box[2], c.box[3]),
                    tuple(c.arms) if c.arms else None,
                )
                for c in view.cameras
            ),
            **shape,
        )
