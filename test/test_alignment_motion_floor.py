"""A still video must not win: the motion floor."""

import pytest
import torch

from eva_ros.alignment.judge import Judge
from eva_ros.alignment.judge import motion_ratio
from eva_ros.alignment.judge import path_length
from eva_ros.alignment.reward import MotionLimits
from eva_ros.alignment.reward import RewardSettings

LIMITS = MotionLimits.paper()
ARMS = (~LIMITS.grippers).double()


class FixedRate:
    """Stands for an inverse dynamics model where only its rate matters."""

    class config:
        rate_hz = 10.0


def reach(rad=1.0):
    t = torch.linspace(0, 1, 17, dtype=torch.float64)
    return rad * (10 * t**3 - 15 * t**4 + 6 * t**5)[:, None] * ARMS


def judge():
    return Judge(FixedRate(), LIMITS, RewardSettings())


def demonstrated():
    return path_length(reach(), 0.1, LIMITS.grippers)


def trembling(seed=0):
    noise = torch.randn(17, 14, generator=torch.Generator().manual_seed(seed)).double()
    return reach() + 0.05 * noise


def test_still_video_wins_the_published_reward_but_not_with_the_motion_floor():
    paths = torch.stack([torch.zeros(17, 14).double(), trembling()])
    judged = judge().of_motion(paths, demonstrated().expand(2))
    assert judged.executability.score[0] > judged.executability.score[1]
    assert judged.reward[0] < judged.reward[1]


def test_smooth_reach_beats_both_the_still_video_and_the_trembling_reach():
    paths = torch.stack([reach(), torch.zeros(17, 14).double(), trembling()])
    judged = judge().of_motion(paths, demonstrated().expand(3))
    assert judged.reward.argmax() == 0


def test_shrinking_a_motion_never_pays_below_the_floor():
    paths = torch.stack([share * trembling() for share in (0.9, 0.7, 0.5, 0.3, 0.1, 0.0)])
    rewards = judge().of_motion(paths, demonstrated().expand(6)).reward
    assert (rewards.diff() < 0).all()


def test_tremble_is_not_travel():
    still = torch.randn(17, 14, generator=torch.Generator().manual_seed(3)).double() * 0.01
    raw = still[:, ~LIMITS.grippers].diff(dim=0).abs().sum(0).mean()
    assert path_length(still, 0.1, LIMITS.grippers) < 0.2 * raw


def test_gripper_motion_does_not_count():
    path = torch.zeros(17, 14).double()
    path[:, LIMITS.grippers] = torch.linspace(0, 1, 17).double()[:, None]
    assert float(path_length(path, 0.1, LIMITS.grippers)) == 0


def test_motion_ratio_compares_whole_sets():
    assert motion_ratio(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 3.0])) == pytest.approx(0.8)
