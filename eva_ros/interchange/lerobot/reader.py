"""LeRobot data sets, v2.1 and v3, read without lerobot: parquet by pyarrow, video by PyAV."""

from collections.abc import Iterable
from pathlib import Path
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.interchange.episode_faults import episodes as listed_episodes
from eva_ros.interchange.episode_faults import Fault
from eva_ros.interchange.episode_faults import grouped
from eva_ros.interchange.imported import DataSet
from eva_ros.interchange.imported import ImportedEpisode
from eva_ros.interchange.lerobot.features import COUNTERS
from eva_ros.interchange.lerobot.features import Features
from eva_ros.interchange.lerobot.films import Films
from eva_ros.interchange.lerobot.meta import distinct
from eva_ros.interchange.lerobot.meta import Entry
from eva_ros.interchange.lerobot.meta import json_lines
from eva_ros.interchange.lerobot.meta import json_map
from eva_ros.interchange.lerobot.meta import task_texts
from eva_ros.interchange.lerobot.paths import inside
from eva_ros.interchange.lerobot.paths import numbers_of
from eva_ros.interchange.lerobot.rows import frame_numbers
from eva_ros.interchange.lerobot.rows import RowFiles

_VERSIONS = ('v2.0', 'v2.1', 'v3.0')
# ROS has 32 bits for seconds; the bags begin at 1.
_LAST_S = 2.0**31 - 2


def is_lerobot(path: Path) -> bool:
    """Return whether a folder is a LeRobot data set."""
    return (path / 'meta' / 'info.json').is_file()


def read_lerobot(folder: Path, state: str | None = None, action: str | None = None) -> DataSet:
    """Open a data set; its pictures are read when they are asked for.

    Args:
        folder: the data set's.
        state: key of the measured joints, where it is not LeRobot's own.
        action: key of the commanded joints, likewise.

    Raises:
        UserError: it is no data set, of a version that is not known, or has no states.
    """
    info = json_map(folder / 'meta' / 'info.json')
    version = str(info.get('codebase_version', ''))
    if version not in _VERSIONS:
        raise UserError(
            f"{folder} is a LeRobot data set of version '{version}': v2.0, v2.1 and v3.0 are read."
        )
    try:
        return _Reader(folder, info, state, action).read()
    except UserError:
        raise
    except Exception as error:  # whatever broken files do to pyarrow and to look-ups
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        raise UserError(f'The data set {folder} cannot be read: {reason}.') from None


