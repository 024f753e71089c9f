"""Video streams in bags and on topics (H.264, H.265, VP9, AV1): a message a frame.

Such streams have no B-frames, and each keyframe carries its parameter sets, as
foxglove_msgs/CompressedVideo demands; the data are Annex B.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.observations.images import decode_image

_CODECS = {
    'h264': 'h264', 'avc': 'h264', 'h265': 'hevc', 'hevc': 'hevc', 'vp9': 'vp9', 'av1': 'av1',
}  # fmt: skip
# NAL units of a picture that can be decoded without others (ITU-T H.264 table 7-1, an IDR
# slice; H.265 table 7-1, the IRAP pictures).
_H264_KEYS = frozenset({5})
_H265_KEYS = frozenset(range(16, 24))


def is_video(message: Any) -> bool:
    """Return whether a message is a frame of a video stream."""
    return not hasattr(message, 'encoding') and str(message.format).lower() in _CODECS


class VideoDecoder:
    """Decodes one stream, a message at a time, from its first keyframe on."""

    def __init__(self) -> None:
        self._format = ''
        self._context: Any = None
        self.skipped = 0

    def decode(self, message: Any) -> NDArray[np.uint8] | None:
        """Return the picture [H, W, 3] in the next message, RGB; None before a keyframe.

        Raises:
            UserError: the data cannot be decoded; decoding goes on at the next keyframe.
        """
        data = bytes(message.data)
        if self._context is None or message.format != self._format:
            self._open(message.format)
            self._waits = True
        if self._waits and not self._is_key(data):
            self.skipped += 1
            return None
        try:
            picture = self._picture(data)
        except Exception as error:  # PyAV has many, and damaged data meet all of them
            self._context = None
            raise UserError(
                f"A video frame of format '{message.format}', {len(data)} bytes, cannot be "
                f'decoded ({type(error).__name__}).'
            ) from None
        self._waits = False
        return picture

    def _open(self, form: str) -> None:
        import av

        self._format = form
        self._codec = _CODECS[form.lower()]
        self._context = av.CodecContext.create(self._codec, 'r')
        # A frame comes out with the packet that holds it, and always the same one.
        self._context.thread_count = 1
        self._context.options = {'flags': '+low_delay'}

    def _picture(self, data: bytes) -> NDArray[np.uint8]:
        import av

        frames = self._context.decode(av.Packet(data))
        if len(frames) != 1 or frames[0].is_corrupt:
            raise ValueError('no frame')
        return frames[0].to_ndarray(format='rgb24')

    def _is_key(self, data: bytes) -> bool:
        if self._codec == 'h264':
            return any(head & 0x1F in _H264_KEYS for head in _heads(data))
        if self._codec == 'hevc':
            return any(head >> 1 & 0x3F in _H265_KEYS for head in _heads(data))
        return True


def _heads(data: bytes) -> Iterator[int]:
    """Yield the first byte of each NAL unit of an Annex B stream."""
    at = data.find(b'\0\0\1')
    while 0 <= at < len(data) - 3:
        yield data[at + 3]
        at = data.find(b'\0\0\1', at + 3)


class Pictures:
    """The pictures of several image topics, whatever their messages are."""

    def __init__(self) -> None:
        self._streams: dict[str, VideoDecoder] = {}

    def decode(
        self, topic: str, message: Any, value_range: tuple[float, float] | None = None
    ) -> NDArray[np.uint8] | None:
        """Return a message's picture [H, W, 3], RGB; None for video before its first keyframe.

        Args:
            topic: names the stream; its messages must come in their order.
            message: as decode_image takes it, or a frame of a video stream.
            value_range: see decode_image.

        Raises:
            UserError: the picture cannot be decoded.
        """
        if is_video(message):
            return self._streams.setdefault(topic, VideoDecoder()).decode(message)
        return decode_image(message, value_range)
