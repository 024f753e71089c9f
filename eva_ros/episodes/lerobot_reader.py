"""LeRobot data sets, v2.1 and v3, read without lerobot: parquet by pyarrow, video by PyAV."""

from collections.abc import Iterable
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.episodes.imported import DataSet
from eva_ros.episodes.imported import deviating
from eva_ros.episodes.imported import Frames
from eva_ros.episodes.imported import ImportedEpisode
from eva_ros.episodes.lerobot_meta import distinct
from eva_ros.episodes.lerobot_meta import Entry
from eva_ros.episodes.lerobot_meta import json_lines
from eva_ros.episodes.lerobot_meta import json_map
from eva_ros.episodes.rates import is_rate
from eva_ros.episodes.rates import NO_RATE
from eva_ros.errors import UserError

_STATE, _ACTION = 'observation.state', 'action'
_VIDEO = 'observation.images.'
_COLUMNS = (_STATE, _ACTION, 'timestamp', 'frame_index', 'episode_index', 'index', 'task_index')
# ROS has 32 bits for seconds; the bags begin at 1.
_LAST_S = 2.0**31 - 2


def is_lerobot(path: Path) -> bool:
    """Return whether a folder is a LeRobot data set."""
    return (path / 'meta' / 'info.json').is_file()


def read_lerobot(folder: Path) -> DataSet:
    """Open a data set; its pictures are read when they are asked for.

    Raises:
        UserError: it is no data set, of a version that is not known, or has no states.
    """
    info = json_map(folder / 'meta' / 'info.json')
    version = str(info.get('codebase_version', ''))
    reader = {'v2.1': _Version2, 'v2.0': _Version2, 'v3.0': _Version3}.get(version)
    if reader is None:
        raise UserError(
            f"{folder} is a LeRobot data set of version '{version}': v2.0, v2.1 and v3.0 are read."
        )
    try:
        return reader(folder, info).read()
    except UserError:
        raise
    except Exception as error:  # whatever broken files do to pyarrow and to look-ups
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        raise UserError(f'The data set {folder} cannot be read: {reason}.') from None


