"""Instructions as words: a vocabulary taken from the recordings, one embedding a word."""

from collections.abc import Iterable
import json
from pathlib import Path
import re

from safetensors.torch import save_file
import torch
from torch import nn
from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.training.weights import load_weights
from eva_ros.world_model.folder import TEXT
from eva_ros.world_model.instructions import require_length
from eva_ros.world_model.instructions import shortened

_PAD = 0


def split_words(instruction: str) -> list[str]:
    """Return the lower-case words of an instruction, punctuation dropped."""
    return re.findall(r"[a-z0-9']+", instruction.lower())


class WordEncoder(nn.Module):
    """Embeds the words of an instruction; learned together with the transformer.

    Args:
        words: the vocabulary, in the order of its rows.
        width: features of a word (`text_dim` of the transformer).
        max_words: words of the longest instruction.

    Attributes:
        frozen: False: it is trained with the transformer.
    """

    frozen = False

    def __init__(self, words: Iterable[str], width: int = 128, max_words: int = 16):
        """Create an encoder with random embeddings."""
        super().__init__()
        self.words = tuple(words)
        self.width = width
        self.max_words = max_words
        self._index = {word: i + 1 for i, word in enumerate(self.words)}
        self.embedding = nn.Embedding(len(self.words) + 1, width)
        self.position = nn.Parameter(0.1 * torch.randn(max_words, width))

    @classmethod
    def from_instructions(cls, instructions: Iterable[str], **options) -> 'WordEncoder':
        """Create an encoder for all words that occur in the given instructions."""
        return cls(sorted({w for text in instructions for w in split_words(text)}), **options)

    def check(self, instruction: str, name: str) -> None:
        """Refuse an instruction that `tokenize` cannot read; `name` is the world model's."""
        self.tokenize(instruction)

    def tokenize(self, instruction: str) -> list[int]:
        """Return max_words word indices, padded.

        Raises:
            UserError: a word is not in the vocabulary, or there are too many or no words.
        """
        require_length(instruction, self.max_words, 'words')
        words = split_words(instruction)
        if len(words) > self.max_words:
            raise UserError(
                f'The instruction {shortened(instruction)} has {len(words)} words: '
                f'shorten it to {self.max_words}.'
            )
        unknown = [w for w in words if w not in self._index]
        if unknown or not words:
            what = f'has unknown words ({", ".join(unknown)})' if words else 'is empty'
            raise UserError(
                f'The instruction {shortened(instruction)} {what}: use only these words: '
                f'{", ".join(self.words)}.'
            )
        indices = [self._index[w] for w in words]
        return indices + [_PAD] * (self.max_words - len(indices))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return embeddings [B, max_words, width] of word indices [B, max_words]."""
        return self.embedding(tokens) + self.position

    def save(self, folder: Path) -> None:
        """Write words.json and text.safetensors into text/ of a world model's folder."""
        folder = folder / TEXT
        folder.mkdir(parents=True, exist_ok=True)
        config = {'words': self.words, 'width': self.width, 'max_words': self.max_words}
        (folder / 'words.json').write_text(json.dumps(config, indent=1) + '\n')
        save_file(self.state_dict(), folder / 'text.safetensors')

    @classmethod
    def load(cls, folder: Path) -> 'WordEncoder':
        """Read an encoder back from the text/ that save wrote."""
        encoder = cls(**json.loads((folder / 'words.json').read_text()))
        load_weights(encoder, folder / 'text.safetensors')
        return encoder
