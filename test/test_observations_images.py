"""Pictures of every usual encoding become the same RGB; whatever else is refused."""

from types import SimpleNamespace

import cv2
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

from eva_ros.errors import UserError
from eva_ros.observations import images
from eva_ros.observations.images import decode_compressed
from eva_ros.observations.images import decode_image

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
PIXELS = {
    'rgb8': IMAGE,
    'bgr8': IMAGE[..., ::-1],
    'rgba8': np.dstack([IMAGE, np.full((48, 64), 7, np.uint8)]),
    'bgra8': np.dstack([IMAGE[..., ::-1], np.full((48, 64), 7, np.uint8)]),
}

BAYER_CODES = {
    'bayer_rggb8': cv2.COLOR_BayerBG2RGB,
    'bayer_bggr8': cv2.COLOR_BayerRG2RGB,
    'bayer_gbrg8': cv2.COLOR_BayerGR2RGB,
    'bayer_grbg8': cv2.COLOR_BayerGB2RGB,
}
BAYER = tuple(BAYER_CODES)
WIDE = {'mono16': 1, '16UC1': 1, 'bayer_rggb16': 1, 'rgb16': 3, 'bgr16': 3, 'rgba16': 4}


def raw(encoding, pixels, padding=0, **changes):
    """Return an image message whose rows are padded."""
    rows = pixels.reshape(len(pixels), -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    fields = {'height': rows.shape[0], 'width': pixels.shape[1], 'encoding': encoding,
              'step': padded.shape[1], 'data': padded.tobytes()}  # fmt: skip
    return SimpleNamespace(**{**fields, **changes})


def test_a_compressed_picture_of_16_bits_is_refused():
    _, png = cv2.imencode('.png', np.full((4, 5), 1200, np.uint16))
    with pytest.raises(UserError, match=r'16 bits a channel.*value_range'):
        decode_compressed(png.tobytes(), '16UC1; png compressed')


def test_a_grey_compressed_picture_has_three_channels_alike():
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    _, png = cv2.imencode('.png', grey)
    seen = decode_compressed(png.tobytes(), 'mono8; png compressed')
    assert np.array_equal(seen, np.repeat(grey[:, :, None], 3, axis=2))


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


def compressed_pictures():
    """Return pictures of every kind that OpenCV turns into three channels by itself."""
    bgra = np.dstack([IMAGE, IMAGE[..., :1]])
    turned = cv2.imencode('.jpg', IMAGE)[1].tobytes()
    # An EXIF header that says: turn it by a right angle.
    exif = b'Exif\0\0MM\0*\0\0\0\10\0\1\1\22\0\3\0\0\0\1\0\6\0\0\0\0\0\0'
    segment = b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif
    return {
        'jpeg': turned,
        'grey jpeg': cv2.imencode('.jpg', IMAGE[..., 0])[1].tobytes(),
        'turned jpeg': turned[:2] + segment + turned[2:],
        'png': cv2.imencode('.png', IMAGE)[1].tobytes(),
        'transparent png': cv2.imencode('.png', bgra)[1].tobytes(),
        'grey png': cv2.imencode('.png', IMAGE[..., 0])[1].tobytes(),
    }


@pytest.mark.parametrize('kind', compressed_pictures())
def test_opencvs_own_way_to_rgb_gives_the_pixels_of_the_long_way(kind, monkeypatch):
    data = compressed_pictures()[kind]
    found = decode_compressed(data, 'jpeg')
    monkeypatch.setattr(images, '_DIRECT', None)
    assert np.array_equal(found, decode_compressed(data, 'jpeg'))
    assert found.shape == ((64, 48, 3) if 'turned' in kind else (48, 64, 3))


def test_zeros_behind_a_jpeg_do_no_harm():
    data = cv2.imencode('.jpg', IMAGE)[1].tobytes()
    assert np.array_equal(decode_compressed(data + bytes(4000)), decode_compressed(data))


@pytest.mark.parametrize(
    ('message', 'words'),
    [
        (raw('yuv444', IMAGE), "'yuv444'"),
        (raw('yuv422', IMAGE[:, :41, :2]), 'cannot be of encoding'),
        (raw('16UC1', IMAGE[..., :2]), 'value_range'),
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
    compared = set()
    candidates = {**PIXELS, 'mono8': IMAGE[..., 0], **dict.fromkeys(BAYER, IMAGE[..., 0])}
    for encoding, pixels in {**candidates, 'yuv422': IMAGE[..., :2]}.items():
        pixels = np.ascontiguousarray(pixels)
        fields = vars(raw(encoding, pixels))
        try:
            message = sensor_msgs.Image(**{**fields, 'data': list(fields['data'])})
            wanted = bridge.imgmsg_to_cv2(message, 'rgb8')
        except (cv_bridge.CvBridgeError, KeyError):
            continue  # another cv_bridge may know it
        compared.add(encoding)
        assert np.array_equal(decode_image(message), wanted), encoding
        # Some cv_bridges take padding for pixels, which no picture needs.
        assert np.array_equal(decode_image(raw(encoding, pixels, 9)), wanted), encoding
    assert compared >= {*PIXELS, 'mono8', 'bayer_rggb8', 'bayer_bggr8', 'bayer_gbrg8'}
    for form in ('jpg', 'png'):
        message = bridge.cv2_to_compressed_imgmsg(IMAGE, form)
        assert isinstance(message, sensor_msgs.CompressedImage)
        wanted = bridge.compressed_imgmsg_to_cv2(message, 'rgb8')
        assert np.array_equal(decode_image(message), wanted)


@pytest.mark.parametrize('encoding', BAYER + ('mono16',))
def test_bayer_and_16_bit_images_equal_opencvs_own_formulas(encoding):
    """Those that this cv_bridge cannot convert are held against what cv_bridge's C++ calls."""
    wide = np.random.default_rng(1).integers(0, 65536, (48, 64), np.uint16)
    if encoding == 'mono16':
        grey = cv2.convertScaleAbs(wide.astype(np.float64), alpha=255 / 65535)
        wanted = np.repeat(grey[..., None], 3, axis=2)
        pixels = wide
    else:
        pixels = IMAGE[..., 0]
        wanted = cv2.cvtColor(np.ascontiguousarray(pixels), BAYER_CODES[encoding])
    for padding in (0, 6):
        rows = pixels.view(np.uint8).reshape(48, -1)
        message = raw(encoding, rows, padding, width=64)
        assert np.array_equal(decode_image(message), wanted)


@pytest.mark.parametrize('encoding', WIDE)
def test_big_endian_images_equal_little_endian_ones(encoding):
    channels = WIDE[encoding]
    wide = np.random.default_rng(2).integers(0, 65536, (6, 8 * channels), np.uint16)
    little = raw(encoding, wide.astype('<u2').view(np.uint8), 4, width=8, is_bigendian=0)
    big = raw(encoding, wide.astype('>u2').view(np.uint8), 4, width=8, is_bigendian=1)
    found = decode_image(little, (100, 60_000))
    assert np.array_equal(found, decode_image(big, (100, 60_000)))
    assert len(np.unique(found)) > 10


@pytest.mark.parametrize(
    ('encoding', 'code'),
    [('yuv422', cv2.COLOR_YUV2RGB_UYVY), ('yuv422_yuy2', cv2.COLOR_YUV2RGB_YUY2)],
)
def test_yuv422_equals_opencv(encoding, code):
    pixels = np.ascontiguousarray(IMAGE[..., :2])
    found = decode_image(raw(encoding, pixels, padding=7))
    assert np.array_equal(found, cv2.cvtColor(pixels, code))


def test_bare_numbers_are_shown_in_the_stated_range_and_clipped():
    depth = np.array([[0, 500, 1000, 1500, 2000, 60_000]], np.uint16)
    message = raw('16UC1', depth.view(np.uint8), width=6, is_bigendian=0)
    found = decode_image(message, (500, 1500))
    assert found[0, :, 0].tolist() == [0, 0, 128, 255, 255, 255]
    assert np.array_equal(found[..., 0], found[..., 2])


@pytest.mark.parametrize('extension', ['.jpg', '.png'])
def test_a_picture_that_claims_to_be_huge_is_refused_before_memory_is_taken(extension):
    data = bytearray(cv2.imencode(extension, IMAGE)[1].tobytes())
    size = (48).to_bytes(2, 'big') + (64).to_bytes(2, 'big')
    at, huge = data.find(size), b'\x75\x30\x75\x30'
    if extension == '.png':
        at, huge = 16, bytes.fromhex('0000753000007530')
    data[at : at + len(huge)] = huge
    with pytest.raises(UserError, match='30000x30000'):
        decode_compressed(bytes(data), extension[1:])
