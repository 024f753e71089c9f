"""The view shows each camera's crop in its box, and nothing of another size."""

from copy import deepcopy

import numpy as np
import pytest
import robot_files
import yaml

from eva_ros.cli.main import main
from eva_ros.errors import UserError
from eva_ros.observations.views import BLOCK
from eva_ros.observations.views import layout
from eva_ros.observations.views import load_view
from eva_ros.robot.paths import find_config
from eva_ros.robot.spec import load_robot
from eva_ros.training.manifest import view_fingerprint

SIZES = {'top': (96, 128), 'left_wrist': (48, 64), 'right_wrist': (48, 64)}


@pytest.fixture
def images():
    rng = np.random.default_rng(1)
    return {name: rng.integers(0, 256, (240, 320, 3), np.uint8) for name in SIZES}


def changed(tmp_path, change):
    """Write the shipped view with a change and return its path."""
    content = yaml.safe_load(find_config('views', 'aloha_sim').read_text())
    change(content)
    path = tmp_path / 'view.yaml'
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_shipped_view_is_what_models_are_trained_on():
    view = load_view('aloha_sim')
    assert view.shape == (144, 128, 3)
    assert (view.rate_hz, view.frames) == (10, 17)
    assert set(view.camera_names) <= set(load_robot('aloha_sim').cameras)
    assert view.camera('top').crop_pixels(240, 320) == (30, 40, 210, 280)
    for camera in load_robot('aloha_sim').cameras.values():
        assert view.camera(camera.name).image_size == (camera.height, camera.width)


def test_untile_gives_back_what_was_tiled(images):
    view = load_view('aloha_sim')
    parts = view.untile(view.tile(images))
    assert {name: part.shape[:2] for name, part in parts.items()} == SIZES
    for name, part in parts.items():
        assert np.array_equal(part, view.camera(name).picture(images[name]))
    many = np.stack([view.tile(images)] * 3)
    assert view.untile(many)['top'].shape == (3, 96, 128, 3)


def test_a_wrist_is_the_mean_of_blocks_of_pixels(images):
    view = load_view('aloha_sim')
    mean = images['left_wrist'].reshape(48, 5, 64, 5, 3).mean(axis=(1, 3))
    shown = view.untile(view.tile(images))['left_wrist']
    assert np.abs(shown.astype(float) - mean).max() <= 0.51


def test_a_crop_shows_only_its_part(images):
    view = load_view('aloha_sim')
    before = view.tile(images)
    images['top'][:30], images['top'][:, 280:] = 0, 255
    assert np.array_equal(view.tile(images), before)


def test_another_size_is_refused_with_camera_and_both_sizes(images):
    images['left_wrist'] = images['left_wrist'][::2]
    with pytest.raises(UserError, match=r"'left_wrist'.*120x320.*240x320"):
        load_view('aloha_sim').tile(images)


def test_a_missing_camera_is_named(images):
    del images['right_wrist']
    with pytest.raises(UserError, match='right_wrist'):
        load_view('aloha_sim').tile(images)


def test_untile_refuses_another_size():
    with pytest.raises(UserError, match='shape'):
        load_view('aloha_sim').untile(np.zeros((100, 128, 3), np.uint8))


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda c: c.update(colour='grey'), 'unknown key "colour"'),
        (lambda c: c['cameras'][0].update(flip=True), r'unknown key "cameras\.0\.flip"'),
        (lambda c: c.pop('frames'), 'key "frames" is missing'),
        (lambda c: c['cameras'][1].update(box=[96, 100, 48, 64]), 'reaches out'),
        (lambda c: c['cameras'][1].update(box=[90, 0, 48, 64]), 'overlap'),
        (lambda c: c['cameras'][1].update(name='top'), 'twice'),
        (lambda c: c['cameras'][0].update(crop=[0.5, 0, 0.4, 1]), 'crop'),
        (lambda c: c['cameras'][0].update(crop=[0, 0, 0.5, 1.0]), 'undistorted'),
        (lambda c: c.update(rate_hz=0), 'rate_hz'),
    ],
)
def test_a_wrong_view_file_is_refused_with_file_and_key(tmp_path, change, words):
    path = changed(tmp_path, change)
    with pytest.raises(UserError, match=words) as refusal:
        load_view(path)
    assert str(path) in str(refusal.value)


