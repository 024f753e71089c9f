"""Models too small to be any good, in real checkpoint folders: enough to run the nodes on."""

import dataclasses

from diffusers import FlowMatchEulerDiscreteScheduler
import torch

from eva_ros.alignment.critic import CriticConfig
from eva_ros.alignment.critic import ProgressCritic
from eva_ros.alignment.critic import save_critic
from eva_ros.idm.checkpoint import save_idm
from eva_ros.idm.config import IdmConfig
from eva_ros.idm.model import InverseDynamics
from eva_ros.observations.views import load_view
from eva_ros.robot.spec import load_robot
from eva_ros.training.manifest import view_fingerprint
from eva_ros.training.manifest import World
from eva_ros.world_model.checkpoint import load_world_model
from eva_ros.world_model.checkpoint import save_world_model
from eva_ros.world_model.codec import CodecConfig
from eva_ros.world_model.codec import LinearCodec
from eva_ros.world_model.rollout import WorldSettings
from eva_ros.world_model.small import SmallWorldModel
from eva_ros.world_model.text import WordEncoder
from eva_ros.world_model.transformer import small_wan

ROBOT = load_robot('aloha_sim')
VIEW = load_view('aloha_sim')
WORDS = ('touch', 'the', 'cube', 'with', 'left', 'right', 'arm')
INSTRUCTION = 'touch the cube with the left arm'


def small_world_model(folder, robot=ROBOT.name, steps=3, scale=1.0, history=0):
    """Write a world model whose dreams stand nearly still, and return its folder.

    Args:
        history: frames before the first that it takes.
        scale: of what the codec decodes; 3e38 makes dreams that are not finite of finite weights.
    """
    torch.manual_seed(0)
    settings = WorldSettings(
        'small', robot, VIEW.name, VIEW.height, VIEW.width, VIEW.rate_hz, VIEW.frames, steps=steps,
        history=history,
    )  # fmt: skip
    codec = LinearCodec(CodecConfig(VIEW.height, VIEW.width, channels=8))
    codec.change_scale.fill_(scale)
    text = WordEncoder(WORDS)
    groups = history // codec.config.group
    transformer = small_wan(8, text.width, width=64, layers=1, groups_before=groups)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    save_world_model(SmallWorldModel(settings, codec, text, transformer, scheduler), folder)
    return folder


def lively_world_model(folder, words=WORDS, history=0):
    """Write a world model whose dreams are noise, each seed's its own, and return its folder."""
    model = load_world_model(small_world_model(folder, history=history))
    model.text = WordEncoder(words)
    torch.nn.init.normal_(model.transformer.proj_out.weight, std=0.05)
    torch.nn.init.normal_(model.codec.change_basis, std=0.1)
    save_world_model(model, folder)
    return folder


def small_critic(folder, view=VIEW):
    """Write a critic that was never trained, and return its folder."""
    torch.manual_seed(0)
    config = CriticConfig(WORDS, view.height, view.width, (8, 8), 4, 2, 16)
    save_critic(ProgressCritic(config), folder, World.of(ROBOT, view), {})
    return folder


def small_idm(folder, pose, robot=ROBOT, bias=0.0):
    """Write a decoder that reads one pose [14] from whatever it sees, and return its folder.

    Args:
        bias: added to the pose; 3e38 and such a pose make an infinite reading of finite weights.
    """
    shape = {'widths': (8, 16), 'keypoints': 4, 'values': 2, 'hidden': 16}
    model = InverseDynamics(IdmConfig.of(robot, VIEW, **shape))
    for head in model.heads.values():
        torch.nn.init.zeros_(head.joints.weight)
        torch.nn.init.constant_(head.joints.bias, bias)
    model.mean.copy_(torch.tensor(pose, dtype=torch.float32))
    save_idm(model, folder, {}, view_fingerprint(VIEW))
    return folder


def renamed(robot, name):
    """Return the robot under another name."""
    return dataclasses.replace(robot, name=name)
