"""A checkpoint of any kind knows its world, and is refused in another one."""

import dataclasses
import json
import shutil

import pytest

from eva_ros.errors import UserError
from eva_ros.observations.views import load_view
from eva_ros.robot.paths import checkpoint_dir
from eva_ros.robot.spec import load_robot
from eva_ros.training.manifest import FILE
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import read_manifest
from eva_ros.training.manifest import require_world
from eva_ros.training.manifest import World

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
SHIPPED = {
    'idm': 'idm', 'world_model': 'world_model', 'aligned': 'adapter', 'controls': 'controls',
}  # fmt: skip
# What format 1 said of the world, by kind.
FORMAT_1 = {
    'world_model': {'settings': {
        'name': 'small', 'robot': 'aloha_sim', 'view': 'aloha_sim', 'height': 144, 'width': 128,
        'rate_hz': 10.0, 'frames': 17, 'steps': 4,
    }},
    'adapter': {'world_model': 'small', 'robot': 'aloha_sim', 'view': 'aloha_sim'},
    'controls': {'robot': 'aloha_sim', 'view': 'aloha_sim', 'dt': 0.1, 'episodes': {}},
}  # fmt: skip


def shifted_view():
    """Return the view with its first camera one pixel higher, all else as it was."""
    first, *others = VIEW.cameras
    y, *box = first.box
    moved = first.model_copy(update={'box': (y + 1, *box)})
    return VIEW.model_copy(update={'cameras': (moved, *others)})


@pytest.mark.parametrize('name', SHIPPED)
def test_every_shipped_checkpoint_compares_the_view_by_hash(name):
    folder = checkpoint_dir() / name
    manifest = read_manifest(folder, SHIPPED[name])
    require_world(folder, manifest, World.of(ROBOT, VIEW))
    with pytest.raises(UserError, match=r"View 'aloha_sim' has changed .*another camera layout"):
        require_world(folder, manifest, World.of(ROBOT, shifted_view()))


@pytest.mark.parametrize('name', ['idm', 'controls'])
def test_joints_in_another_order_are_refused(name):
    folder = checkpoint_dir() / name
    world = dataclasses.replace(World.of(ROBOT), joint_names=tuple(ROBOT.joint_names[::-1]))
    with pytest.raises(UserError, match='in this order'):
        require_world(folder, read_manifest(folder, SHIPPED[name]), world)


@pytest.mark.parametrize('kind', FORMAT_1)
def test_checkpoints_of_format_1_are_still_read(kind, tmp_path):
    about = {'format': 1, 'kind': kind, **FORMAT_1[kind]}
    (tmp_path / FILE).write_text(json.dumps(about))
    manifest = read_manifest(tmp_path, kind)
    require_world(tmp_path, manifest, World.of(ROBOT, VIEW))
    with pytest.raises(UserError, match="trained on robot 'aloha_sim', not on 'other'"):
        require_world(tmp_path, manifest, World(robot='other'))
    if kind != 'adapter':
        assert manifest.world.rate_hz == 10.0


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('{"format": 3, "kind": "idm"}', 'has format 3, this version reads 2'),
        ('{"format": 2, "kind": "idm"}', "lacks 'view'"),
        ('{"format": 2', 'cannot be read'),
    ],
)
def test_a_manifest_that_cannot_be_understood_is_named(tmp_path, text, said):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match=f'eva.json.* {said}'):
        read_manifest(tmp_path, 'idm')


def test_an_adapter_of_another_layout_is_refused_by_the_world_model(tmp_path):
    from eva_ros.training.manifest import write_manifest
    from eva_ros.world_model.checkpoint import load_world_model

    lora = shutil.copytree(checkpoint_dir() / 'aligned', tmp_path / 'aligned')
    manifest = read_manifest(lora, 'adapter')
    world = dataclasses.replace(manifest.world, view_hash='0' * 16)
    write_manifest(lora, Manifest('adapter', world, manifest.details, manifest.training))
    with pytest.raises(UserError, match=r'aligned was made \(another camera layout'):
        load_world_model(checkpoint_dir() / 'world_model', lora=lora)
