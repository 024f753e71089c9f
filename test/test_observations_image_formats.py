"""What a compressed image's format promises is compared with the picture it holds."""

from types import SimpleNamespace

import cv2
from episode_bags import jpeg
from episode_bags import messages
from episode_bags import picture
from episode_bags import Recording
from episode_bags import write_bag
import numpy as np
import pytest

from eva_ros.inspection.check import check_bag
from eva_ros.observations.images import decode_compressed
from eva_ros.observations.images import decode_image
from eva_ros.observations.images import format_doubt
from eva_ros.observations.views import load_view
from eva_ros.robot.spec import load_robot

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
TOP = '/top/image_raw/compressed'
# Which colour each pixel of a square of four has.
ORDERS = {'rggb': (0, 1, 1, 2), 'bggr': (2, 1, 1, 0), 'gbrg': (1, 2, 0, 1), 'grbg': (1, 0, 2, 1)}
COLOUR = np.zeros((48, 64, 3), np.uint8)
COLOUR[:, :32], COLOUR[:, 32:] = (200, 60, 20), (30, 90, 180)


def mosaic(image, order):
    """Return what a sensor under a Bayer mask sees of a picture [H, W, 3]: [H, W]."""
    seen = np.zeros(image.shape[:2], np.uint8)
    for index, channel in enumerate(ORDERS[order]):
        row, column = divmod(index, 2)
        seen[row::2, column::2] = image[row::2, column::2, channel]
    return seen


def packed(image, codec='.jpg'):
    flags = [cv2.IMWRITE_JPEG_QUALITY, 100] if codec == '.jpg' else []
    return cv2.imencode(codec, image, flags)[1].tobytes()


@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('stored', ['', 'bgr8', 'bayer'])
@pytest.mark.parametrize('channels', [1, 3])
def test_a_mosaic_in_a_jpeg_is_demosaiced(order, stored, channels):
    seen = mosaic(COLOUR, order)
    seen = seen if channels == 1 else np.repeat(seen[..., None], 3, axis=2)
    text = f'bayer_{order}8; jpeg compressed {stored.replace("bayer", f"bayer_{order}8")}'
    found = decode_compressed(packed(seen), text)
    assert np.abs(found.astype(int) - COLOUR)[4:-4, 4:28].max() < 25
    assert np.abs(found.astype(int) - COLOUR)[4:-4, 36:-4].max() < 25
    assert format_doubt(SimpleNamespace(format=text, data=packed(seen))) == ''


def test_a_mosaic_in_a_png_is_what_the_raw_image_gives():
    seen = mosaic(COLOUR, 'rggb')
    raw = SimpleNamespace(
        height=48, width=64, encoding='bayer_rggb8', step=64, data=seen.tobytes(), is_bigendian=0
    )
    found = decode_compressed(packed(seen, '.png'), 'bayer_rggb8; png compressed ')
    assert np.array_equal(found, decode_image(raw))


@pytest.mark.parametrize(
    'text', ['bayer_rggb8; jpeg compressed bgr8', 'yuv422; jpeg compressed bgr8']
)
def test_pictures_that_were_converted_before_they_were_compressed_stay_as_they_are(text):
    data = jpeg(COLOUR)
    assert np.array_equal(decode_compressed(data, text), decode_compressed(data, 'jpeg'))
    assert format_doubt(SimpleNamespace(format=text, data=data)) == ''


@pytest.mark.parametrize(
    ('text', 'grey', 'said'),
    [
        ('yuv422_yuy2; jpeg compressed mono8', True, 'promises colours and its picture is grey'),
        ('bayer_rggb8; jpeg compressed mono8', True, 'promises colours and its picture is grey'),
        ('yuv422; jpeg compressed bgr8', True, 'promises colours and its picture is grey'),
        ('bgr8; jpeg compressed bgr8', True, 'promises colours and its picture is grey'),
        ('mono8; jpeg compressed mono8', False, 'promises grey and its picture has 3 colour'),
        ('rgb8; jpeg compressed rgb8', False, 'promises red and blue exchanged'),
        ('mono8; jpeg compressed ', True, ''),
        ('16UC1; png compressed ', True, ''),
        ('rgb8; jpeg compressed bgr8', False, ''),
        ('bgra8; png compressed bgr8', False, ''),
        ('jpeg', True, ''),
        ('jpeg', False, ''),
    ],
)
def test_a_promise_of_other_colours_is_said_with_the_format(text, grey, said):
    image = COLOUR[..., 0] if grey else COLOUR
    found = format_doubt(
        SimpleNamespace(format=text, data=packed(image, '.png' if 'png' in text else '.jpg'))
    )
    assert said in found and (f"'{text}'" in found) == bool(said)


def with_format(path, text, data):
    """Write a bag whose top camera has a format and bytes of its own."""
    content = [
        (stamp_ns, topic, kind, {'format': text, 'data': np.frombuffer(data(stamp_ns), np.uint8)})
        if topic == TOP
        else (stamp_ns, topic, kind, fields)
        for stamp_ns, topic, kind, fields in messages(Recording(duration_s=2.0))
    ]
    return write_bag(path, content)


def test_a_bag_of_grey_pictures_that_should_have_colours_is_partial(tmp_path, load):
    text = 'yuv422_yuy2; jpeg compressed mono8'
    path = with_format(tmp_path / 'bag', text, lambda ns: packed(picture('top', ns)[..., 1]))
    found = check_bag(path, ROBOT, VIEW)
    said = f"Camera 'top' on 'top/image_raw/compressed': its format '{text}' promises colours"
    assert found.verdict == 'partial' and said in ' '.join(found.reasons)
    assert said in load(path)[1]


def test_a_bag_of_mosaics_is_read_in_colour(tmp_path, load):
    text = 'bayer_rggb8; jpeg compressed '
    path = with_format(
        tmp_path / 'bag', text, lambda ns: packed(mosaic(picture('top', ns), 'rggb'))
    )
    mosaics = load(path)[0][0]
    plain = load(with_format(tmp_path / 'plain', 'jpeg', lambda ns: jpeg(picture('top', ns))))[0][
        0
    ]
    difference = np.abs(np.asarray(mosaics.frames).astype(int) - plain.frames)
    assert np.percentile(difference, 98) < 12
    assert check_bag(path, ROBOT, VIEW).reasons == []
