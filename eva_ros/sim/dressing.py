"""Puts a look on a MuJoCo model, and takes it off again."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from eva_ros.sim.looks import DISTRACTORS
from eva_ros.sim.looks import Look

# Where a distractor is that a scene does not have: below the table, and invisible.
_NOWHERE = (0.0, 0.6, -0.1)


def add_distractors(spec: Any, mujoco: ModuleType) -> None:
    """Add the distractors to a model's description: fixed bodies that arms can touch."""
    for i, (shape, size) in enumerate(DISTRACTORS):
        body = spec.worldbody.add_body(name=f'distractor_{i}', pos=_NOWHERE)
        kind = getattr(mujoco.mjtGeom, f'mjGEOM_{shape.upper()}')
        body.add_geom(name=f'distractor_{i}', type=kind, size=size)


class Dresser:
    """Changes how a model looks.

    Args:
        mujoco: The module.
        model: MuJoCo model, as loaded.
        cameras: Names of the cameras, in the order of a look, the top camera first.
    """

    def __init__(self, mujoco: ModuleType, model: Any, cameras: Sequence[str]):
        """Remember the clean look."""
        self._mujoco = mujoco
        self._model = model
        self._cameras = [model.camera(name).id for name in cameras]
        self._table, self._target = model.geom('table').id, model.geom('red_box').id
        names = [model.body(i).name for i in range(model.nbody)]
        self._distractors = [i for i, name in enumerate(names) if name.startswith('distractor')]
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        self._top = np.zeros(4)
        mujoco.mju_mat2Quat(self._top, data.cam_xmat[self._cameras[0]])
        self._clean = {name: values.copy() for name, values in self._values().items()}

    def _values(self) -> dict[str, Any]:
        model = self._model
        return {
            'ambient': model.vis.headlight.ambient,
            'diffuse': model.light_diffuse,
            'dir': model.light_dir,
            'rgba': model.geom_rgba,
            'cam_pos': model.cam_pos,
            'cam_quat': model.cam_quat,
            'cam_mode': model.cam_mode,
            'fovy': model.cam_fovy,
            'body_pos': model.body_pos,
            'body_quat': model.body_quat,
        }

    def dress(self, look: Look | None) -> None:
        """Put on a look, or the clean one."""
        values = self._values()
        for name, clean in self._clean.items():
            values[name][:] = clean
        for body in self._distractors:
            values['rgba'][self._model.body_geomadr[body], 3] = 0
        if look is None:
            return
        values['ambient'][:] *= look.light[0]
        values['diffuse'][:] *= look.light[1:]
        turned = values['dir'] + look.lamp_turns
        values['dir'][:] = turned / np.linalg.norm(turned, axis=1, keepdims=True)
        values['rgba'][self._table, :3] = look.table
        values['rgba'][self._target, :3] = look.target
        values['cam_pos'][self._cameras] += look.camera_offsets
        values['fovy'][self._cameras] += look.camera_zooms
        self._turn_top_camera(look, values)
        self._place_distractors(look, values)

    def _turn_top_camera(self, look: Look, values: dict[str, Any]) -> None:
        # It aims at the table straight below it: shifted, it would turn about its own axis.
        turn = np.append(1.0, look.top_turn / 2)
        values['cam_mode'][self._cameras[0]] = self._mujoco.mjtCamLight.mjCAMLIGHT_FIXED
        quat = values['cam_quat'][self._cameras[0]]
        self._mujoco.mju_mulQuat(quat, self._top, turn / np.linalg.norm(turn))

    def _place_distractors(self, look: Look, values: dict[str, Any]) -> None:
        for body, (shape, size), place, colour in zip(
            self._distractors, DISTRACTORS, look.places, look.colours
        ):
            if np.isnan(place).any():
                continue
            x, y, angle = place
            half_height = {'box': size[2], 'cylinder': size[1], 'sphere': size[0]}[shape]
            values['body_pos'][body] = x, y, half_height
            values['body_quat'][body] = np.cos(angle / 2), 0, 0, np.sin(angle / 2)
            values['rgba'][self._model.body_geomadr[body]] = *colour, 1
