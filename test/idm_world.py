"""A world to try an inverse dynamics model in: joints that are dots in the pictures."""

from types import SimpleNamespace

import numpy as np

from eva_ros.idm.config import IdmConfig

JOINTS = tuple(f'{arm}_{name}' for arm in ('left', 'right') for name in ('pan', 'lift', 'gripper'))
GRIPPERS = tuple(name.endswith('gripper') for name in JOINTS)
ARMS = {
    arm: SimpleNamespace(joint_names=names)
    for arm, names in (('left', JOINTS[:3]), ('right', JOINTS[3:]))
}
ROBOT = SimpleNamespace(name='dots', arms=ARMS, joint_names=JOINTS, gripper_mask=GRIPPERS)
VIEW = SimpleNamespace(
    name='dots',
    height=48,
    width=48,
    rate_hz=10.0,
    cameras=[
        SimpleNamespace(name='top', box=[0, 0, 32, 48], arms=None),
        SimpleNamespace(name='left_wrist', box=[32, 0, 16, 24], arms=None),
        SimpleNamespace(name='right_wrist', box=[32, 24, 16, 24], arms=None),
    ],
)
SHAPE = {'widths': (8, 16), 'keypoints': 8, 'values': 4, 'hidden': 32}


def config(**changes):
    return IdmConfig.of(ROBOT, VIEW, **(SHAPE | changes))


def view_with_arms(**arms):
    """Return the view with cameras that say whose arms they show."""
    cameras = [
        SimpleNamespace(name=c.name, box=c.box, arms=arms.get(c.name)) for c in VIEW.cameras
    ]
    return SimpleNamespace(**{**vars(VIEW), 'cameras': cameras})


def draw(joints):
    """Draw joints [6] in 0..1: a dot an arm in the top camera, brightness of the wrists."""
    frame = np.zeros((48, 48, 3), np.float64)
    ys, xs = np.mgrid[:32, :48]
    for arm in range(2):
        pan, lift, gripper = joints[3 * arm : 3 * arm + 3]
        y, x = 4 + 24 * lift, 4 + 16 * pan + 24 * arm
        frame[:32, :, arm] += np.exp(-((ys - y) ** 2 + (xs - x) ** 2) / 8)
        frame[32:, 24 * arm : 24 * arm + 24] = gripper
    return (frame.clip(0, 1) * 255).round().astype(np.uint8)


def episode(seed, steps=20):
    """Return an episode of smooth random motion, at rest at its end."""
    rng = np.random.default_rng(seed)
    time = np.minimum(np.arange(steps), steps - 4)[:, None]
    joints = 0.5 + 0.4 * np.sin(0.25 * time + rng.uniform(0, 2 * np.pi, 6))
    frames = np.stack([draw(row) for row in joints])
    return SimpleNamespace(
        frames=frames,
        joints=joints,
        instruction='move',
        task='move',
        source=f'episode {seed}',
        success=True,
    )


def episodes(count, first=0):
    return [episode(first + number) for number in range(count)]


def fingertips(joints):
    """Return where the dots are [N, 2, 3], m, a metre for the whole range."""
    joints = np.asarray(joints)
    spots = np.zeros((len(joints), 2, 3))
    for arm in range(2):
        spots[:, arm, :2] = joints[:, 3 * arm : 3 * arm + 2]
    return spots
