"""The progress critic: how far a frame is in the task that an instruction asks for.

A scalar potential for each frame; of two frames the one with the higher potential is later in
the task with probability sigmoid(difference), as in the order critics of reward learning from
demonstrations (STEAM in RLinf). A still dream has made no progress by construction, and a
reversed one as much as the recorded one, with the opposite sign.
"""

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.idm.towers import KeypointReadout
from eva_ros.idm.towers import Tower
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import read_manifest
from eva_ros.training.manifest import require_world
from eva_ros.training.manifest import World
from eva_ros.training.manifest import write_json
from eva_ros.training.manifest import write_manifest
from eva_ros.training.run_state import write_tensors
from eva_ros.training.weights import load_weights
from eva_ros.world_model.text import split_words

KIND = 'critic'
# Keeps what a demonstration gains in a dream's length (10 to 15 in simulation) off the flat part.
_SCALE = 10.0


@dataclass(frozen=True)
class CriticConfig:
    """The shape of a critic.

    Attributes:
        words: Words of the instructions that it knows.
        height: Height of the view, pixels.
        width: Width of the view, pixels.
        channels: Channels at a quarter and at an eighth of the resolution.
        keypoints: Keypoints read from the view.
        values: Features read at each keypoint.
        hidden: Width of the layers behind them.
    """

    words: tuple[str, ...]
    height: int
    width: int
    channels: tuple[int, int] = (24, 48)
    keypoints: int = 24
    values: int = 4
    hidden: int = 128


class ProgressCritic(nn.Module):
    """Judges frames by how far they are in a task."""

    def __init__(self, config: CriticConfig) -> None:
        """Build an untrained critic."""
        super().__init__()
        self.config = config
        self._index = {word: i for i, word in enumerate(config.words)}
        size = (config.height // 4, config.width // 4)
        self.tower = Tower(config.channels)
        self.readout = KeypointReadout(config.channels[0], size, config.keypoints, config.values)
        self.frame = nn.Sequential(
            nn.LayerNorm(self.readout.size), nn.Linear(self.readout.size, config.hidden)
        )
        self.text = nn.Sequential(
            nn.Linear(len(config.words), 64), nn.GELU(), nn.Linear(64, 2 * config.hidden)
        )
        self.head = nn.Sequential(
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, 1),
        )

    def features(self, frames: Tensor) -> Tensor:
        """Return what frames [N, 3, H, W], 0 to 1, show, whatever the instruction [N, hidden]."""
        return self.frame(self.readout(self.tower(frames * 2 - 1)))

    def potential(self, features: Tensor, instructions: Sequence[str]) -> Tensor:
        """Return how far frames with these features [N, hidden] are in their tasks [N]."""
        scale, shift = self.text(self._bags(instructions).to(features)).chunk(2, -1)
        return self.head(features * (1 + scale) + shift).squeeze(-1).float()

    def progress(self, frames: Tensor, instructions: Sequence[str]) -> Tensor:
        """Return the progress from the first to the last frame of clips, -1 to 1 [N].

        Args:
            frames: Clips [N, T, 3, H, W], 0 to 1.
            instructions: What each was asked to do [N].
        """
        ends = self.features(torch.cat([frames[:, 0], frames[:, -1]]))
        first, last = self.potential(ends, [*instructions, *instructions]).chunk(2)
        return ((last - first) / _SCALE).tanh()

    def _bags(self, instructions: Sequence[str]) -> Tensor:
        """Return which words each instruction holds [N, words]; unknown ones are left out."""
        bags = torch.zeros(len(instructions), len(self.config.words))
        for row, instruction in enumerate(instructions):
            for word in split_words(instruction):
                if word in self._index:
                    bags[row, self._index[word]] = 1.0
        return bags


def words_of(instructions: Iterable[str]) -> tuple[str, ...]:
    """Return all words of instructions, in alphabetical order."""
    return tuple(sorted({word for text in instructions for word in split_words(text)}))


def save_critic(
    critic: ProgressCritic, folder: Path, world: World, training: dict[str, Any]
) -> None:
    """Write a checkpoint: model.safetensors, config.json and eva.json."""
    write_tensors(folder / 'model.safetensors', critic.state_dict(), {})
    write_json(folder / 'config.json', asdict(critic.config))
    write_manifest(folder, Manifest(KIND, world, {}, training))


def load_critic(folder: Path, robot: Any = None, view: Any = None) -> ProgressCritic:
    """Load a checkpoint for inference.

    Args:
        folder: Folder of the checkpoint.
        robot: Robot it will be used with (name, joint_names); any if None.
        view: View it will judge; any if None.

    Raises:
        UserError: There is no such checkpoint, it was trained for another robot or view, or a
            weight is missing, foreign or not finite.
    """
    require_world(folder, read_manifest(folder, KIND), World.of(robot, view))
    path = folder / 'config.json'
    try:
        about = json.loads(path.read_text(encoding='utf-8'))
        lists = {key: tuple(about[key]) for key in ('words', 'channels')}
        critic = ProgressCritic(CriticConfig(**about | lists))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} cannot be read ({error!r}): copy it again.') from error
    load_weights(critic, folder / 'model.safetensors')
    return critic.eval().requires_grad_(requires_grad=False)
