"""A view: the tiled image of all cameras, which is what the models see."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic import model_validator

from eva_ros.errors import UserError
from eva_ros.robot.joint_naming import side_of
from eva_ros.robot.joint_naming import words
from eva_ros.robot.paths import config_dir
from eva_ros.robot.paths import find_config
from eva_ros.robot.spec import Robot
from eva_ros.robot.strict_yaml import load
from eva_ros.robot.strict_yaml import StrictModel

# A crop may change a camera's aspect ratio by this much: no more than a pixel's rounding.
_ASPECT_TOLERANCE = 0.02
# Both sides of a box are multiples of this: a world model cuts the view into such blocks, and no
# block then shows two cameras.
BLOCK = 16
# A world model dreams the first frame and then groups of this many.
GROUP = 4
# Side lengths of a view that is stored to be compared are divided by this.
_SHRINK = 4
# A camera with such a word and a side in its name is mounted on that arm; `left` alone may as well
# stand on a tripod that sees both arms.
_MOUNTS = {'wrist', 'hand', 'gripper', 'arm', 'eef', 'tool'}


class CameraView(StrictModel):
    """One camera's place in the view.

    Attributes:
        name: of the camera, as in the robot's YAML.
        box: y, x, height, width of its picture in the view, pixels.
        crop: y0, x0, y1, x1 of what is shown, as fractions of the camera's image.
        image_size: height and width of the camera's images, pixels; any where not stated.
        arms: whose joints an IDM trained on this view reads from this camera; where not stated,
            those of the arm that the camera's name begins with, else of all arms.
    """

    name: str
    box: tuple[int, int, int, int]
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    image_size: tuple[int, int] | None = None
    # Not part of what a checkpoint's view is recognised by: it changes no pixel.
    arms: tuple[str, ...] | None = Field(default=None, min_length=1, exclude=True)

    @model_validator(mode='after')
    def _check(self) -> 'CameraView':
        y, x, height, width = self.box
        if min(y, x) < 0 or min(height, width) < 1:
            raise ValueError(f'the box of {self.name} must be y, x, height, width in pixels')
        y0, x0, y1, x1 = self.crop
        if not (0 <= y0 < y1 <= 1 and 0 <= x0 < x1 <= 1):
            raise ValueError(f'the crop of {self.name} must be y0, x0, y1, x1 within 0 to 1')
        if self.image_size:
            self._check_aspect(*self.image_size)
        return self

    def _check_aspect(self, height: int, width: int) -> None:
        top, left, bottom, right = self.crop_pixels(height, width)
        shown = (bottom - top) / (right - left)
        wanted = self.box[2] / self.box[3]
        if abs(shown / wanted - 1) > _ASPECT_TOLERANCE:
            raise ValueError(
                f'the crop of {self.name} shows {bottom - top}x{right - left} pixels, which '
                f'do not fit its box of {self.box[2]}x{self.box[3]} undistorted'
            )

    def crop_pixels(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return top, left, bottom and right of the crop in an image of that size."""
        y0, x0, y1, x1 = self.crop
        return round(y0 * height), round(x0 * width), round(y1 * height), round(x1 * width)

    def picture(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a camera's image [H, W, 3] as it stands in the view [height, width, 3].

        Raises:
            UserError: the image has another size than stated; names the camera and both sizes.
        """
        size = (image.shape[0], image.shape[1])
        if self.image_size and size != self.image_size:
            raise UserError(
                f"Camera '{self.name}' gives images of {size[0]}x{size[1]} pixels, and the view "
                f'is made for {self.image_size[0]}x{self.image_size[1]}: set the camera to that '
                'size, or make another view and train the models on it.'
            )
        top, left, bottom, right = self.crop_pixels(*size)
        shown = image[top:bottom, left:right]
        return cv2.resize(shown, (self.box[3], self.box[2]), interpolation=cv2.INTER_AREA)


class ViewSpec(StrictModel):
    """How the cameras are tiled, and at which rate and length rollouts show them.

    Attributes:
        height: of the view, pixels.
        width: of the view, pixels.
        rate_hz: views in a second, in episodes and rollouts.
        frames: views in a rollout, the observed one included.
        cameras: in their order; the first one's stamps stand for the view.
    """

    name: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    rate_hz: float = Field(gt=0)
    frames: int = Field(gt=1)
    cameras: tuple[CameraView, ...] = Field(min_length=1)

    @model_validator(mode='after')
    def _check(self) -> 'ViewSpec':
        covered = np.zeros((self.height, self.width), np.uint8)
        for camera in self.cameras:
            y, x, height, width = camera.box
            if y + height > self.height or x + width > self.width:
                raise ValueError(f'the box of {camera.name} reaches out of the view')
            covered[y : y + height, x : x + width] += 1
        if covered.max() > 1:
            raise ValueError('two boxes overlap')
        if len(set(self.camera_names)) < len(self.cameras):
            raise ValueError('a camera stands in the view twice')
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return height, width and 3."""
        return self.height, self.width, 3

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Return the cameras' names in the view's order."""
        return tuple(camera.name for camera in self.cameras)

    def camera(self, name: str) -> CameraView:
        """Return a camera of the view by its name."""
        return next(camera for camera in self.cameras if camera.name == name)

    def tile(self, images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return the view of the cameras' images.

        Args:
            images: each camera's image [H, W, 3], RGB; those that the view does not show are
                ignored.

        Returns:
            [height, width, 3] uint8; black where no camera is shown.

        Raises:
            UserError: a camera is missing, or its image has another size than stated.
        """
        missing = [name for name in self.camera_names if name not in images]
        if missing:
            raise UserError(f"The view '{self.name}' lacks an image of {', '.join(missing)}.")
        return self.join({c.name: c.picture(images[c.name]) for c in self.cameras})

    def join(self, pictures: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """Return the view made of pictures that are already cropped and resized."""
        view = np.zeros(self.shape, np.uint8)
        for camera in self.cameras:
            y, x, height, width = camera.box
            view[y : y + height, x : x + width] = pictures[camera.name]
        return view

    def untile(self, view: NDArray) -> dict[str, NDArray]:
        """Return each camera's part of one or many views [..., height, width, 3].

        Raises:
            UserError: it has another size than this view.
        """
        if view.shape[-3:] != self.shape:
            raise UserError(
                f"The view '{self.name}' has the shape {self.shape}, and not {view.shape[-3:]}."
            )
        parts = {}
        for camera in self.cameras:
            y, x, height, width = camera.box
            parts[camera.name] = view[..., y : y + height, x : x + width, :]
        return parts


def load_view(name_or_path: str | Path) -> ViewSpec:
    """Return the view of that name in config/views, or of a YAML file.

    Raises:
        UserError: no such file, an unknown key, or boxes that do not fit; names the file.
    """
    return load(ViewSpec, find_config('views', name_or_path))


def view_of(robot: Robot, name_or_path: str | Path | None = None) -> ViewSpec:
    """Return a view by its name or file; where None, the one that has the robot's name.

    A robot without a view of its own gets all its cameras in a row (see `layout`).

    Raises:
        UserError: no such file, an unknown key, or boxes that do not fit; names the file.
    """
    if name_or_path is not None:
        return load_view(name_or_path)
    own = config_dir() / 'views' / f'{robot.name}.yaml'
    return load_view(own) if own.is_file() else layout(robot, f'{robot.name}_row')


def layout(
    robot: Robot,
    name: str,
    *,
    cameras: Sequence[str] = (),
    height: int = 96,
    columns: int | None = None,
    rate_hz: float = 10.0,
    frames: int = 17,
) -> ViewSpec:
    """Return a view that shows cameras of any size side by side, equally high and undistorted.

    A camera whose proportions do not fit into whole blocks loses a few rows or columns at both
    edges.

    Args:
        robot: Robot with the cameras and the size of their images.
        name: Name of the view.
        cameras: Names of the cameras to show, in this order; all of the robot's if empty.
        height: Height of each camera's picture in the view, pixels.
        columns: Pictures in a row of the view; all of them if None.
        rate_hz: Views per second.
        frames: Views in a rollout, the observed one included.

    Raises:
        UserError: No such camera, or a height or number of frames that no world model can dream.
    """
    chosen = list(cameras or robot.cameras)
    unknown = [camera for camera in chosen if camera not in robot.cameras]
    if unknown or not chosen:
        there = ', '.join(robot.cameras) or 'none'
        asked = f'no camera {", ".join(unknown)}' if unknown else 'no camera'
        raise UserError(f'{robot.name} has {asked} for a view (its cameras are: {there}).')
    columns = columns or len(chosen)
    rows = [chosen[start : start + columns] for start in range(0, len(chosen), columns)]
    placed = [view for y, row in enumerate(rows) for view in _row(robot, row, y * height, height)]
    made = ViewSpec(
        name=name,
        height=len(rows) * height,
        width=max(view.box[1] + view.box[3] for view in placed),
        rate_hz=rate_hz,
        frames=frames,
        cameras=tuple(placed),
    )
    require_dreamable(made)
    return made


def shrink(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a view [H, W, 3] at a quarter of its size, averaged, for comparing views."""
    height, width = view.shape[0] // _SHRINK, view.shape[1] // _SHRINK
    return cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA)


def require_dreamable(view: ViewSpec) -> None:
    """Refuse a view that a small world model cannot dream.

    Raises:
        UserError: A side is not a multiple of BLOCK, or the frames are not 1 + GROUP k.
    """
    if view.height % BLOCK or view.width % BLOCK or view.frames % GROUP != 1:
        raise UserError(
            f"The view '{view.name}' has {view.height}x{view.width} pixels and {view.frames} "
            f'frames, and a world model needs multiples of {BLOCK} pixels and 5, 9, 13, 17, ... '
            'frames: choose others (`eva view init` makes views that fit).'
        )


def _row(robot: Robot, names: Sequence[str], y: int, height: int) -> Iterator[CameraView]:
    """Yield cameras side by side, each cropped at both edges to the proportions of its box."""
    left = 0
    for camera in (robot.cameras[name] for name in names):
        width = BLOCK * max(1, round(camera.width * height / camera.height / BLOCK))
        stretch = width / height * camera.height / camera.width
        off_y, off_x = max(0.0, (1 - 1 / stretch) / 2), max(0.0, (1 - stretch) / 2)
        yield CameraView(
            name=camera.name,
            box=(y, left, height, width),
            crop=(round(off_y, 4), round(off_x, 4), round(1 - off_y, 4), round(1 - off_x, 4)),
            image_size=(camera.height, camera.width),
            arms=_seen_arms(camera.name, robot),
        )
        left += width


def _seen_arms(camera: str, robot: Robot) -> tuple[str, ...]:
    """Return the arms that a camera sees: one if it is mounted on it, by its name, else all."""
    side = side_of(camera)
    mounted = side in robot.arms and not _MOUNTS.isdisjoint(words(camera))
    return (side,) if mounted else tuple(robot.arms)
