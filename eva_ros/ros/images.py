"""Frames as image messages."""

from importlib import import_module

from cv_bridge import CvBridge
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image

from eva_ros.errors import UserError
from eva_ros.observations.images import decode_image
from eva_ros.ros.stamps import to_time

_BRIDGE = CvBridge()


def to_image(frame: NDArray[np.uint8], stamp_ns: int, frame_id: str = '') -> Image:
    """Return a frame [H, W, 3], RGB, as an image message."""
    message = _BRIDGE.cv2_to_imgmsg(np.ascontiguousarray(frame), 'rgb8')
    message.header.stamp = to_time(stamp_ns)
    message.header.frame_id = frame_id
    return message


def to_frame(message: Image) -> NDArray[np.uint8]:
    """Return an image message of any encoding as a frame [H, W, 3], RGB.

    Raises:
        UserError: the encoding is not known, or the data do not fill the image.
    """
    return decode_image(message)


def image_type(topic: str) -> type:
    """Return the message type of a camera's topic, which its last word says.

    `compressed` is sensor_msgs/CompressedImage, `video` foxglove_msgs/CompressedVideo, anything
    else sensor_msgs/Image.

    Raises:
        UserError: foxglove_msgs is needed and not installed.
    """
    last = topic.rpartition('/')[2]
    if last == 'compressed':
        return CompressedImage
    if last != 'video':
        return Image
    try:
        return import_module('foxglove_msgs.msg').CompressedVideo
    except ImportError:
        raise UserError(
            f"The camera on '{topic}' sends video, which needs the ROS package foxglove_msgs: "
            'install it, or send images on a topic that ends in /compressed.'
        ) from None
