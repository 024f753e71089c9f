"""Instructions by a text encoder of transformers, frozen, read from a local folder."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import json
from pathlib import Path

from diffusers.pipelines.wan.pipeline_wan import prompt_clean
import torch
from torch import nn
from torch import Tensor
from transformers import AutoModelForTextEncoding
from transformers import AutoTokenizer
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from eva_ros.errors import UserError
from eva_ros.training.finite import require_finite
from eva_ros.training.manifest import write_json
from eva_ros.world_model.folder import read_text_encoder
from eva_ros.world_model.folder import TEXT_ENCODER
from eva_ros.world_model.folder import TOKENIZER
from eva_ros.world_model.instructions import require_tokens
from eva_ros.world_model.instructions import shortened

READINGS = 'readings.json'
# Tokens that an instruction is padded to, where the encoder does not say less.
MAX_TOKENS = 64
# Share of the squared distance to the next task that is clearly nearer.
_CLEARLY = 0.5
# A layer that some checkpoints lack, and that no hidden state depends on.
_POOLER = 'pooler.'


@dataclass(frozen=True)
class Readings:
    """What an encoder that was made for certain tasks accepts as an instruction.

    Attributes:
        instructions: One for each task it was made for, at least two.
        farthest: Largest mean squared distance of an instruction's embedding to the nearest of
            theirs. It must be clearly less than that to the next one, too.
    """

    instructions: Sequence[str]
    farthest: float


class TextEncoder(nn.Module):
    """Embeds instructions as the last hidden states of an encoder, those of the padding included.

    Args:
        encoder: Any model of transformers that encodes text; it is never trained.
        tokenizer: Its tokenizer, with a token for padding.
        readings: What counts as an instruction; None takes any text that has tokens.
    """

    frozen = True

    def __init__(
        self,
        encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        readings: Readings | None = None,
    ) -> None:
        super().__init__()
        if tokenizer.pad_token_id is None:
            raise UserError(
                f'The tokenizer of {type(encoder).__name__} has no token for padding: '
                'take an encoder whose tokenizer has one.'
            )
        self.encoder = encoder.requires_grad_(requires_grad=False)
        self.tokenizer = tokenizer
        self.readings = readings
        places = getattr(encoder.config, 'max_position_embeddings', MAX_TOKENS)
        self.max_tokens = min(MAX_TOKENS, tokenizer.model_max_length, places)
        self._accepted: set[str] = set()
        self.eval()

    @property
    def width(self) -> int:
        """Return the features of a token (`text_dim` of the transformer)."""
        return self.encoder.config.hidden_size

    def train(self, mode: bool = True) -> 'TextEncoder':
        """Stay as in inference: nothing is dropped while the transformer is trained."""
        return super().train(mode=False)

    def check(self, instruction: str, name: str) -> None:
        """Refuse an instruction that cannot be encoded.

        Args:
            instruction: What the robot is told.
            name: Name of the world model.

        Raises:
            UserError: It is empty, too long, has words without a token, or does not read as one
                of the tasks that the encoder was made for.
        """
        if instruction in self._accepted:
            return
        require_tokens(self.tokenizer, instruction, self.max_tokens, name)
        if self.readings is not None and not all(self.is_read(instruction)):
            raise UserError(
                f'The instruction {shortened(instruction)} does not read as a task that the '
                f'text encoder of {name} knows, e.g. {self.readings.instructions[0]!r}: '
                'say it in other words.'
            )
        self._accepted.add(instruction)

    def is_read(self, *instructions: str) -> list[bool]:
        """Return whether instructions read as one of the tasks that the encoder was made for.

        True for every text where the encoder was made for any.
        """
        if self.readings is None:
            return [True] * len(instructions)
        nearest, other = self.distances(instructions, self.readings.instructions)[:, :2].T
        return ((nearest <= self.readings.farthest) & (nearest <= _CLEARLY * other)).tolist()

    def distances(self, instructions: Sequence[str], others: Sequence[str]) -> Tensor:
        """Return mean squared distances [B, R] of embeddings to those of others, nearest first."""
        given, known = self.embed(instructions), self.embed(others)
        apart = torch.stack([(given - one).square().mean((1, 2)) for one in known], 1)
        return apart.sort().values

    def embed(self, instructions: Sequence[str]) -> Tensor:
        """Return the embeddings [B, max_tokens, width] of instructions."""
        return self(torch.tensor([self.tokenize(text) for text in instructions]))

    def tokenize(self, instruction: str) -> list[int]:
        """Return max_tokens token indices, padded."""
        return self.tokenizer(
            prompt_clean(instruction),
            padding='max_length',
            max_length=self.max_tokens,
            truncation=True,
        ).input_ids

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Return hidden states [B, max_tokens, width] of token indices [B, max_tokens]."""
        return self.hidden_states(tokens)

    def hidden_states(self, tokens: Tensor) -> Tensor:
        """Return the same with gradients, for those who train an encoder."""
        tokens = tokens.to(self.encoder.device)
        mask = (tokens != self.tokenizer.pad_token_id).long()
        return self.encoder(tokens, attention_mask=mask).last_hidden_state.float()

    def save(self, folder: Path) -> None:
        """Write text_encoder/ and tokenizer/ into the folder of a world model."""
        with _quietly():
            self.encoder.save_pretrained(folder / TEXT_ENCODER)
        self.tokenizer.save_pretrained(folder / TOKENIZER)
        if self.readings is not None:
            write_json(folder / TEXT_ENCODER / READINGS, vars(self.readings))

    @classmethod
    def load(cls, path: Path) -> 'TextEncoder':
        """Read an encoder of any architecture for text; nothing is downloaded or unpickled.

        Args:
            path: Folder of the encoder. Its tokenizer is in the same folder, or in tokenizer/
                beside it, as in a checkpoint of diffusers.

        Raises:
            UserError: Something is missing, pickled, damaged or not finite.
        """
        part = read_text_encoder(path)
        own = (path / 'tokenizer_config.json').is_file()
        try:
            with _quietly():
                encoder, about = AutoModelForTextEncoding.from_pretrained(
                    path,
                    local_files_only=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                    dtype='auto',
                )
            tokenizer = AutoTokenizer.from_pretrained(
                path if own else path.parent / TOKENIZER,
                local_files_only=True,
                trust_remote_code=False,
            )
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise UserError(f'The text encoder in {path} cannot be read: {reason}') from error
        _require_whole(path, about['missing_keys'])
        if about['missing_keys']:
            encoder.pooler = None
        require_finite(encoder.state_dict(), str(part.path), 'copy it again')
        for weight in encoder.parameters():
            weight.data = weight.data.clone()  # not the file's own memory: it may be overwritten
        return cls(encoder, tokenizer, _read_readings(path / READINGS))


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers from reporting each weight file that it reads or writes."""
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _require_whole(path: Path, found_missing: Iterable[str]) -> None:
    missing = sorted(name for name in found_missing if not name.startswith(_POOLER))
    if missing:
        raise UserError(
            f"{path} lacks weights ('{missing[0]}', {len(missing)} in all): it belongs to "
            'another model, or is not whole: copy it again.'
        )


def _read_readings(path: Path) -> Readings | None:
    if not path.is_file():
        return None
    try:
        return Readings(**json.loads(path.read_text(encoding='utf-8')))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f'{path} cannot be read ({error}): copy it again.') from error
