"""Folders that hold a trained inverse dynamics model: model.safetensors, config.json, eva.json."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from eva_ros.errors import UserError
from eva_ros.idm.config import IdmConfig
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.resume import write_json
from eva_ros.idm.resume import write_tensors
from eva_ros.training.weights import load_weights

FORMAT = 1
KIND = 'idm'


def view_fingerprint(view: Any) -> str:
    """Return a short hash of everything a view's file says: boxes, crops, rate and size."""
    if hasattr(view, 'model_dump'):
        said = view.model_dump(mode='json')
    else:
        said = [
            view.name,
            view.height,
            view.width,
            view.rate_hz,
            [[camera.name, list(camera.box)] for camera in view.cameras],
        ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def save_idm(
    model: InverseDynamics, folder: Path, training: dict[str, Any], view_hash: str = ''
) -> None:
    """Write a checkpoint.

    Args:
        model: the trained model.
        folder: where to.
        training: data, seed, steps, hardware: what the model card says.
        view_hash: `view_fingerprint` of the view.
    """
    config = model.config
    write_tensors(folder / 'model.safetensors', model.state_dict(), {})
    write_json(folder / 'config.json', config.to_dict())
    eva = {
        'format': FORMAT,
        'kind': KIND,
        'robot': config.robot,
        'joint_names': list(config.joint_names),
        'view': {
            'name': config.view,
            'hash': view_hash,
            'height': config.height,
            'width': config.width,
            'rate_hz': config.rate_hz,
        },
        'stride': config.stride,
        'normalisation': {'mean': model.mean.tolist(), 'std': model.std.tolist()},
        'training': training,
    }
    write_json(folder / 'eva.json', eva)


def load_idm(folder: Path | str, robot: Any = None, view: Any = None) -> InverseDynamics:
    """Load a checkpoint for inference.

    Args:
        folder: of the checkpoint.
        robot: the robot it shall be used on (name, joint_names); any if None.
        view: the view it shall read (name, height, width, rate_hz, cameras); any if None.

    Raises:
        UserError: no such checkpoint, it was trained for another robot, view or rate, or a weight
            is missing, foreign or not finite.
    """
    folder = Path(folder)
    eva, config = _read_json(folder / 'eva.json'), _read_json(folder / 'config.json')
    if eva.get('kind') != KIND:
        raise UserError(f"{folder} holds a checkpoint of kind '{eva.get('kind')}', not an IDM.")
    if eva.get('format') != FORMAT:
        raise UserError(
            f'{folder} has checkpoint format {eva.get("format")}, this version reads {FORMAT}.'
        )
    if robot is not None:
        _check_robot(folder, eva, robot)
    if view is not None:
        _check_view(folder, eva, view)
    model = InverseDynamics(IdmConfig.from_dict(config))
    load_weights(model, folder / 'model.safetensors')
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval().requires_grad_(requires_grad=False)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise UserError(
            f'{path} does not exist: {path.parent} is not an IDM checkpoint.'
        ) from error
    except ValueError as error:
        raise UserError(f'{path} is not valid JSON: {error}.') from error


def _check_robot(folder: Path, eva: dict[str, Any], robot: Any) -> None:
    if eva['robot'] != robot.name:
        raise UserError(
            f"The IDM in {folder} was trained on robot '{eva['robot']}' and cannot read "
            f"'{robot.name}': train one from recordings of '{robot.name}'."
        )
    if list(eva['joint_names']) != list(robot.joint_names):
        raise UserError(
            f'The IDM in {folder} gives the joints {", ".join(eva["joint_names"])}, but robot '
            f"'{robot.name}' has {', '.join(robot.joint_names)} in this order."
        )


def _check_view(folder: Path, eva: dict[str, Any], view: Any) -> None:
    trained = eva['view']
    if trained['name'] != view.name:
        raise UserError(f"The IDM in {folder} reads view '{trained['name']}', not '{view.name}'.")
    if float(trained['rate_hz']) != float(view.rate_hz):
        raise UserError(
            f"The IDM in {folder} was trained at {trained['rate_hz']:g} Hz, view '{view.name}' "
            f'has {view.rate_hz:g} Hz.'
        )
    if (trained['height'], trained['width']) != (view.height, view.width):
        raise UserError(
            f'The IDM in {folder} reads frames of {trained["height"]}x{trained["width"]}, view '
            f"'{view.name}' has {view.height}x{view.width}."
        )
    if trained['hash'] and trained['hash'] != view_fingerprint(view):
        raise UserError(
            f"View '{view.name}' has changed since the IDM in {folder} was trained (another "
            'camera layout or crop): train it again.'
        )
