"""eva.json: what a checkpoint is and which world it belongs to; written, read, compared here."""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
import hashlib
import json
import os
from pathlib import Path
import stat
from typing import Any

from eva_ros.errors import UserError

FILE = 'eva.json'
FORMAT = 2
# Kinds of checkpoints, as a sentence names them.
KINDS = {
    'idm': 'an IDM',
    'world_model': 'a world model',
    'adapter': 'an adapter',
    'controls': 'controls',
    'critic': 'a progress critic',
}
_KNOWN = ('format', 'kind', 'robot', 'joint_names', 'view', 'training')


@dataclass(frozen=True)
class World:
    """The robot and the view of a checkpoint. What is empty or 0 is unknown and never compared.

    Attributes:
        robot: Name of the robot.
        joint_names: Its joints in order [J].
        view: Name of the view.
        view_hash: `view_fingerprint` of the view.
        height: Height of the view, pixels.
        width: Width of the view, pixels.
        rate_hz: Frames per second of the view.
    """

    robot: str = ''
    joint_names: tuple[str, ...] = ()
    view: str = ''
    view_hash: str = ''
    height: int = 0
    width: int = 0
    rate_hz: float = 0.0

    @classmethod
    def of(cls, robot: Any = None, view: Any = None) -> 'World':
        """Return the world of a robot (name, joint_names) and a ViewSpec; None is unknown."""
        known: dict[str, Any] = {}
        if robot is not None:
            known |= {'robot': robot.name, 'joint_names': tuple(robot.joint_names)}
        if view is not None:
            known |= {'view': view.name, 'view_hash': view_fingerprint(view)}
            known |= {'height': view.height, 'width': view.width, 'rate_hz': view.rate_hz}
        return cls(**known)


@dataclass(frozen=True)
class Manifest:
    """What eva.json holds.

    Attributes:
        kind: One of KINDS.
        world: The world that the checkpoint belongs to.
        details: What only this kind has, such as stride and normalisation of an IDM.
        training: How it was made: data, seed, settings, hardware.
    """

    kind: str
    world: World
    details: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


def view_fingerprint(view: Any) -> str:
    """Return a short hash of everything a view's file says: boxes, crops, rate and size."""
    if hasattr(view, 'model_dump'):
        said = view.model_dump(mode='json')
    else:
        cameras = [[camera.name, list(camera.box)] for camera in view.cameras]
        said = [view.name, view.height, view.width, view.rate_hz, cameras]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON for people and programs, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f'{path.name}.part')
    draft.write_text(json.dumps(data, indent=2) + '\n', encoding='utf-8')
    os.replace(draft, path)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a checkpoint's eva.json and let those who can read it read the weights beside it."""
    world = manifest.world
    joints = {'joint_names': list(world.joint_names)} if world.joint_names else {}
    about = {
        'format': FORMAT,
        'kind': manifest.kind,
        'robot': world.robot,
        **joints,
        'view': {
            'name': world.view,
            'hash': world.view_hash,
            'height': world.height,
            'width': world.width,
            'rate_hz': world.rate_hz,
        },
        **manifest.details,
        'training': manifest.training,
    }
    write_json(folder / FILE, about)
    # safetensors lets the owner alone read its files.
    ours = (folder / FILE).stat()
    for path in folder.rglob('*.safetensors'):
        if not path.is_symlink() and path.stat().st_uid == ours.st_uid:
            path.chmod(stat.S_IMODE(ours.st_mode))


def read_manifest(folder: Path, kind: str) -> Manifest:
    """Read a checkpoint's eva.json.

    Args:
        folder: Folder of the checkpoint.
        kind: Kind that it must be of.

    Raises:
        UserError: The file is missing or damaged, or of another kind or format.
    """
    path = folder / FILE
    try:
        about = json.loads(path.read_text(encoding='utf-8'))
        found = about['kind'], about.get('format', 1)
    except FileNotFoundError as error:
        raise UserError(
            f'{folder} does not hold {KINDS[kind]}: {path} does not exist; check the folder.'
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} cannot be read ({error!r}): copy it again.') from error
    if found[0] != kind:
        raise UserError(f"{folder} holds a checkpoint of kind '{found[0]}', not {KINDS[kind]}.")
    if found[1] not in (1, FORMAT):
        raise UserError(f'{path} has format {found[1]}, this version reads {FORMAT}: update it.')
    try:
        return _manifest(about if found[1] == FORMAT else _from_format_1(about))
    except (KeyError, TypeError) as error:
        raise UserError(f'{path} lacks {error}: copy it again.') from error


def _manifest(about: dict[str, Any]) -> Manifest:
    view = about['view']
    world = World(
        robot=about['robot'],
        joint_names=tuple(about.get('joint_names', ())),
        view=view['name'],
        view_hash=view.get('hash', ''),
        height=view.get('height', 0),
        width=view.get('width', 0),
        rate_hz=float(view.get('rate_hz', 0)),
    )
    details = {key: value for key, value in about.items() if key not in _KNOWN}
    return Manifest(about['kind'], world, details, about.get('training', {}))


def _from_format_1(about: dict[str, Any]) -> dict[str, Any]:
    """Return format 2: in format 1 only IDMs had a view, the others its name, some its size."""
    if isinstance(about.get('view'), dict):
        return about
    settings = dict(about.get('settings', {}))
    said = about | settings
    view = {key: said[key] for key in ('height', 'width', 'rate_hz') if key in said}
    if 'dt' in said:
        view['rate_hz'] = 1 / said['dt']
    known: dict[str, Any] = {'robot': said['robot'], 'view': {'name': said['view'], **view}}
    for key in ('robot', 'view', *view):
        settings.pop(key, None)
    return about | known | ({'settings': settings} if settings else {})


def require_world(folder: Path, manifest: Manifest, wanted: World) -> None:
    """Refuse a checkpoint that belongs to another world.

    Args:
        folder: Folder of the checkpoint.
        manifest: What it says of itself.
        wanted: The world that it shall be used in.

    Raises:
        UserError: Names what differs: robot, joints, view, rate, size or layout.
    """
    has, holds = manifest.world, f'{folder} holds {KINDS[manifest.kind]}'

    def differs(name: str) -> bool:
        there, here = getattr(has, name), getattr(wanted, name)
        return bool(there and here) and there != here

    view = f"view '{wanted.view}' has"
    advice = 'use a checkpoint made for it, or train one.'
    sentences = {
        'robot': f"{holds} trained on robot '{has.robot}', not on '{wanted.robot}': use a "
        f"checkpoint of '{wanted.robot}', or train one.",
        'joint_names': f'{holds} for the joints {", ".join(has.joint_names)}, but robot '
        f"'{wanted.robot}' has {', '.join(wanted.joint_names)} in this order: {advice}",
        'view': f"{holds} for view '{has.view}', not '{wanted.view}': {advice}",
        'rate_hz': f'{holds} trained at {has.rate_hz:g} Hz, but {view} {wanted.rate_hz:g} Hz: '
        f'{advice}',
        'height': f'{holds} for frames of {has.height}x{has.width}, but {view} '
        f'{wanted.height}x{wanted.width}: {advice}',
        'view_hash': f"View '{wanted.view}' has changed since the checkpoint in {folder} was made "
        '(another camera layout or crop): train it again.',
    }
    sentences['width'] = sentences['height']
    for name in ('robot', 'joint_names', 'view', 'rate_hz', 'height', 'width', 'view_hash'):
        if differs(name):
            raise UserError(sentences[name])
