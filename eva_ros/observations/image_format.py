"""What `format` of sensor_msgs/CompressedImage promises, held against the picture.

compressed_image_transport writes `ORIGINAL; CODEC compressed STORED`: the encoding of the raw
image, and the one it had when it was compressed (nothing where it was compressed as it was).
Drivers often write the codec alone, which promises no colours.
"""

from dataclasses import dataclass

from eva_ros.observations.picture_header import Header

_COLOURED = ('rgb', 'bgr', 'yuv', 'yuyv', 'uyvy', 'nv')


@dataclass(frozen=True)
class ImageFormat:
    """The words of a format in lower case.

    Attributes:
        text: as it was written.
        words: all of them.
        original: encoding of the raw image, '' where it is not said.
        stored: encoding as it was compressed, '' where it is not said.
    """

    text: str
    words: tuple[str, ...]
    original: str
    stored: str

    @property
    def mosaic(self) -> str:
        """Return the order of a Bayer mosaic that grey pixels hold, '' where they hold none."""
        if not self.original.startswith('bayer_') or self.stored.startswith('mono'):
            return ''
        return self.original.removeprefix('bayer_')[:4]

    def doubt(self, picture: Header) -> str:
        """Return how the colours that are promised differ from the picture's, '' if they don't.

        A mosaic is not in doubt: its colours are there.
        """
        said = f"its format '{self.text}' promises"
        coloured = self.original.startswith((*_COLOURED, 'bayer_'))
        coloured |= self.stored.startswith(_COLOURED)
        if picture.channels == 1 and coloured and not self.mosaic:
            return f'{said} colours and its picture is grey: have the driver publish bgr8 or rgb8.'
        if picture.channels > 1 and self.original.startswith('mono'):
            return f'{said} grey and its picture has {picture.channels} colour channels.'
        if self.stored.startswith('rgb'):
            return (
                f'{said} red and blue exchanged, and it is read as if they were not: see whether '
                "its colours are right, and have the driver write 'compressed bgr8'."
            )
        return ''


def parse_format(text: str) -> ImageFormat:
    """Return the parts of a format."""
    low = text.lower()
    original, separator, rest = low.partition(';')
    stored = rest.partition('compressed')[2].split()
    return ImageFormat(
        text,
        tuple(low.replace(';', ' ').split()),
        original.strip() if separator else '',
        stored[0] if stored else '',
    )