class _Reader:
    """What both versions share."""

    version = ''

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self.folder, self.info = folder, info
        self.findings: list[str] = []
        self.rate_hz = self._rate()
        features = info.get('features') or {}
        self.features: dict[str, dict] = {k: v for k, v in features.items() if isinstance(v, dict)}
        self.videos = [k for k, v in self.features.items() if v.get('dtype') == 'video']
        self.joint_names = _names(self.features.get(_STATE, {}))
        inside = [k for k, v in self.features.items() if v.get('dtype') == 'image']
        if inside:
            self.findings.append(
                f'Pictures in the parquet files are left out: {", ".join(inside)}; write them as '
                'videos first.'
            )
        plain = [key for key in self.features if key not in [*self.videos, *inside]]
        self.findings += deviating(plain, _COLUMNS, f'{folder / "meta" / "info.json"}')
        odd = [key for key in self.videos if not key.startswith(_VIDEO)]
        if odd:
            self.findings.append(f'Cameras with unusual keys: {", ".join(odd)}.')

    def _rate(self) -> float:
        """Return the declared rate, 0 where there is none that can be."""
        rate_hz = float(self.info.get('fps') or 0)
        if not rate_hz or is_rate(rate_hz):
            return rate_hz
        self.findings.append(f'info.json says fps {rate_hz:g}, which {NO_RATE}: it is unused.')
        return 0.0

    def read(self) -> DataSet:
        """Return the data set."""
        listed = sorted(distinct(self.about(), self.findings), key=lambda a: a['episode_index'])
        episodes = [found for about in listed if (found := self._episode(about))]
        data = DataSet(
            self.folder, f'LeRobot {self.info["codebase_version"]}', self.rate_hz,
            self.joint_names, episodes, self.findings,
        )  # fmt: skip
        for key, count in (('total_episodes', len(episodes)), ('total_frames', data.frames)):
            if key in self.info and int(self.info[key]) != count:
                self.findings.append(f'info.json says {key} {self.info[key]}; {count} are there.')
        return data

    def about(self) -> Iterable[Entry]:
        """Return what the metadata say about each episode, and where."""
        raise NotImplementedError

    def table(self, about: dict[str, Any]) -> Any:
        """Return the rows of an episode."""
        raise NotImplementedError

    def video(self, key: str, about: dict[str, Any]) -> tuple[Path, float]:
        """Return the file of an episode's video, and where it begins in it, s."""
        raise NotImplementedError

    def task(self, about: dict[str, Any]) -> str:
        """Return an episode's instruction."""
        tasks = about.get('tasks')
        if not isinstance(tasks, list) or not tasks:
            self.findings.append(f'Episode {about["episode_index"]} has no task text.')
            return ''
        if len(tasks) > 1:
            self.findings.append(
                f'Episode {about["episode_index"]} has {len(tasks)} tasks: the first is taken.'
            )
        return str(tasks[0])

    def inside(self, template: str, **values: Any) -> Path:
        """Return a path within the data set."""
        try:
            path = self.folder / template.format(**values)
        except (KeyError, IndexError, ValueError) as error:
            raise UserError(f"{self.folder}: the path '{template}' has no {error}.") from None
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise UserError(f"{self.folder}: the path '{template}' leads out of the data set.")
        return path

    def _episode(self, about: dict[str, Any]) -> ImportedEpisode | None:
        index = int(about['episode_index'])
        try:
            table = self.table(about)
        except (OSError, ValueError, KeyError) as error:
            reason = ' '.join(str(error).split())[:120]
            self.findings.append(
                f'Episode {index} is left out: its rows cannot be read ({reason}).'
            )
            return None
        columns = set(table.column_names)
        fault = self._fault(table, columns)
        if fault:
            self.findings.append(f'Episode {index} is left out: {fault}.')
            return None
        if 'length' in about and about['length'] != table.num_rows:
            self.findings.append(
                f'Episode {index} has {table.num_rows} rows; its metadata say {about["length"]}.'
            )
        stamps = self._stamps(index, table, columns)
        first_s, last_s = float(stamps.min()), float(stamps.max())
        if first_s < 0 or last_s > _LAST_S:
            self.findings.append(
                f'Episode {index} is left out: its time stamps go from {first_s:g} to {last_s:g} '
                's, and not from 0 to what 32 bits hold.'
            )
            return None
        actions = _column(table, _ACTION) if _ACTION in columns else None
        return ImportedEpisode(
            index, self.task(about), stamps, _column(table, _STATE), actions,
            self._frames(index, about, stamps),
        )  # fmt: skip

    def _fault(self, table: Any, columns: set[str]) -> str:
        """Return why an episode's rows cannot be used, '' where they can."""
        if _STATE not in columns:
            return f'it has no {_STATE}'
        if not table.num_rows:
            return 'it has no rows'
        for name in sorted({_STATE, _ACTION} & columns):
            try:
                values = _column(table, name)
            except (ValueError, TypeError):
                return f'the rows of {name} are not all as long, or are no numbers'
            if values.ndim != 2 or not np.isfinite(values).all():
                return f'{name} holds values that are no numbers'
            if name == _STATE:
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
        if not self.rate_hz:
            raise UserError(f'{self.folder} has neither time stamps nor a rate (fps).')
        self.findings.append(f'Episode {index} has no time stamps: they are counted.')
        return np.arange(table.num_rows) / self.rate_hz

    def _frames(
        self, index: int, about: dict[str, Any], stamps: NDArray[np.float64]
    ) -> dict[str, Frames]:
        found: dict[str, Frames] = {}
        for key in self.videos:
            try:
                path, start_s = self.video(key, about)
            except (KeyError, TypeError, ValueError) as error:
                self.findings.append(f"Episode {index}: no place of the video '{key}' ({error}).")
                continue
            if not path.is_file():
                self.findings.append(f'Episode {index} lacks the video {path}.')
                continue
            self._compare(key, path)
            found[key] = partial(_decode, path, start_s, stamps)
        return found

    def _compare(self, key: str, path: Path) -> None:
        """Say where a video is not what the metadata declare."""
        import av

        info = self.features[key].get('info') or self.features[key].get('video_info') or {}
        declared = info.get('video.codec')
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                codec, size = stream.codec.canonical_name, (stream.height, stream.width)
        except Exception as error:  # PyAV has many, and damaged files meet all of them
            self.findings.append(f'The video {path} cannot be opened ({type(error).__name__}).')
            return
        shape = self.features[key].get('shape') or []
        sentences = []
        if declared and declared != codec:
            sentences.append(f"'{key}' is declared as {declared}, its videos are {codec}.")
        if shape and size not in (tuple(shape[:2]), tuple(shape[1:])):
            sentences.append(
                f"'{key}' is declared as {shape}, its videos are {size[0]}x{size[1]}."
            )
        self.findings += [said for said in sentences if said not in self.findings]


