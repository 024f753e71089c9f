"""What a tokenizer of transformers accepts as an instruction."""

from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from transformers import PreTrainedTokenizerBase

from eva_ros.errors import UserError

_MOST_SHOWN = 80  # characters
# No instruction has more characters a token or word than this.
_CHARACTERS_PER_TOKEN = 16


def require_tokens(
    tokenizer: PreTrainedTokenizerBase, instruction: str, most: int, name: str
) -> None:
    """Refuse an instruction that is empty, too long, or has words without a token.

    Args:
        tokenizer: Of the text encoder.
        instruction: What the robot is told.
        most: Largest number of tokens.
        name: Name of the world model.

    Raises:
        UserError: Says which of these it is.
    """
    text, unknown = prompt_clean(instruction), tokenizer.unk_token_id
    ids = tokenizer(text, verbose=False).input_ids
    if len(ids) > most:
        raise UserError(
            f'The instruction has {len(instruction)} characters, which are {len(ids)} tokens: '
            f'shorten it to {most} tokens.'
        )
    # A single unknown token may still be far too long.
    require_length(instruction, most, 'tokens')
    # Punctuation alone may have no tokens but the special ones.
    if not set(ids) - (set(tokenizer.all_special_ids) - {unknown}):
        raise UserError('The instruction is empty: say what the robot has to do.')
    if unknown is not None and unknown in ids:
        words = [w for w in text.split() if unknown in tokenizer(w).input_ids]
        what = ', '.join(shortened(word) for word in words[:5]) or 'characters'
        raise UserError(
            f'The instruction {shortened(instruction)} has {what}, which the text encoder of '
            f'{name} has no tokens for: say it in other words.'
        )


def require_length(instruction: str, most: int, what: str) -> None:
    """Refuse a text with more characters than `most` tokens or words can have."""
    if len(prompt_clean(instruction)) > most * _CHARACTERS_PER_TOKEN:
        raise UserError(
            f'The instruction has {len(instruction)} characters: shorten it to {most} {what}.'
        )


def shortened(text: str) -> str:
    """Return a text in quotes as a sentence can hold it."""
    return repr(text if len(text) <= _MOST_SHOWN else f'{text[:_MOST_SHOWN]}...')
