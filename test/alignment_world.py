"""A world model so small that it can be aligned within a test."""

from types import SimpleNamespace

import idm_world
import numpy as np
import torch

from eva_ros.alignment.judge import Judge
from eva_ros.alignment.judge import Judgement
from eva_ros.alignment.prompts import find_prompts
from eva_ros.alignment.reward import Executability
from eva_ros.alignment.reward import RewardSettings
from eva_ros.world_model.build import build_world_model
from eva_ros.world_model.clips import ClipSampler
from eva_ros.world_model.clips import ClipSettings
from eva_ros.world_model.clips import find_clips
from eva_ros.world_model.pipeline import WorldModel
from eva_ros.world_model.rollout import WorldSettings

FRAMES = 9


def episodes(count):
    """Return episodes that begin at rest, then move."""
    made = []
    for number in range(count):
        episode = idm_world.episode(number)
        for name in ('frames', 'joints'):
            values = getattr(episode, name)
            setattr(episode, name, np.concatenate([values[:1]] * 3 + [values]))
        made.append(episode)
    return made


def prompts(count=6):
    return find_prompts(episodes(count), FRAMES, idm_world.VIEW.rate_hz)


def world_model():
    view = idm_world.VIEW
    settings = WorldSettings(
        name='tiny', robot='dots', view='dots', height=view.height, width=view.width,
        rate_hz=view.rate_hz, frames=FRAMES, steps=4,
    )  # fmt: skip
    recorded = episodes(4)
    clips = find_clips([e.joints for e in recorded], 0.1, ClipSettings(FRAMES))
    sampler = ClipSampler(recorded, clips, seed=0)
    model: WorldModel = build_world_model(
        settings, sampler, ['move'], seed=0, channels=8, width=64, layers=2
    )
    # A fresh model predicts exactly nothing, whatever happens inside.
    torch.manual_seed(0)
    torch.nn.init.normal_(model.transformer.proj_out.weight, std=0.02)
    return model.eval()


class BrightnessJudge(Judge):
    """Likes bright dreams: a problem whose answer is known."""

    def fingerprint(self):
        return 'brightness'

    def __call__(self, frames, demonstrated, prompts=()):
        reward = 100 * frames[:, 1:].mean((1, 2, 3, 4))
        nothing = torch.zeros_like(reward)
        terms = Executability(reward, nothing + 1, *[nothing] * 6)
        return Judgement(reward, terms, nothing, torch.zeros(len(frames), FRAMES, 6))


def brightness_judge():
    limits = SimpleNamespace(grippers=torch.tensor(idm_world.GRIPPERS))
    idm = SimpleNamespace(config=SimpleNamespace(rate_hz=10.0))
    return BrightnessJudge(idm, limits, RewardSettings())
