"""The rows of LeRobot episodes, found by their own episode_index and not by a file's name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eva_ros.observations.reasons import listed
from eva_ros.recordings.storage import brief

_EPISODE, _FRAME = 'episode_index', 'frame_index'


class RowFiles:
    """The parquet files of a data set.

    Args:
        folder: the data set's.
        columns: that are read where a file has them.
        needed: the one that tells these files from others.
        findings: gets a sentence for each file that cannot be read.
    """

    def __init__(
        self, folder: Path, columns: Sequence[str], needed: str, findings: list[str]
    ) -> None:
        """Look up which file holds rows of which episode."""
        self._folder, self._columns = folder, columns
        self._holding: dict[int, list[Path]] = {}
        self._read: tuple[Path | None, Any] = (None, None)
        for path in sorted(folder.rglob('*.parquet')):
            inner = path.relative_to(folder).parts
            if inner[0] == 'meta' or any(part.startswith('.') for part in inner):
                continue
            try:
                for episode in _episodes(path, needed):
                    self._holding.setdefault(episode, []).append(path)
            except Exception as error:  # whatever broken files do to pyarrow
                findings.append(f'{path} cannot be read: {brief(error)}.')

    @property
    def episodes(self) -> set[int]:
        """Return the episodes that have rows."""
        return set(self._holding)

    def files(self, episode: int) -> list[Path]:
        """Return the files that hold rows of an episode."""
        return self._holding.get(episode, [])

    def table(self, episode: int, pointed: Path | None) -> Any:
        """Return the rows of an episode, in the order of their frames.

        Args:
            episode: its number.
            pointed: the file that should hold it, for rows that do not say their episode.

        Raises:
            ValueError: they are not there, or a frame is there more than once.
            OSError: the file cannot be read.
        """
        import pyarrow

        files = self.files(episode)
        if files:
            parts = [_of(episode, self._file(path)) for path in files]
            return _in_order(pyarrow.concat_tables(parts, promote_options='permissive'), files)
        if pointed is None:
            raise ValueError('no file holds them')
        table = self._file(pointed)
        return _of(episode, table) if _EPISODE in table.column_names else table

    def _file(self, path: Path) -> Any:
        import pyarrow.parquet as parquet

        if self._read[0] != path:
            there = parquet.read_schema(path).names
            columns = [name for name in self._columns if name in there]
            self._read = (path, parquet.read_table(path, columns=columns))
        return self._read[1]


def _episodes(path: Path, needed: str) -> list[int]:
    """Return the episodes whose rows a file holds."""
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet

    if not {needed, _EPISODE} <= set(parquet.read_schema(path).names):
        return []
    column = parquet.read_table(path, columns=[_EPISODE])[_EPISODE]
    return [int(value) for value in compute.unique(column).to_pylist() if value is not None]


def _of(episode: int, table: Any) -> Any:
    import pyarrow.compute as compute

    return table.filter(compute.equal(table[_EPISODE], episode))


def frame_numbers(table: Any) -> np.ndarray | None:
    """Return the frame_index of each row [T], None where there is none that can be."""
    if _FRAME not in table.column_names:
        return None
    numbers = np.array(table[_FRAME].to_pylist(), np.float64).reshape(-1)
    if len(numbers) != table.num_rows or not np.isfinite(numbers).all() or (numbers < 0).any():
        return None
    return numbers.astype(np.int64)


def _in_order(table: Any, files: list[Path]) -> Any:
    numbers = frame_numbers(table)
    if numbers is None or np.all(np.diff(numbers) > 0):
        return table
    values, counts = np.unique(numbers, return_counts=True)
    if counts.max() == len(numbers):
        # One value throughout says nothing about the order.
        return table
    if counts.max() > 1:
        twice = values[counts > 1]
        where = listed([path.name for path in files])
        raise ValueError(f'frame_index {twice[0]} is there {counts.max()} times in {where}')
    return table.take(np.argsort(numbers))
