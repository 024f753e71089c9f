"""Video streams in bags: each frame once, from the first keyframe, the same offline and live."""

from fractions import Fraction
from types import SimpleNamespace

import av
from episode_bags import read_bag
from episode_bags import SECOND
import numpy as np
import pytest

from eva_ros.episodes.resampling import align
from eva_ros.errors import UserError
from eva_ros.observations.ingest import NotReady
from eva_ros.observations.ingest import ObservationBuilder
from eva_ros.observations.video import Pictures
from eva_ros.observations.video import VideoDecoder
from eva_ros.observations.views import load_view
from eva_ros.recordings.records import ImageRecord
from eva_ros.recordings.records import JointStateRecord
from eva_ros.recordings.typestore import typestore
from eva_ros.recordings.typestore import VIDEO
from eva_ros.robot.spec import load_robot

ENCODERS = {'h264': 'libx264', 'h265': 'libx265'}


def scene(index, height=240, width=320):
    """Return a smooth picture whose level says its number."""
    ramp = np.linspace(0, 60, width)[None, :, None] + np.linspace(0, 40, height)[:, None, None]
    return (ramp + np.array([10 * index % 120, 40, 60])).astype(np.uint8)


def encode(form, count=12, every=5):
    """Return the packets of a video as foxglove_msgs/CompressedVideo wants them."""
    encoder = av.CodecContext.create(ENCODERS[form], 'w')
    encoder.width, encoder.height, encoder.pix_fmt = 320, 240, 'yuv420p'
    encoder.framerate, encoder.time_base = 20, Fraction(1, 20)
    encoder.gop_size = every
    repeat = f'keyint={every}:min-keyint={every}:bframes=0:repeat-headers=1:log-level=none'
    key = 'x264-params' if form == 'h264' else 'x265-params'
    encoder.options = {'tune': 'zerolatency', 'preset': 'ultrafast', key: repeat}
    packets = []
    for index in range(count):
        frame = av.VideoFrame.from_ndarray(scene(index), format='rgb24')
        frame.pts = index
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets + [bytes(packet) for packet in encoder.encode(None)]


def message(form, data):
    return SimpleNamespace(format=form, data=data)


@pytest.mark.parametrize('form', ENCODERS)
def test_every_packet_gives_its_own_picture(form):
    decoder = VideoDecoder()
    for index, data in enumerate(encode(form)):
        found = decoder.decode(message(form, data))
        assert found.shape == (240, 320, 3)
        assert np.abs(found.astype(int) - scene(index)).mean() < 4


@pytest.mark.parametrize('form', ENCODERS)
def test_a_stream_begins_at_a_keyframe(form):
    packets, decoder = encode(form), VideoDecoder()
    found = [decoder.decode(message(form, data)) for data in packets[2:]]
    assert [picture is None for picture in found[:4]] == [True, True, True, False]
    assert decoder.skipped == 3
    assert np.abs(found[3].astype(int) - scene(5)).mean() < 4


@pytest.mark.parametrize('form', ENCODERS)
def test_after_damage_decoding_goes_on_at_the_next_keyframe(form):
    packets, decoder = encode(form), VideoDecoder()
    decoder.decode(message(form, packets[0]))
    with pytest.raises(UserError, match=form):
        decoder.decode(message(form, b'\0\0\1\xff' * 20))
    assert decoder.decode(message(form, packets[2])) is None
    assert decoder.decode(message(form, packets[5])) is not None


def video_bag(path, topic, packets):
    from rosbags.rosbag2 import StoragePlugin
    from rosbags.rosbag2 import Writer

    store = typestore()
    time = store.types['builtin_interfaces/msg/Time']
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(f'/{topic}', VIDEO, typestore=store)
        for index, data in enumerate(packets):
            stamp_ns = SECOND + index * 50_000_000
            fields = store.types[VIDEO](
                timestamp=time(*divmod(stamp_ns, SECOND)), frame_id='',
                data=np.frombuffer(data, np.uint8), format='h264',
            )  # fmt: skip
            writer.write(connection, 10**12 + index, store.serialize_cdr(fields, VIDEO))
    return path


def test_a_bags_video_gives_the_same_pictures_as_the_stream(tmp_path):
    packets, direct, pictures = encode('h264'), VideoDecoder(), Pictures()
    path = video_bag(tmp_path / 'bag', 'top/video', packets)
    records = list(read_bag(path))
    assert [found.stamp_ns for found in records[:2]] == [SECOND, SECOND + 50_000_000]
    for found, data in zip(records, packets, strict=True):
        shown = pictures.decode(found.topic, found.message)
        np.testing.assert_array_equal(shown, direct.decode(message('h264', data)))


def test_observations_show_the_video_and_say_what_they_wait_for():
    robot, view = load_robot('aloha_sim'), load_view('aloha_sim')
    builder, packets, direct = ObservationBuilder(robot, view), encode('h264'), VideoDecoder()
    names, values = robot.to_joint_state(robot.home)
    builder.add_joint_state(SECOND, names, values)
    for camera in view.camera_names:
        builder.add_image_message(camera, SECOND, message('h264', packets[1]))
    with pytest.raises(NotReady, match=r"'top'.*keyframe"):
        builder.latest(SECOND)
    for index, data in enumerate(packets[:3]):
        shown = direct.decode(message('h264', data))
        for camera in view.camera_names:
            builder.add_image_message(camera, SECOND + index + 1, message('h264', data))
    found = builder.latest(SECOND + 10)
    wanted = view.tile(dict.fromkeys(view.camera_names, shown))
    np.testing.assert_array_equal(found.view, wanted)


def test_frames_before_the_first_keyframe_are_reported_of_the_attempt_that_lacks_them():
    robot, view = load_robot('aloha_sim'), load_view('aloha_sim')
    names, values = robot.to_joint_state(robot.home)
    records, packets = [], encode('h264', 30)[2:]
    for index, data in enumerate(packets):
        ns = SECOND + index * 50_000_000
        records.append(JointStateRecord('joint_states', ns, ns, tuple(names), values, values * 0))
        for camera in view.camera_names:
            topic = robot.cameras[camera].topic
            records.append(ImageRecord(topic, ns, ns, message('h264', data)))
    problems = []
    (piece,) = align(records, robot, view, problems.append, marked=False)
    assert len(piece.ticks) > 5
    assert "3 video frames of camera 'top' cannot be used" in ' '.join(problems)
