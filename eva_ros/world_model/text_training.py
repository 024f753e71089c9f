"""Trains a small text encoder on text alone, to say what a world model was trained on.

For a world model an instruction is its embedding. The encoder learns to give every sentence of a
task the embedding that the model has for one of them, so that the model's weights stay as they
are and it dreams what it dreamed before.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import models
from tokenizers import normalizers
from tokenizers import pre_tokenizers
from tokenizers import Regex
from tokenizers import Tokenizer
import torch
from torch import Tensor
import torch.nn.functional as F
from transformers import DistilBertConfig
from transformers import DistilBertModel
from transformers import PreTrainedTokenizerFast

from eva_ros.training.loop import Task
from eva_ros.training.loop import TrainingLoop
from eva_ros.world_model.text_encoder import TextEncoder
from eva_ros.world_model.train import warm_and_fall

_PAD, _UNKNOWN = '[PAD]', '[UNK]'
# Returns a sentence with a reading.
Draw = Callable[[str, np.random.Generator], str]


@dataclass(frozen=True)
class TextSettings:
    """Settings of a training.

    Attributes:
        steps: Optimizer steps of the whole run.
        batch: Sentences of a step.
        learning_rate: Of AdamW, after the warm-up.
        warmup: Steps until the full rate.
        dropped: Share of the words that are hidden.
        kept: Words that are never hidden: without them a sentence means something else.
        telling: Weight of telling the readings apart, beside the embeddings' error.
        sharpness: Squared distance at which two readings are told apart.
        seed: Seed of the weights, the sentences and the hidden words.
    """

    steps: int = 4600
    batch: int = 32
    learning_rate: float = 1.5e-3
    warmup: int = 100
    dropped: float = 0.07
    kept: tuple[str, ...] = ()
    telling: float = 0.1
    sharpness: float = 0.02
    seed: int = 0


def build_text_encoder(
    words: Sequence[str], width: int, tokens: int, seed: int, layers: int = 2, heads: int = 4
) -> TextEncoder:
    """Create an encoder with random weights and a word for a token.

    Args:
        words: Its vocabulary; other words are refused.
        width: Features of a token.
        tokens: Words of the longest instruction.
        seed: Seed of the weights.
        layers: Number of layers.
        heads: Attention heads of a layer.
    """
    torch.manual_seed(seed)
    rows = {word: row for row, word in enumerate((_PAD, _UNKNOWN, *words))}
    splitter = Tokenizer(models.WordLevel(rows, unk_token=_UNKNOWN))
    splitter.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(Regex(r'[.,;:!?"()]'), ' ')]
    )
    splitter.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=splitter,
        pad_token=_PAD,
        unk_token=_UNKNOWN,
        model_max_length=tokens,
    )
    config = DistilBertConfig(
        vocab_size=len(rows),
        max_position_embeddings=tokens,
        dim=width,
        hidden_dim=2 * width,
        n_layers=layers,
        n_heads=heads,
        dropout=0.0,
        attention_dropout=0.0,
    )
    return TextEncoder(DistilBertModel(config), tokenizer)


class TextTraining(Task):
    """Learning to give sentences the embeddings of their readings.

    Args:
        text: Encoder to train.
        embeddings: Of each reading, what the world model has for it [tokens, width].
        draw: Source of the sentences.
        shares: How often each reading is drawn; they add up to 1.
        settings: How to train.
    """

    label = 'text-encoder'

    def __init__(
        self,
        text: TextEncoder,
        embeddings: Mapping[str, Tensor],
        draw: Draw,
        shares: Mapping[str, float],
        settings: TextSettings,
    ) -> None:
        self.text, self.settings, self._draw = text, settings, draw
        self.model = text.encoder.requires_grad_(requires_grad=True)
        self.optimizers = [
            torch.optim.AdamW(self.model.parameters(), settings.learning_rate, weight_decay=0.1)
        ]
        self._readings, self._shares = list(shares), list(shares.values())
        self._targets = torch.stack([embeddings[name] for name in shares])
        self._kept = text.tokenizer.convert_tokens_to_ids(list(settings.kept))

    def step(self, loop: TrainingLoop, number: int) -> Mapping[str, float]:
        """Take one optimizer step on a batch of sentences."""
        return loop.update(lambda: self._loss(number))

    def _loss(self, number: int) -> tuple[Tensor, dict[str, float]]:
        settings = self.settings
        rng = np.random.default_rng((settings.seed, number))
        rows = rng.choice(len(self._readings), settings.batch, p=self._shares)
        texts = [self._draw(self._readings[row], rng) for row in rows]
        tokens = torch.tensor([self.text.tokenize(text) for text in texts])
        # Of every other sentence all words are seen.
        share = settings.dropped * 2 * rng.integers(0, 2, (settings.batch, 1))
        hidden = torch.from_numpy(rng.random(tokens.shape) < share)
        kept = torch.tensor([self.text.tokenizer.pad_token_id, *self._kept])
        hidden &= ~torch.isin(tokens, kept)
        tokens = tokens.masked_fill(hidden, self.text.tokenizer.unk_token_id)
        states = self.text.hidden_states(tokens)
        distances = squared_distances(states, self._targets)
        right = torch.from_numpy(rows)
        error = distances.gather(1, right[:, None]).mean()
        told = F.cross_entropy(-distances / settings.sharpness, right)
        loss = error + settings.telling * told
        return loss, {'loss': loss.item(), 'error': error.item()}

    def rate(self, step: int, share: float) -> float:
        """Return `warm_and_fall` with the settings' warm-up."""
        return warm_and_fall(step, share, self.settings.warmup)

    def identity(self) -> Mapping[str, Any]:
        """Return what must be the same for a resumed run to be the same run."""
        chosen = {key: value for key, value in asdict(self.settings).items() if key != 'steps'}
        return {'settings': {**chosen, 'kept': list(self.settings.kept)}}


def squared_distances(states: Tensor, targets: Tensor) -> Tensor:
    """Return mean squared differences [B, R] of states [B, L, D] and targets [R, L, D]."""
    given, wanted = states.flatten(1), targets.flatten(1)
    squares = given.square().sum(1)[:, None] + wanted.square().sum(1) - 2 * given @ wanted.T
    return squares / given.shape[1]