class _Reader:
    """Reads a data set; faults of single episodes are collected, and said together."""

    def __init__(
        self, folder: Path, info: dict[str, Any], state: str | None, action: str | None
    ) -> None:
        self.folder, self.info = folder, info
        self.findings: list[str] = []
        self.faults: list[Fault] = []
        self.features = Features(folder, info, state, action, self.findings)
        self.state, self.action = self.features.state, self.features.action
        self.joint_names = self.features.joint_names
        self.tasks = task_texts(folder, self.findings)
        columns = (self.state, self.action, *COUNTERS)
        self.rows = RowFiles(folder, columns, self.state, self.findings)
        self.frames: dict[int, NDArray[np.int64] | None] = {}

    def read(self) -> DataSet:
        """Return the data set."""
        listed = sorted(distinct(self._entries(), self.findings), key=lambda a: a['episode_index'])
        episodes = [found for about in listed if (found := self._episode(about))]
        unlisted = self.rows.episodes - {about['episode_index'] for about in listed}
        if unlisted:
            self.findings.append(
                f'The files hold rows of {listed_episodes(unlisted)}, which the metadata do not '
                'list: they are left out.'
            )
        films = Films(self.folder, self.info, self.features, self.findings, self.faults)
        for key in self.features.videos:
            films.add(key, listed, {found.index: found for found in episodes}, self.frames)
        self.findings += grouped(self.faults)
        data = DataSet(
            self.folder, f'LeRobot {self.info["codebase_version"]}', self.features.rate_hz,
            self.joint_names, episodes, self.findings,
        )  # fmt: skip
        self._count(data)
        return data

    def _count(self, data: DataSet) -> None:
        """Say where info.json counts otherwise."""
        there = {'total_episodes': len(data.episodes), 'total_frames': data.frames}
        if self.tasks:
            there['total_tasks'] = len(self.tasks)
        for key, count in there.items():
            if key in self.info and int(self.info[key]) != count:
                self.findings.append(f'info.json says {key} {self.info[key]}; {count} are there.')

    def _entries(self) -> Iterable[Entry]:
        """Return what the metadata say about each episode, and where."""
        import pyarrow.parquet as parquet

        meta = self.folder / 'meta'
        files = sorted((meta / 'episodes').rglob('*.parquet'))
        if not files:
            return json_lines(meta / 'episodes.jsonl')
        found: list[Entry] = []
        for path in files:
            names = [n for n in parquet.read_schema(path).names if not n.startswith('stats/')]
            rows = parquet.read_table(path, columns=names).to_pylist()
            found += [(f'{path}, row {number}', about) for number, about in enumerate(rows)]
        return found

    # Rows.

    def _fail(self, index: int, fault: str) -> None:
        self.faults.append((index, f'Episode {index} {fault}.'))

    def _episode(self, about: dict[str, Any]) -> ImportedEpisode | None:
        index = int(about['episode_index'])
        pointed = self._pointed(about)
        try:
            table = self.rows.table(index, pointed)
        except (OSError, ValueError, KeyError) as error:
            reason = ' '.join(str(error).split())[:120]
            self._fail(index, f'is left out: its rows cannot be read ({reason})')
            return None
        self._look_at_pointers(index, about, pointed, table.num_rows)
        columns = set(table.column_names)
        fault = self._fault(table, columns)
        stamps = np.zeros(1) if fault else self._stamps(index, table, columns)
        first_s, last_s = float(stamps.min()), float(stamps.max())
        if first_s < 0 or last_s > _LAST_S:
            fault = (
                f'its time stamps go from {first_s:g} to {last_s:g} s, and not from 0 to what 32 '
                'bits hold'
            )
        if fault:
            self._fail(index, f'is left out: {fault}')
            return None
        actions = _column(table, self.action) if self.action in columns else None
        texts = self._texts(index, table, about)
        changes = {i: texts[i] for i in range(1, len(texts)) if texts[i] != texts[i - 1]}
        self.frames[index] = frame_numbers(table)
        return ImportedEpisode(
            index, texts[0], stamps, _column(table, self.state), actions, {}, changes
        )

    def _pointed(self, about: dict[str, Any]) -> Path | None:
        """Return the file in which an episode's rows should be, None where nothing says it."""
        template = self.info.get('data_path') or ''
        if re.search(r'\{\w*file', template) and 'data/file_index' not in about:
            return None
        try:
            numbers = numbers_of(about, 'data', self.info)
        except (TypeError, ValueError):
            return None
        return inside(self.folder, template, numbers)

    def _look_at_pointers(
        self, index: int, about: dict[str, Any], pointed: Path | None, count: int
    ) -> None:
        """Say where the metadata point elsewhere, or to another number of rows."""
        files = [path.relative_to(self.folder) for path in self.rows.files(index)]
        if pointed and files and pointed.relative_to(self.folder) not in files:
            self._fail(
                index,
                f'has its rows in {", ".join(map(str, files))}: the pointer to '
                f'{pointed.relative_to(self.folder)} is stale',
            )
        if 'length' in about and about['length'] != count:
            self._fail(index, f'has {count} rows; its metadata say {about["length"]}')
        begin, end = about.get('dataset_from_index'), about.get('dataset_to_index')
        if isinstance(begin, int) and isinstance(end, int) and end - begin != count:
            self._fail(
                index, f'has {count} rows; its dataset_from_index to dataset_to_index are '
                f'{end - begin}',
            )  # fmt: skip

    def _fault(self, table: Any, columns: set[str]) -> str:
        """Return why an episode's rows cannot be used, '' where they can."""
        if self.state not in columns:
            return f'it has no {self.state}'
        if not table.num_rows:
            return 'it has no rows'
        for name in sorted({self.state, self.action} & columns):
            try:
                values = _column(table, name)
            except (ValueError, TypeError):
                return f'the rows of {name} are not all as long, or are no numbers'
            if values.ndim != 2 or not np.isfinite(values).all():
                return f'{name} holds values that are no numbers'
            if name == self.state:
                names = self.joint_names = self.joint_names or tuple(
                    f'joint_{i}' for i in range(values.shape[1])
                )
                if len(names) != values.shape[1]:
                    return f'{name} has {values.shape[1]} values for {len(names)} names'
        return ''

    def _stamps(self, index: int, table: Any, columns: set[str]) -> NDArray[np.float64]:
        """Return the time stamps [T]; counted where there are none, which is said."""
        if 'timestamp' in columns:
            stamps = _column(table, 'timestamp').reshape(-1)
            if len(stamps) == table.num_rows and np.isfinite(stamps).all():
                return stamps
        if not self.features.rate_hz:
            raise UserError(f'{self.folder} has neither time stamps nor a rate (fps).')
        self._fail(index, 'has no time stamps: they are counted')
        return np.arange(table.num_rows) / self.features.rate_hz

    def _texts(self, index: int, table: Any, about: dict[str, Any]) -> list[str]:
        """Return the instruction of each row: what the rows say, else the metadata."""
        said = about.get('tasks')
        said = [said] if isinstance(said, str) else said
        said = [str(text) for text in said] if isinstance(said, list) else []
        numbers = table['task_index'].to_pylist() if 'task_index' in table.column_names else []
        numbers = numbers if self.tasks else []
        unknown = sorted({str(number) for number in numbers if number not in self.tasks})
        if unknown:
            self._fail(index, f'has rows of task_index {", ".join(unknown)}, which no task has')
        if numbers and not unknown:
            texts = [self.tasks[number] for number in numbers]
            if said and set(said) != set(texts):
                self._fail(
                    index,
                    f'is listed with the tasks {_quoted(said)}, and its rows are of '
                    f'{_quoted(list(dict.fromkeys(texts)))}: the rows are taken',
                )
            return texts
        if not said:
            self._fail(index, 'has no task text')
        elif len(said) > 1:
            self._fail(
                index, f'has {len(said)} tasks, and its rows do not say which: the first is taken'
            )
        return [said[0] if said else ''] * table.num_rows


def _quoted(texts: list[str]) -> str:
    return ', '.join(f"'{text}'" for text in texts)


def _column(table: Any, name: str) -> NDArray[np.float64]:
    """Return a column of numbers or of lists of numbers [T, ...]."""
    return np.array(table[name].to_pylist(), np.float64)
