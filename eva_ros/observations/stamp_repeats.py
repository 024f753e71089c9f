"""Pictures that repeat the stamp before them: when they were taken is not known."""

from dataclasses import dataclass

# Joints are not paired with the pictures of a camera of which a larger share repeats its stamp.
MOST_REPEATED = 0.1


@dataclass(frozen=True)
class Repeats:
    """How many of a camera's pictures repeat the stamp before them."""

    repeated: int = 0
    heard: int = 0

    def since(self, before: 'Repeats') -> 'Repeats':
        """Return the count of what came after an earlier count."""
        return Repeats(self.repeated - before.repeated, self.heard - before.heard)

    @property
    def is_too_many(self) -> bool:
        """Return whether so many are repeated that the pictures cannot be used."""
        return self.repeated > MOST_REPEATED * self.heard

    def __str__(self) -> str:
        return (
            f'{self.repeated} of {self.heard} pictures repeat the stamp before them; up to '
            f'{MOST_REPEATED:.0%} may'
        )
