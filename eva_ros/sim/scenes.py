"""Which scenes are drawn: clean ones, or randomised to a level."""

from dataclasses import dataclass

from eva_ros.errors import UserError

# An attempt at a task fails after this.
TIME_LIMIT_S = 10.0


@dataclass(frozen=True)
class Scenes:
    """How scenes are drawn.

    Attributes:
        level: Strength of the randomisation, 0 (clean) to 1.
    """

    level: float = 0.0

    def __str__(self) -> str:
        """Return the scenes as --scenes takes them."""
        return f'randomised:{self.level:g}' if self.level else 'clean'


CLEAN = Scenes()


def parse_scenes(text: str) -> Scenes:
    """Return the scenes named by a text: clean, randomised or randomised:LEVEL.

    Raises:
        UserError: The text names no scenes.
    """
    name, _, level = text.partition(':')
    if text == 'clean':
        return CLEAN
    try:
        scenes = Scenes(float(level) if ':' in text else 1.0)
    except ValueError:
        scenes = CLEAN
    if name != 'randomised' or not 0 < scenes.level <= 1:
        raise UserError(
            f"There are no scenes '{text}': give clean, randomised or randomised:LEVEL, with a "
            'level above 0 and up to 1.'
        )
    return scenes
