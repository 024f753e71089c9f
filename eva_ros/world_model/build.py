"""What a training starts from: a new world model for recordings, or a trained one."""

from dataclasses import replace
from pathlib import Path

from diffusers import FlowMatchEulerDiscreteScheduler
import torch
from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.world_model.checkpoint import load_world_model
from eva_ros.world_model.clips import ClipSampler
from eva_ros.world_model.codec import CodecConfig
from eva_ros.world_model.codec import LinearCodec
from eva_ros.world_model.rollout import WorldSettings
from eva_ros.world_model.small import SmallWorldModel
from eva_ros.world_model.text import WordEncoder
from eva_ros.world_model.text_encoder import TextEncoder
from eva_ros.world_model.transformer import small_wan
from eva_ros.world_model.transformer import with_history

FIT_BATCHES = 24


def build_world_model(
    settings: WorldSettings,
    sampler: ClipSampler,
    instructions: list[str],
    *,
    seed: int,
    text_encoder: TextEncoder | None = None,
    channels: int = 96,
    width: int = 256,
    layers: int = 8,
    shift: float = 3.0,
) -> SmallWorldModel:
    """Create an untrained world model.

    Args:
        settings: of the view and the robot.
        sampler: draws the clips the codec is fitted to.
        instructions: whose words become the vocabulary, where there is no text encoder.
        seed: of the initial weights.
        text_encoder: Frozen encoder of the instructions; None learns an embedding of words.
        channels: latent channels of the codec.
        width: features of a token.
        layers: transformer blocks.
        shift: of the noise schedule (flow_shift of Wan).
    """
    torch.manual_seed(seed)
    config = CodecConfig(settings.height, settings.width, channels=channels)
    codec = LinearCodec(config).fit(_batches(sampler))
    text = text_encoder or WordEncoder.from_instructions(instructions)
    groups = settings.history // config.group
    transformer = small_wan(channels, text.width, width=width, layers=layers, groups_before=groups)
    torch.nn.init.zeros_(transformer.proj_out.weight)
    torch.nn.init.zeros_(transformer.proj_out.bias)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    return SmallWorldModel(settings, codec, text, transformer, scheduler)


def trained_before(base: Path, robot, view, *, name: str, history: int | None) -> SmallWorldModel:
    """Return a small world model to fine-tune, extended by a history if one is asked for.

    Args:
        base: Folder of the checkpoint.
        robot: Robot that was recorded; another one than the checkpoint's is refused.
        view: View of the recordings; likewise.
        name: New name of the checkpoint.
        history: Observed frames before the first that it is to take; None keeps what it takes.

    Raises:
        UserError: The checkpoint cannot be read, does not fit, or takes another history already.
    """
    model = load_world_model(base, view, robot=robot)
    assert isinstance(model, SmallWorldModel)
    known, group = model.settings.history, model.codec.config.group
    wanted = history_after(base, known, history)
    if wanted != known:
        model.transformer = with_history(model.transformer, wanted // group)
    model.settings = replace(model.settings, name=name, history=wanted)
    return model


def history_after(base: Path, known: int, asked: int | None) -> int:
    """Return the history of a model after fine-tuning.

    Args:
        base: Folder of the checkpoint.
        known: History that it takes.
        asked: History that it is to take; None keeps what it takes.

    Raises:
        UserError: It takes another history already.
    """
    wanted = known if asked is None else asked
    if known not in (0, wanted):
        raise UserError(
            f'{base} was trained with a history of {known} frames: leave out --history.'
        )
    return wanted


def _batches(sampler: ClipSampler):
    for index in range(FIT_BATCHES):
        frames: Tensor = sampler.batch(-1 - index, 8)[0]
        yield frames.cpu()
