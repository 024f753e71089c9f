"""Instructions that are wrong in a data set, put right as it is imported."""

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace

from eva_ros.errors import UserError
from eva_ros.interchange.imported import DataSet
from eva_ros.interchange.imported import ImportedEpisode


def reworded(data: DataSet, changes: Sequence[str]) -> DataSet:
    """Return a data set with other instructions.

    Args:
        data: The data set.
        changes: `NEW` for every attempt, or `OLD=NEW` for those with the instruction OLD.

    Raises:
        UserError: An instruction is empty, or no attempt has the instruction OLD.
    """
    if not changes:
        return data
    there = _instructions(data)
    found = {text: text for text in there}
    for change in changes:
        old, equals, new = change.partition('=') if '=' in change else ('', '', change)
        if not new.strip():
            raise UserError(f"--instruction '{change}' is empty: say what the arms do.")
        if equals and old not in there:
            listed = ', '.join(f"'{text}'" for text in there)
            raise UserError(f"No attempt has the instruction '{old}': there are {listed}.")
        found.update({old: new} if equals else dict.fromkeys(there, new))
    return replace(data, episodes=[_episode(e, found.__getitem__) for e in data.episodes])


def _instructions(data: DataSet) -> list[str]:
    """Return the different instructions of a data set in their order."""
    texts = (text for e in data.episodes for text in (e.instruction, *e.changes.values()))
    return list(dict.fromkeys(texts))


def _episode(episode: ImportedEpisode, words: Callable[[str], str]) -> ImportedEpisode:
    changes = {row: words(text) for row, text in episode.changes.items()}
    return replace(episode, instruction=words(episode.instruction), changes=changes)
