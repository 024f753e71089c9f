"""Observations are as-of, say what is missing, and are the same live and from a bag."""

from episode_bags import joints_at
from episode_bags import jpeg
from episode_bags import picture
from episode_bags import SECOND
import numpy as np
import pytest

from eva_ros.errors import UserError
from eva_ros.observations.images import decode_compressed
from eva_ros.observations.ingest import NotReady
from eva_ros.observations.ingest import ObservationBuilder
from eva_ros.observations.views import load_view
from eva_ros.observations.views import view_of
from eva_ros.robot.spec import load_robot

CAMERAS = ('top', 'left_wrist', 'right_wrist')
MS = 1_000_000


@pytest.fixture(scope='module')
def robot():
    return load_robot('aloha_sim')


@pytest.fixture
def builder(robot):
    return ObservationBuilder(robot, load_view('aloha_sim'))


def look(builder, stamp_ns, cameras=CAMERAS, **size):
    for camera in cameras:
        builder.add_image(camera, stamp_ns, jpeg(picture(camera, stamp_ns, **size)), 'jpeg')


def feel(builder, robot, stamp_ns):
    builder.add_joint_state(stamp_ns, *robot.to_joint_state(joints_at(stamp_ns)))


def test_an_observation_holds_the_newest_of_every_stream_and_nothing_later(builder, robot):
    for ms in range(0, 500, 10):
        feel(builder, robot, SECOND + ms * MS)
    look(builder, SECOND + 100 * MS)
    look(builder, SECOND + 200 * MS, ('top',))
    look(builder, SECOND + 400 * MS)
    found = builder.latest(SECOND + 256 * MS)
    assert found.stamp_ns == SECOND + 256 * MS
    assert found.image_stamps == {
        'top': SECOND + 200 * MS,
        'left_wrist': SECOND + 100 * MS,
        'right_wrist': SECOND + 100 * MS,
    }
    assert found.joint_stamp_ns == SECOND + 250 * MS
    assert found.joint_positions == pytest.approx(joints_at(SECOND + 250 * MS))
    assert np.isnan(found.joint_velocities).all()


def test_the_view_is_the_decoded_images_tiled(builder, robot):
    feel(builder, robot, SECOND)
    look(builder, SECOND)
    images = {name: decode_compressed(jpeg(picture(name, SECOND))) for name in CAMERAS}
    assert np.array_equal(builder.latest(SECOND).view, load_view('aloha_sim').tile(images))
    again = builder.latest(SECOND + MS)
    assert np.array_equal(again.view, builder.latest(SECOND).view)


def test_raw_and_lossless_images_give_the_same_view(robot):
    from types import SimpleNamespace

    import cv2

    views = []
    for form in ('raw', 'png'):
        builder = ObservationBuilder(robot, load_view('aloha_sim'))
        feel(builder, robot, SECOND)
        for camera in CAMERAS:
            image = picture(camera, SECOND)
            if form == 'png':
                data = cv2.imencode('.png', image[..., ::-1])[1].tobytes()
                builder.add_image(camera, SECOND, data, 'png')
            else:
                message = SimpleNamespace(
                    height=240, width=320, encoding='rgb8', step=960, data=image.tobytes()
                )
                builder.add_image_message(camera, SECOND, message)
        views.append(builder.latest(SECOND).view)
    assert np.array_equal(*views)


def test_velocities_are_in_the_robots_order_and_units(builder, robot):
    names, values = robot.to_joint_state(joints_at(SECOND))
    shuffled = np.random.default_rng(0).permutation(14)
    velocities = np.arange(14.0)
    builder.add_joint_state(
        SECOND, [names[i] for i in shuffled], values[shuffled], velocities[shuffled]
    )
    look(builder, SECOND)
    found = builder.latest(SECOND)
    assert found.joint_positions == pytest.approx(joints_at(SECOND))
    assert found.joint_velocities[:6] == pytest.approx(velocities[:6])
    gripper = robot.arms['left'].gripper
    assert found.joint_velocities[6] == pytest.approx(6 / gripper.scale)


def test_rest_is_seen_from_positions(builder, robot):
    still = robot.to_joint_state(robot.home)
    for ms in range(0, 300, 10):
        builder.add_joint_state(SECOND + ms * MS, *still)
    look(builder, SECOND)
    assert builder.latest(SECOND + 290 * MS).at_rest
    assert not builder.latest(SECOND + 50 * MS).at_rest, 'too little is known yet'
    moved = robot.home.copy()
    moved[3] += 0.1 * robot.rest_velocity * 1.5
    builder.add_joint_state(SECOND + 300 * MS, *robot.to_joint_state(moved))
    assert not builder.latest(SECOND + 300 * MS).at_rest