class _Version2(_Reader):
    """A parquet file and a video for each episode and camera."""

    def about(self) -> Iterable[Entry]:
        return json_lines(self.folder / 'meta' / 'episodes.jsonl')

    def table(self, about: dict[str, Any]) -> Any:
        import pyarrow.parquet as parquet

        return parquet.read_table(self.inside(self.info['data_path'], **self._numbers(about)))

    def video(self, key: str, about: dict[str, Any]) -> tuple[Path, float]:
        numbers = self._numbers(about)
        return self.inside(self.info['video_path'], video_key=key, **numbers), 0.0

    def _numbers(self, about: dict[str, Any]) -> dict[str, int]:
        index = int(about['episode_index'])
        chunk = index // int(self.info.get('chunks_size') or 1000)
        return {'episode_chunk': chunk, 'episode_index': index}


class _Version3(_Reader):
    """Files of many episodes each."""

    def about(self) -> Iterable[Entry]:
        import pyarrow.parquet as parquet

        found: list[Entry] = []
        for path in sorted((self.folder / 'meta' / 'episodes').rglob('*.parquet')):
            names = [n for n in parquet.read_schema(path).names if not n.startswith('stats/')]
            rows = parquet.read_table(path, columns=names).to_pylist()
            found += [(f'{path}, row {number}', about) for number, about in enumerate(rows)]
        return found

    def table(self, about: dict[str, Any]) -> Any:
        import pyarrow.compute as compute

        place = {name: int(about[f'data/{name}']) for name in ('chunk_index', 'file_index')}
        table = self._file(self.inside(self.info['data_path'], **place))
        return table.filter(compute.equal(table['episode_index'], int(about['episode_index'])))

    def _file(self, path: Path) -> Any:
        import pyarrow.parquet as parquet

        if getattr(self, '_open', (None, None))[0] != path:
            self._open = (path, parquet.read_table(path))
        return self._open[1]

    def video(self, key: str, about: dict[str, Any]) -> tuple[Path, float]:
        place = {n: int(about[f'videos/{key}/{n}']) for n in ('chunk_index', 'file_index')}
        start_s = float(about.get(f'videos/{key}/from_timestamp') or 0.0)
        return self.inside(self.info['video_path'], video_key=key, **place), start_s


def _decode(
    path: Path, start_s: float, stamps: NDArray[np.float64]
) -> Iterator[NDArray[np.uint8] | None]:
    """Yield the picture of each stamp, None where the video has none within half a frame."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = 'AUTO'
        half_s = 0.5 / float(stream.average_rate or 30)
        if start_s > 0 and stream.time_base:
            container.seek(int(start_s / stream.time_base), stream=stream)
        frames = (frame for frame in container.decode(stream) if frame.time is not None)
        frame = next(frames, None)
        for due_s in (start_s + stamps).tolist():
            while frame is not None and frame.time < due_s - half_s:
                frame = next(frames, None)
            if frame is None or frame.time > due_s + half_s:
                yield None
            else:
                yield frame.to_ndarray(format='rgb24')


def _column(table: Any, name: str) -> NDArray[np.float64]:
    """Return a column of numbers or of lists of numbers [T, ...]."""
    return np.array(table[name].to_pylist(), np.float64)


def _names(feature: dict[str, Any]) -> tuple[str, ...]:
    names = feature.get('names')
    if isinstance(names, dict):
        names = next(iter(names.values()), None)
    return tuple(map(str, names)) if isinstance(names, list) else ()
