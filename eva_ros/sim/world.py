"""The simulated two-arm robot: MuJoCo with the assets of gym-aloha, positions in, images out."""

import atexit
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.sim.dressing import add_distractors
from eva_ros.sim.dressing import Dresser
from eva_ros.sim.looks import Look

os.environ.setdefault('MUJOCO_GL', 'egl')

SIDES = ('left', 'right')
CAMERAS = ('top', 'left_wrist', 'right_wrist')
IMAGE_SIZE = (240, 320)
STEP_NS = 2_000_000
CUBE_HALF = 0.02
# Half sizes of what the tasks are about, m; the bar lies along x.
TARGETS = {'cube': (CUBE_HALF,) * 3, 'bar': (0.16, 0.015, 0.015)}
# between the fingertips, in the gripper's frame
FINGERTIPS = np.array([0.15, 0.0, 0.0])
_FINGER_CLOSED, _FINGER_OPEN = 0.021, 0.057
_SETTLE_STEPS = 250
_NO_GL = (
    'The simulated cameras cannot render: no usable EGL library '
    '(install libegl1 and libgl1-mesa-dri, or set MUJOCO_GL).'
)


class AlohaWorld:
    """Two ViperX arms, a table and a red cube or bar, stepped by 2 ms.

    Joint positions are in the robot's order [14]: six joints and a gripper (0 closed, 1 open) of
    the left arm, then of the right.

    Attributes:
        kind: The arguments target and cluttered.

    Args:
        height: Image height in pixels.
        width: Image width in pixels.
        target: What lies on the table, cube or bar.
        cluttered: Whether the world has distractor objects, which reset() puts into place.
    """

    def __init__(
        self,
        height: int = IMAGE_SIZE[0],
        width: int = IMAGE_SIZE[1],
        target: str = 'cube',
        cluttered: bool = False,
    ):
        """Load the model; nothing is rendered yet."""
        self._mujoco = mujoco = _import_mujoco()
        self._size = (height, width)
        self.kind = (target, cluttered)
        self._half_height = TARGETS[target][2]
        self.model = _load_model(mujoco, target, cluttered)
        self.data = mujoco.MjData(self.model)
        self._renderer: Any = None
        self._steps = 0
        self._grippers = [self.model.body(f'vx300s_{s}/gripper_link').id for s in SIDES]
        names = [
            mujoco.mj_id2name(self.model, mujoco.mjtObj.mjOBJ_GEOM, i) or ''
            for i in range(self.model.ngeom)
        ]
        self._box = names.index('red_box')
        self._names = [_touching_name(name) for name in names]
        self._dresser = Dresser(mujoco, self.model, CAMERAS)

    @property
    def time_ns(self) -> int:
        """Return the simulated time since the reset."""
        return self._steps * STEP_NS

    def reset(self, joints: ArrayLike, target: ArrayLike, look: Look | None = None) -> None:
        """Place the arms [14] and the target's centre [3] and let them settle.

        Args:
            joints: Joint positions [14].
            target: Centre of the cube or bar [3].
            look: How the scene looks; None for the clean look.
        """
        self._dresser.dress(look)
        data = self.data
        self._mujoco.mj_resetData(self.model, data)
        raw = _to_model(np.asarray(joints, float))
        data.qpos[:16] = raw
        data.qpos[16:19] = target
        data.qpos[19:23] = [1, 0, 0, 0]
        data.ctrl[:] = raw
        self._mujoco.mj_step(self.model, data, _SETTLE_STEPS)
        data.qvel[:] = 0
        self._steps = 0

    def command(self, joints: ArrayLike) -> None:
        """Set the actuators' targets [14]."""
        self.data.ctrl[:] = _to_model(np.asarray(joints, float))

    def step(self, count: int = 1) -> None:
        """Advance by `count` physics steps."""
        self._mujoco.mj_step(self.model, self.data, count)
        self._steps += count

    @property
    def joints(self) -> NDArray[np.float64]:
        """Return the measured joint positions [14]."""
        return _from_model(self.data.qpos[:16])

    @property
    def velocities(self) -> NDArray[np.float64]:
        """Return the measured joint velocities [14], rad/s and 1/s."""
        raw = self.data.qvel[:16].reshape(2, 8)
        return np.c_[raw[:, :6], raw[:, 6] / (_FINGER_OPEN - _FINGER_CLOSED)].ravel()

    @property
    def target(self) -> NDArray[np.float64]:
        """Return the centre of the cube or bar [3] (for judges only)."""
        return self.data.geom_xpos[self._box].copy()

    @property
    def height(self) -> float:
        """Return the height of the target above where it lay, in m (for judges only)."""
        return float(self.data.geom_xpos[self._box][2]) - self._half_height

    @property
    def tilt(self) -> float:
        """Return the angle of the target's x axis to the table, in rad (for judges only)."""
        return float(np.arcsin(np.clip(abs(self.data.geom_xmat[self._box][6]), 0, 1)))

    def fingertips(self, side: str) -> NDArray[np.float64]:
        """Return the midpoint of an arm's fingertips [3]."""
        body = self._grippers[SIDES.index(side)]
        rotation = self.data.xmat[body].reshape(3, 3)
        return self.data.xpos[body] + rotation @ FINGERTIPS

    def touching_target(self) -> set[str]:
        """Return what touches the target: 'table', 'left/left' (arm/finger), 'left/arm', ..."""
        pairs = self.data.contact.geom[: self.data.ncon]
        mine = pairs[(pairs == self._box).any(axis=1)]
        return {self._names[int(geom)] for geom in mine.ravel() if geom != self._box}

    def render(self, camera: str) -> NDArray[np.uint8]:
        """Return the current image of a camera [height, width, 3], RGB.

        Raises:
            UserError: There is no OpenGL library to render with.
        """
        if self._renderer is None:
            self._renderer = self._make_renderer()
        self._renderer.update_scene(self.data, camera)
        return self._renderer.render()

    def _make_renderer(self) -> Any:
        mujoco = self._mujoco
        try:
            _use_egl()
            renderer = mujoco.Renderer(self.model, *self._size)
        except Exception as error:
            raise UserError(_NO_GL) from error
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = False
        # before the display is terminated, which mujoco registered when it made the context
        atexit.register(renderer.close)
        return renderer

    def close(self) -> None:
        """Release the renderer."""
        if self._renderer is not None:
            atexit.unregister(self._renderer.close)
            self._renderer.close()
            self._renderer = None