def test_an_unknown_view_is_refused_with_those_that_exist():
    with pytest.raises(UserError, match='aloha_sim'):
        load_view('kitchen')


SIZES_OF_OTHERS = [(480, 640), (360, 640), (1080, 1920), (400, 400), (720, 1280), (376, 672)]


def robot_with_cameras(tmp_path, sizes, names=('scene', 'left_wrist', 'right_wrist')):
    """Return a robot of two arms with cameras of these sizes."""
    made = deepcopy(robot_files.PAIRS['seven joints each'])
    made['cameras'] = {
        name: {'topic': f'{name}/image', 'height': height, 'width': width}
        for name, (height, width) in zip(names, sizes)
    }
    return load_robot(robot_files.write_robot(tmp_path, made))


@pytest.mark.parametrize('height', [48, 64, 96])
@pytest.mark.parametrize('columns', [None, 2])
def test_a_view_is_laid_out_for_cameras_of_any_size_undistorted(tmp_path, height, columns):
    for sizes in (SIZES_OF_OTHERS[:3], SIZES_OF_OTHERS[3:]):
        robot = robot_with_cameras(tmp_path, sizes)
        view = layout(robot, 'mine', height=height, columns=columns)
        assert view.height % BLOCK == view.width % BLOCK == 0
        for camera in view.cameras:
            assert camera.box[2] == height and camera.box[3] % BLOCK == 0
            assert (camera.crop[2] - camera.crop[0]) * (camera.crop[3] - camera.crop[1]) > 0.8
        images = {
            camera.name: np.zeros((camera.height, camera.width, 3), np.uint8)
            for camera in robot.cameras.values()
        }
        assert view.tile(images).shape == view.shape


def test_a_camera_on_an_arm_is_read_for_that_arm_and_one_in_the_scene_for_both(tmp_path):
    robot = robot_with_cameras(tmp_path, [(48, 64)] * 3, ('left', 'left_wrist', 'cam_right_hand'))
    arms = {camera.name: camera.arms for camera in layout(robot, 'mine').cameras}
    assert arms == {
        'left': ('left', 'right'), 'left_wrist': ('left',), 'cam_right_hand': ('right',)
    }  # fmt: skip


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'cameras': ['top']}, 'no camera top for a view .*its cameras are: left_wrist'),
        ({'height': 100}, '100x.* needs multiples of 16 pixels'),
        ({'frames': 16}, '16 frames, and a world model needs .* 13, 17'),
    ],
)
def test_a_view_that_cannot_be_dreamed_is_refused(tmp_path, options, words):
    robot = robot_with_cameras(tmp_path, [(480, 640)] * 3)
    with pytest.raises(UserError, match=words):
        layout(robot, 'mine', **options)


def test_a_view_is_written_from_the_robots_cameras_and_loads(tmp_path, capsys):
    out = tmp_path / 'mine.yaml'
    command = ['view', 'init', '--robot', 'so101_dual', '--out', str(out)]
    assert main([*command, '--cameras', 'left', 'right', '--height', '64']) == 0
    view = load_view(out)
    assert (view.name, view.shape, view.camera_names) == ('mine', (64, 160, 3), ('left', 'right'))
    assert view.camera('left').image_size == (480, 640)
    assert view.camera('left').arms == ('left', 'right')
    assert main(command) == 2
    assert 'is there already' in capsys.readouterr().err


def test_what_arms_are_read_from_a_camera_is_no_part_of_the_pictures():
    view = load_view('aloha_sim')
    first = view.cameras[0].model_copy(update={'arms': ('left',)})
    other = view.model_copy(update={'cameras': (first, *view.cameras[1:])})
    assert view_fingerprint(other) == view_fingerprint(view)


def test_a_world_model_refuses_a_view_that_it_cannot_cut_into_blocks(tmp_path, capsys):
    def cut(content):
        content['height'] = 120
        content['cameras'] = [{'name': 'top', 'box': [0, 0, 120, 128]}]

    view = changed(tmp_path, cut)
    command = ['world-model', 'train', '--bags', str(tmp_path), '--view', str(view)]
    assert main([*command, '--out', str(tmp_path / 'model')]) == 2
    assert 'has 120x128 pixels' in capsys.readouterr().err
