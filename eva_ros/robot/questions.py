"""The questions in a robot YAML: comments at the place where the answer belongs."""

from dataclasses import dataclass
from pathlib import Path

MARK = '# QUESTION: '
# What a question ends with while nothing can be trained: its answer decides the labels.
FOR_TRAINING = 'Needed for training.'


@dataclass(frozen=True)
class Question:
    """A question that is still in the file, and its line."""

    line: int
    text: str

    @property
    def what(self) -> str:
        """Return the question without what its answer is needed for."""
        return self.text.removesuffix(FOR_TRAINING).rstrip()

    @property
    def bars_training(self) -> bool:
        """Return whether its answer decides what models are trained on."""
        return self.text.endswith(FOR_TRAINING)


def open_questions(path: Path) -> list[Question]:
    """Return the questions that a robot YAML still holds."""
    lines = enumerate(path.read_text(encoding='utf-8').splitlines(), 1)
    return [
        Question(number, line.strip().removeprefix(MARK))
        for number, line in lines
        if line.strip().startswith(MARK)
    ]