def _load_model(mujoco: ModuleType, target: str, cluttered: bool) -> Any:
    """Return gym-aloha's world with its cube, or with a bar or distractors added to it."""
    import gym_aloha

    path = Path(gym_aloha.__file__).parent / 'assets' / 'bimanual_viperx_transfer_cube.xml'
    clean = mujoco.MjModel.from_xml_path(str(path))
    if target == 'cube' and not cluttered:
        return clean
    spec = mujoco.MjSpec.from_file(str(path))
    spec.geom('red_box').size = TARGETS[target]
    if cluttered:
        add_distractors(spec, mujoco)
    # Clipping planes and fog depend on the extent, which what is added would change.
    spec.stat.extent, spec.stat.center = clean.stat.extent, clean.stat.center
    return spec.compile()


def _touching_name(geom: str) -> str:
    """Return what a geom is called among what touches: arm/finger, arm/arm, or its own name."""
    arm, _, part = geom.removeprefix('vx300s_').partition('/')
    finger = part.removeprefix('10_').removesuffix('_gripper_finger')
    if not part:
        return geom
    return f'{arm}/{finger}' if finger in SIDES else f'{arm}/arm'


def _import_mujoco() -> ModuleType:
    try:
        import mujoco
    except (AttributeError, OSError, ImportError) as error:
        # without libEGL it is the import that fails
        raise UserError(_NO_GL) from error
    return mujoco


def _use_egl() -> None:
    """Select EGL even if mujoco was imported before MUJOCO_GL was set here."""
    if os.environ['MUJOCO_GL'] == 'egl':
        from mujoco.egl import GLContext
        from mujoco.rendering.classic import gl_context

        gl_context.GLContext = GLContext


def _to_model(joints: NDArray) -> NDArray:
    arms = joints.reshape(2, 7)
    finger = _FINGER_CLOSED + np.clip(arms[:, 6:], 0, 1) * (_FINGER_OPEN - _FINGER_CLOSED)
    return np.concatenate((arms[:, :6], finger, -finger), 1).ravel()


def _from_model(raw: NDArray) -> NDArray:
    arms = raw.reshape(2, 8)
    opening = (arms[:, 6:7] - _FINGER_CLOSED) / (_FINGER_OPEN - _FINGER_CLOSED)
    return np.concatenate((arms[:, :6], opening), 1).ravel()
