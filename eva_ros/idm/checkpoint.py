"""Folders that hold a trained inverse dynamics model: model.safetensors, config.json, eva.json."""

import json
from pathlib import Path
from typing import Any

import torch

from eva_ros.errors import UserError
from eva_ros.idm.config import IdmConfig
from eva_ros.idm.model import InverseDynamics
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import read_manifest
from eva_ros.training.manifest import require_world
from eva_ros.training.manifest import World
from eva_ros.training.manifest import write_json
from eva_ros.training.manifest import write_manifest
from eva_ros.training.run_state import write_tensors
from eva_ros.training.weights import load_weights

KIND = 'idm'


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
    world = World(
        robot=config.robot,
        joint_names=config.joint_names,
        view=config.view,
        view_hash=view_hash,
        height=config.height,
        width=config.width,
        rate_hz=config.rate_hz,
    )
    details = {
        'stride': config.stride,
        'normalisation': {'mean': model.mean.tolist(), 'std': model.std.tolist()},
    }
    write_manifest(folder, Manifest(KIND, world, details, training))


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
    manifest = read_manifest(folder, KIND)
    require_world(folder, manifest, World.of(robot, view))
    path = folder / 'config.json'
    try:
        config = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read ({error}): copy it again.') from error
    model = InverseDynamics(IdmConfig.from_dict(config))
    load_weights(model, folder / 'model.safetensors')
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval().requires_grad_(requires_grad=False)
