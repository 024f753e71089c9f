"""Pictures of every usual encoding become the same RGB; whatever else is refused."""

from types import SimpleNamespace

import cv2
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

from eva_ros.episodes.images import decode_compressed
from eva_ros.episodes.images import decode_image
from eva_ros.errors import UserError

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
PIXELS = {
    'rgb8': IMAGE,
    'bgr8': IMAGE[..., ::-1],
    'rgba8': np.dstack([IMAGE, np.full((48, 64), 7, np.uint8)]),
    'bgra8': np.dstack([IMAGE[..., ::-1], np.full((48, 64), 7, np.uint8)]),
}


def raw(encoding, pixels, padding=0, **changes):
    """Return an image message whose rows are padded."""
    rows = pixels.reshape(len(pixels), -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    fields = {'height': rows.shape[0], 'width': pixels.shape[1], 'encoding': encoding,
              'step': padded.shape[1], 'data': padded.tobytes()}  # fmt: skip
    return SimpleNamespace(**{**fields, **changes})


@pytest.mark.parametrize('encoding', PIXELS)
@pytest.mark.parametrize('padding', [0, 13])
def test_raw_images_of_every_order_give_the_same_rgb(encoding, padding):
    found = decode_image(raw(encoding, PIXELS[encoding], padding))
    assert found.dtype == np.uint8 and np.array_equal(found, IMAGE)


def test_a_mono_image_is_grey():
    found = decode_image(raw('mono8', IMAGE[..., :1], padding=5))
    assert np.array_equal(found, np.repeat(IMAGE[..., :1], 3, axis=2))


def test_the_result_can_be_written_to_and_does_not_share_memory():
    data = bytearray(IMAGE.tobytes())
    found = decode_image(raw('rgb8', IMAGE, data=data))
    data[0] ^= 255
    found[0, 1] = 0
    assert found[0, 0, 0] == IMAGE[0, 0, 0]


@pytest.mark.parametrize('form', ['png', 'rgb8; png compressed bgr8', 'PNG'])
def test_png_is_exact_under_short_and_long_format(form):
    data = cv2.imencode('.png', IMAGE[..., ::-1])[1].tobytes()
    assert np.array_equal(decode_compressed(data, form), IMAGE)


@pytest.mark.parametrize('form', ['jpeg', 'jpg', 'bgr8; jpeg compressed bgr8'])
def test_jpeg_equals_opencv(form):
    data = cv2.imencode('.jpg', IMAGE[..., ::-1])[1]
    wanted = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    for held in (data.tobytes(), memoryview(data.tobytes()), data, list(data.tobytes())):
        assert np.array_equal(decode_compressed(held, form), wanted)


def test_zeros_behind_a_jpeg_do_no_harm():
    data = cv2.imencode('.jpg', IMAGE)[1].tobytes()
    assert np.array_equal(decode_compressed(data + bytes(4000)), decode_compressed(data))


@pytest.mark.parametrize(
    ('message', 'words'),
    [
        (raw('yuv422', IMAGE), "'yuv422'"),
        (raw('rgb8', IMAGE, data=IMAGE.tobytes()[:-1]), '48x64'),
        (raw('rgb8', IMAGE, step=100), '48x64'),
        (raw('rgb8', IMAGE, height=0), '0x64'),
        (SimpleNamespace(format='h264', data=b'abc'), "'h264'"),
        (SimpleNamespace(format='16UC1; compressedDepth png', data=b''), '0 bytes'),
        (SimpleNamespace(format='jpeg', data=b'no picture'), '10 bytes'),
        (SimpleNamespace(format='', data=b''), "''"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(message, words):
    with pytest.raises(UserError) as refusal:
        decode_image(message)
    assert words in str(refusal.value) and str(refusal.value).endswith('.')


@given(cut=st.floats(0.05, 0.98))
@settings(max_examples=40, deadline=None)
def test_a_cut_off_jpeg_is_never_filled_with_grey(cut):
    data = cv2.imencode('.jpg', IMAGE)[1].tobytes()
    with pytest.raises(UserError):
        decode_compressed(data[: int(len(data) * cut)])


def test_equals_cv_bridge_for_what_it_can_read():
    cv_bridge = pytest.importorskip('cv_bridge')
    sensor_msgs = pytest.importorskip('sensor_msgs.msg')
    bridge = cv_bridge.CvBridge()
    for encoding, pixels in {**PIXELS, 'mono8': IMAGE[..., 0]}.items():
        message = bridge.cv2_to_imgmsg(np.ascontiguousarray(pixels), encoding)
        assert np.array_equal(decode_image(message), bridge.imgmsg_to_cv2(message, 'rgb8'))
    for form in ('jpg', 'png'):
        message = bridge.cv2_to_compressed_imgmsg(IMAGE, form)
        assert isinstance(message, sensor_msgs.CompressedImage)
        wanted = bridge.compressed_imgmsg_to_cv2(message, 'rgb8')
        assert np.array_equal(decode_image(message), wanted)
