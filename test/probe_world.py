"""A world for probes: pictures whose columns are the joints, so that reading them is exact."""

from types import SimpleNamespace

import idm_world
import numpy as np
import torch

from eva_ros.alignment.judge import Judge
from eva_ros.alignment.prompts import find_prompts
from eva_ros.alignment.reward import MotionLimits
from eva_ros.alignment.reward import RewardSettings
from eva_ros.alignment.reward import RewardWeights

STEPS, RATE_HZ, SIZE = 17, 10.0, 16
GRIPPERS = torch.tensor(idm_world.GRIPPERS)


def draw(joints):
    """Return frames [T, 16, 16, 3] of joints [T, 6] in -1..1; mirrored, the arms change places."""
    levels = ((np.asarray(joints) + 1) / 2 * 255).round().clip(0, 255).astype(np.uint8)
    frames = np.full((len(levels), SIZE, SIZE, 3), 128, np.uint8)
    for joint in range(3):
        frames[:, :, 2 * joint : 2 * joint + 2] = levels[:, None, joint, None, None]
        left = SIZE - 2 - 2 * joint
        frames[:, :, left : left + 2] = levels[:, None, 3 + joint, None, None]
    return frames


def joints_in(frames):
    """Return the joints [N, T, 6] in frames [N, T, 3, 16, 16], 0 to 1."""
    columns = frames.mean((2, 3)) * 2 - 1
    left = [columns[..., 2 * j : 2 * j + 2].mean(-1) for j in range(3)]
    ends = [SIZE - 2 - 2 * j for j in range(3)]
    right = [columns[..., end : end + 2].mean(-1) for end in ends]
    return torch.stack([*left, *right], -1)


class ReadingJudge(Judge):
    """Reads the joints off the columns."""

    def read(self, frames):
        return joints_in(frames)


def judge(kind=ReadingJudge, **options):
    far = torch.full((6,), 2.0, dtype=torch.float64)
    limits = MotionLimits(far, 5 * far, -far, far, GRIPPERS)
    idm = SimpleNamespace(config=SimpleNamespace(rate_hz=RATE_HZ))
    return kind(idm, limits, RewardSettings(), spread=torch.full((6,), 0.3), **options)


def weights(**terms):
    return RewardWeights(**{'executability': 0.0, 'motion': 0.0} | terms)


def episode(number, task='left', *, success=True, share=1.0, goal=None):
    """Return one arm's reach to a place of its own; a failed one goes only a share of the way."""
    rng = np.random.default_rng([number, *task.encode()])
    t = np.linspace(0, 1, STEPS)
    course = (10 * t**3 - 15 * t**4 + 6 * t**5)[:, None]
    start = rng.uniform(-0.2, 0.2, 6)
    arm = slice(0, 2) if task == 'left' else slice(3, 5)
    way = np.zeros(6)
    # Up or down, so that places differ as much as they do between scenes.
    way[arm] = rng.choice([-1, 1], 2) * rng.uniform(0.4, 0.7, 2) if goal is None else goal
    joints = start + share * course * way
    return SimpleNamespace(
        frames=draw(joints),
        joints=joints,
        instruction=f'reach with the {task} arm',
        task=task,
        success=success,
        way=way,
    )


def episodes(count=24):
    return [episode(i, ('left', 'right')[i % 2]) for i in range(count)]


def prompts(count=24):
    return find_prompts(episodes(count), STEPS, RATE_HZ)
