"""Maps, names and exports of data sets are refused where they do not fit, in one sentence."""

from types import SimpleNamespace

import pytest

from eva_ros.errors import UserError
from eva_ros.interchange.import_map import automatic_map
from eva_ros.interchange.import_map import check_map
from eva_ros.interchange.import_map import ImportMap
from eva_ros.interchange.import_map import JointSource
from eva_ros.interchange.lerobot.writer import write_lerobot
from eva_ros.observations.views import load_view
from eva_ros.robot.spec import load_robot

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
SOURCES = tuple('left_gripper' if i == 6 else 'right_gripper' if i == 13 else f'joint_{i}'
                for i in range(14))  # fmt: skip


def data_set(**changes):
    """Return what a map looks at of a data set."""
    about = {'path': 'set', 'kind': 'LeRobot v2.1', 'joint_names': SOURCES, 'cameras': ('front',)}
    return SimpleNamespace(**{**about, **changes})


def fitting(**cameras):
    joints = {own: JointSource(source=name) for own, name in zip(ROBOT.joint_names, SOURCES)}
    return ImportMap(joints=joints, cameras=cameras)


def test_a_map_may_name_any_of_the_robots_cameras():
    check_map(fitting(), data_set(), ROBOT)
    check_map(fitting(top='front', left_wrist='front'), data_set(), ROBOT)


@pytest.mark.parametrize(
    ('cameras', 'named'),
    [({'ceiling': 'front'}, 'ceiling'), ({'top': 'back'}, 'back')],
    ids=['no camera of the robot', 'no camera of the data set'],
)
def test_a_map_of_a_camera_that_is_not_there_is_refused_by_name(cameras, named):
    with pytest.raises(UserError, match=rf'does not fit: {named} \(the data set has .*front\)'):
        check_map(fitting(**cameras), data_set(), ROBOT)


@pytest.mark.parametrize('change', ['lacking', 'unknown', 'no source'])
def test_a_map_of_joints_that_do_not_fit_is_refused_by_name(change):
    joints = dict(fitting().joints)
    if change == 'lacking':
        del joints['left_waist']
    elif change == 'unknown':
        joints['tail'] = JointSource(source=SOURCES[0])
    else:
        joints['left_waist'] = JointSource(source='nobody')
    named = {'lacking': 'left_waist', 'unknown': 'tail', 'no source': 'nobody'}[change]
    with pytest.raises(UserError, match=rf'does not fit: {named} \('):
        check_map(ImportMap(joints=joints), data_set(), ROBOT)


def test_robotwins_cameras_are_the_robots_and_its_others_are_left_out():
    cameras = ('head_camera', 'left_camera', 'right_camera', 'front_camera', 'top')
    found = automatic_map(data_set(kind='RoboTwin', cameras=cameras[:4]), ROBOT)[0]
    assert found.cameras == {
        'top': 'head_camera', 'left_wrist': 'left_camera', 'right_wrist': 'right_camera',
    }  # fmt: skip
    own = automatic_map(data_set(kind='RoboTwin', cameras=cameras[3:]), ROBOT)[0]
    assert own.cameras == {'top': 'top'}
    assert [source.source for source in own.joints.values()] == list(SOURCES)


def test_robotwin_joints_that_are_not_the_robots_in_order_need_a_map():
    franka = tuple(f'{arm}_{n}' for arm in ('left', 'right') for n in (*range(7), 'gripper'))
    with pytest.raises(UserError, match=r'are not those of aloha_sim in order .*\(--map\)'):
        automatic_map(data_set(kind='RoboTwin', joint_names=franka), ROBOT)


def with_box(height, width):
    """Return the view with another size of the last camera's picture, and its name."""
    last = VIEW.cameras[-1]
    box = (*last.box[:2], height, width)
    changed = last.model_copy(update={'box': box})
    return VIEW.model_copy(update={'cameras': (*VIEW.cameras[:-1], changed)}), last.name


@pytest.mark.parametrize('size', [(47, 64), (48, 63)])
def test_an_export_of_odd_pictures_is_refused_before_anything_is_written(tmp_path, size):
    view, name = with_box(*size)
    with pytest.raises(UserError, match=f'even heights and widths: {name} of {view.name}'):
        write_lerobot([], tmp_path / 'out', ROBOT, view)
    assert list(tmp_path.iterdir()) == []


def test_an_export_at_a_broken_rate_is_refused_before_anything_is_written(tmp_path):
    view = VIEW.model_copy(update={'rate_hz': 7.5})
    with pytest.raises(UserError, match=r'whole number of frames a second, not 7\.5'):
        write_lerobot([], tmp_path / 'out', ROBOT, view)
    assert list(tmp_path.iterdir()) == []