@pytest.mark.parametrize(
    ('prepare', 'words'),
    [
        (lambda b, r: None, r"no image of camera 'top' on 'top/image_raw/compressed'"),
        (lambda b, r: look(b, SECOND, ('top', 'left_wrist')), "'right_wrist'"),
        (lambda b, r: look(b, SECOND), "no joint state on 'joint_states'"),
        (lambda b, r: look(b, SECOND - 5 * SECOND), r"'top'.* 5\.\d\d s old"),
        (lambda b, r: look(b, 9 * SECOND), r"'top'.* 8\.00 s in the future"),
        (lambda b, r: (look(b, SECOND), feel(b, r, 0)), r'joint state.* 1\.00 s old'),
        (lambda b, r: (look(b, SECOND), feel(b, r, 3 * SECOND)), r'joint.* 2\.00 s in the future'),
        (
            lambda b, r: (
                look(b, SECOND),
                b.add_joint_state(SECOND, r.to_joint_state(r.home)[0][1:], np.zeros(13)),
            ),
            'lacks left_waist',
        ),
        (
            lambda b, r: (
                look(b, SECOND),
                b.add_joint_state(SECOND, r.to_joint_state(r.home)[0], np.full(14, np.nan)),
            ),
            'left_waist.* not a number',
        ),
        (
            lambda b, r: (feel(b, r, SECOND), look(b, SECOND, height=480, width=640)),
            r"'top'.*480x640.*240x320",
        ),
        (
            lambda b, r: (
                feel(b, r, SECOND),
                look(b, SECOND),
                b.add_image('left_wrist', SECOND, b'\0' * 20, 'jpeg'),
            ),
            r"'left_wrist'.*decoded",
        ),
        (
            lambda b, r: (
                feel(b, r, SECOND),
                look(b, SECOND),
                b.add_image('top', SECOND, b'\0' * 20, 'h264'),
            ),
            r"'top'.*'h264'",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_said_in_one_sentence(builder, robot, prepare, words):
    prepare(builder, robot)
    with pytest.raises(NotReady, match=words) as refusal:
        builder.latest(SECOND + 4 * MS)
    assert '\n' not in str(refusal.value)


def test_other_cameras_are_ignored(builder):
    builder.add_image('kitchen', SECOND, b'', 'jpeg')
    assert builder.newest() == {}


def test_a_view_of_a_camera_that_the_robot_has_not_is_refused(robot):
    view = load_view('aloha_sim')
    other = view.cameras[0].model_copy(update={'name': 'kitchen'})
    with pytest.raises(UserError, match='kitchen'):
        ObservationBuilder(robot, view.model_copy(update={'cameras': (other,)}))


def test_a_clock_set_back_forgets_everything_and_says_so(robot):
    said = []
    builder = ObservationBuilder(robot, load_view('aloha_sim'), on_clock_jump=said.append)
    feel(builder, robot, 9 * SECOND)
    look(builder, 9 * SECOND)
    builder.latest(9 * SECOND)
    feel(builder, robot, SECOND)
    assert len(said) == 1 and 'jumped back by 8.00 s' in said[0]
    with pytest.raises(NotReady, match="'top'"):
        builder.latest(9 * SECOND)
    look(builder, SECOND)
    assert builder.latest(SECOND).stamp_ns == SECOND


def test_labels_are_interpolated_and_inputs_are_not(builder, robot):
    for ms in (0, 10):
        feel(builder, robot, SECOND + ms * MS)
    between = SECOND + 7_654_321
    assert builder.joints_between(between) == pytest.approx(joints_at(between), abs=1e-12)
    assert builder.joints(between).positions == pytest.approx(joints_at(SECOND), abs=1e-12)
    with pytest.raises(NotReady, match='after'):
        builder.joints_between(SECOND + 11 * MS)


def test_labels_are_not_made_up_across_a_gap(builder, robot):
    feel(builder, robot, SECOND)
    feel(builder, robot, 2 * SECOND)
    with pytest.raises(NotReady, match=r'gap of 1\.00 s'):
        builder.joints_between(SECOND + 100 * MS)


def test_an_arm_that_falls_silent_when_the_clock_is_set_back_does_not_come_back_to_life():
    robot = load_robot('piper_dual')
    builder = ObservationBuilder(robot, view_of(robot))
    left, right = robot.arms['left'], robot.arms['right']

    def say(arm, stamp_ns):
        builder.add_joint_state(
            stamp_ns, arm.state_joints, np.full(7, 0.05), topic=arm.state_topic
        )

    for arm in (left, right):
        say(arm, 30 * SECOND)
    assert builder.joints(30 * SECOND).stamp_ns == 30 * SECOND
    for at_s in range(10, 31):
        say(left, at_s * SECOND)
    with pytest.raises(NotReady, match=right.state_topic):
        builder.joints(30 * SECOND)


def test_arms_with_a_topic_each_are_put_together():
    robot = load_robot('piper_dual')
    view = load_view('aloha_sim')
    shown = view.cameras[0].model_copy(update={'image_size': None})
    builder = ObservationBuilder(robot, view.model_copy(update={'cameras': (shown,)}))
    builder.add_image('top', SECOND, jpeg(np.zeros((480, 640, 3), np.uint8)))
    left, right = robot.arms['left'], robot.arms['right']

    def feel_arm(arm, stamp_ns, angle):
        positions = np.append(np.full(6, angle), arm.gripper.closed)
        topic = f'/{arm.state_topic}'
        builder.add_joint_state(stamp_ns, arm.state_joints, positions, topic=topic)

    feel_arm(left, SECOND, 0.1)
    with pytest.raises(NotReady, match=right.state_topic):
        builder.latest(SECOND + 20 * MS)
    feel_arm(right, SECOND + 5 * MS, 0.2)
    found = builder.latest(SECOND + 20 * MS)
    assert found.joint_positions == pytest.approx([0.1] * 6 + [0] + [0.2] * 6 + [0])
    assert found.joint_stamp_ns == SECOND
    with pytest.raises(UserError, match='none of'):
        builder.add_joint_state(SECOND, left.state_joints, np.zeros(7))
