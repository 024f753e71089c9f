"""Episodes as a LeRobot v3.0 data set, written without lerobot: parquet, JSON and video.

State and action are the robot's joints in its own names, rad and openings: the state at the
instant of the first camera's image, the action the state one frame later (the last one repeats).
LeRobot wants even time stamps: frame k of an episode is at k / fps.
"""

from collections.abc import Sequence
from fractions import Fraction
import json
from pathlib import Path
import shutil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.episodes.dataset import Episode
from eva_ros.errors import UserError
from eva_ros.observations.views import ViewSpec
from eva_ros.robot.spec import Robot

_DATA = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
_VIDEO = 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4'
_FIRST = {'chunk_index': 0, 'file_index': 0}
_QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
# Pictures that statistics are taken of, in an episode.
_LOOKS = 10
_JOINTS = ('observation.state', 'action')
_COUNTERS = ('frame_index', 'episode_index', 'index', 'task_index')

Stats = dict[str, dict[str, Any]]


def refuse_existing(out: Path) -> None:
    """Refuse to write where something is.

    Raises:
        UserError: the folder exists.
    """
    if out.exists():
        raise UserError(f'{out} exists already: name another folder.')


def write_lerobot(
    episodes: Sequence[Episode],
    out: Path,
    robot: Robot,
    view: ViewSpec,
) -> None:
    """Write episodes as a data set; it takes its place only when it is complete.

    Args:
        episodes: of the robot and view.
        out: folder of the data set; it must not exist.
        robot: whose joints.
        view: its cameras become the data set's, as large as in the view.

    Raises:
        UserError: the folder exists, the view's rate is no whole number, or a camera's size is
            odd.
    """
    refuse_existing(out)
    if view.rate_hz != round(view.rate_hz):
        raise UserError(f'LeRobot needs a whole number of frames a second, not {view.rate_hz:g}.')
    odd = [camera.name for camera in view.cameras if camera.box[2] % 2 or camera.box[3] % 2]
    if odd:
        raise UserError(f'Video needs even heights and widths: {", ".join(odd)} of {view.name}.')
    part = out.with_name(out.name + '.part')
    shutil.rmtree(part, ignore_errors=True)
    with _Writer(part, robot, view) as writer:
        for episode in episodes:
            writer.add(episode)
    part.rename(out)


class _Writer:
    """A data set under construction."""

    def __init__(self, folder: Path, robot: Robot, view: ViewSpec) -> None:
        self._folder, self._robot, self._view = folder, robot, view
        self._fps = round(view.rate_hz)
        self._tasks: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []
        self._all: dict[str, list[NDArray]] = {}
        self._total = 0

    def __enter__(self) -> '_Writer':
        import pyarrow.parquet as parquet

        data = self._path(_DATA)
        self._schema = _schema(len(self._robot.joint_names))
        self._table = parquet.ParquetWriter(data, self._schema)
        self._videos = {
            camera.name: VideoFile(
                self._path(_VIDEO, video_key=_key(camera.name)), camera.box[2:], self._fps
            )
            for camera in self._view.cameras
        }
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._table.close()
        for video in self._videos.values():
            video.close()
        if kind is None:
            self._finish()
        else:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, episode: Episode) -> None:
        """Write an episode's rows and pictures."""
        import pyarrow

        count, number = len(episode), len(self._rows)
        instruction = episode.instruction or episode.task
        task = self._tasks.setdefault(instruction, len(self._tasks))
        states = episode.joints.astype(np.float32)
        columns: dict[str, NDArray] = {
            'observation.state': states,
            'action': np.concatenate([states[1:], states[-1:]]),
            'timestamp': (np.arange(count) / self._fps).astype(np.float32),
            'frame_index': np.arange(count),
            'episode_index': np.full(count, number),
            'index': self._total + np.arange(count),
            'task_index': np.full(count, task),
        }
        arrays = [
            pyarrow.array(list(values) if values.ndim > 1 else values, type=field.type)
            for field, values in zip(self._schema, columns.values())
        ]
        self._table.write_table(pyarrow.Table.from_arrays(arrays, schema=self._schema))
        looks = self._film(episode)
        self._rows.append(self._about(instruction, count, {**columns, **looks}))
        for name, values in {**columns, **looks}.items():
            self._all.setdefault(name, []).append(values)
        self._total += count

    def _film(self, episode: Episode) -> dict[str, NDArray]:
        """Append the pictures to the videos; returns some of them, 0 to 1 [K, 3, pixels]."""
        chosen = set(np.linspace(0, len(episode) - 1, _LOOKS).round().astype(int).tolist())
        looks: dict[str, list[NDArray]] = {_key(name): [] for name in self._view.camera_names}
        for index, view in enumerate(episode.frames):
            for name, picture in self._view.untile(view).items():
                self._videos[name].add(picture)
                if index in chosen:
                    looks[_key(name)].append(picture.reshape(-1, 3).T / 255.0)
        return {key: np.stack(pictures) for key, pictures in looks.items()}

    def _about(self, instruction: str, count: int, columns: dict[str, NDArray]) -> dict[str, Any]:
        number = len(self._rows)
        about: dict[str, Any] = {
            'episode_index': number,
            'tasks': [instruction],
            'length': count,
            'data/chunk_index': 0,
            'data/file_index': 0,
            'dataset_from_index': self._total,
            'dataset_to_index': self._total + count,
        }
        for name in self._view.camera_names:
            about |= {f'videos/{_key(name)}/{place}': 0 for place in _FIRST}
            about[f'videos/{_key(name)}/from_timestamp'] = self._total / self._fps
            about[f'videos/{_key(name)}/to_timestamp'] = (self._total + count) / self._fps
        for name, values in columns.items():
            about |= {f'stats/{name}/{k}': v for k, v in _stats(values).items()}
        return about | {'meta/episodes/chunk_index': 0, 'meta/episodes/file_index': 0}

    def _finish(self) -> None:
        import pyarrow
        import pyarrow.parquet as parquet

        episodes = self._path('meta/episodes/chunk-000/file-000.parquet')
        parquet.write_table(pyarrow.Table.from_pylist(self._rows), episodes)
        parquet.write_table(_task_table(self._tasks), self._path('meta/tasks.parquet'))
        stats = {name: _stats(np.concatenate(parts)) for name, parts in self._all.items()}
        self._json('meta/stats.json', stats)
        self._json('meta/info.json', self._info())

    def _info(self) -> dict[str, Any]:
        names = list(self._robot.joint_names)
        features: dict[str, Any] = {
            key: {'dtype': 'float32', 'shape': [len(names)], 'names': names} for key in _JOINTS
        }
        for camera in self._view.cameras:
            features[_key(camera.name)] = _video_feature(*camera.box[2:], self._fps)
        features['timestamp'] = {'dtype': 'float32', 'shape': [1], 'names': None}
        for key in _COUNTERS:
            features[key] = {'dtype': 'int64', 'shape': [1], 'names': None}
        return {
            'codebase_version': 'v3.0',
            'robot_type': self._robot.name,
            'total_episodes': len(self._rows),
            'total_frames': self._total,
            'total_tasks': len(self._tasks),
            'chunks_size': 1000,
            'data_files_size_in_mb': 100,
            'video_files_size_in_mb': 500,
            'fps': self._fps,
            'splits': {'train': f'0:{len(self._rows)}'},
            'data_path': _DATA,
            'video_path': _VIDEO,
            'features': features,
        }

    def _path(self, template: str, **values: str) -> Path:
        path = self._folder / template.format(**_FIRST, **values)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _json(self, name: str, value: Any) -> None:
        text = json.dumps(value, indent=4, allow_nan=False)
        self._path(name).write_text(text + '\n', encoding='utf-8')


class VideoFile:
    """An H.264 file whose every second picture can be sought.

    Args:
        path: Where to.
        size: Even height and width, pixels.
        fps: Pictures per second.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: int | Fraction) -> None:
        """Open the file for writing."""
        import av

        self._container = av.open(str(path), 'w')
        self._stream: Any = self._container.add_stream('libx264', rate=fps)
        self._stream.height, self._stream.width = size
        self._stream.pix_fmt = 'yuv420p'
        self._stream.codec_context.time_base = Fraction(1, fps)
        self._stream.options = {'crf': '18', 'g': '2', 'bf': '0', 'preset': 'fast'}
        self._count = 0

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Append an RGB picture [H, W, 3]."""
        import av

        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format='rgb24')
        frame.pts, self._count = self._count, self._count + 1
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is left and close the file."""
        if self._count:
            self._container.mux(self._stream.encode(None))
        self._container.close()


def _key(camera: str) -> str:
    return f'observation.images.{camera}'


def _schema(joints: int) -> Any:
    import pyarrow

    vector = pyarrow.list_(pyarrow.float32(), joints)
    fields = [(key, vector) for key in _JOINTS] + [('timestamp', pyarrow.float32())]
    return pyarrow.schema(fields + [(key, pyarrow.int64()) for key in _COUNTERS])


def _task_table(tasks: dict[str, int]) -> Any:
    """Return the tasks as pandas writes them: the texts are the index."""
    import pyarrow

    index = '__index_level_0__'
    table = pyarrow.table({'task_index': list(tasks.values()), index: list(tasks)})
    column = {'field_name': 'task_index', 'name': 'task_index', 'pandas_type': 'int64',
              'numpy_type': 'int64', 'metadata': None}  # fmt: skip
    texts = {'field_name': index, 'name': None, 'pandas_type': 'unicode',
             'numpy_type': 'object', 'metadata': None}  # fmt: skip
    about = {'index_columns': [index], 'column_indexes': [], 'columns': [column, texts],
             'pandas_version': '2.2.0'}  # fmt: skip
    return table.replace_schema_metadata({'pandas': json.dumps(about)})


def _video_feature(height: int, width: int, fps: int) -> dict[str, Any]:
    info = {
        'video.height': height, 'video.width': width, 'video.codec': 'h264',
        'video.pix_fmt': 'yuv420p', 'video.is_depth_map': False, 'video.fps': fps,
        'video.channels': 3, 'has_audio': False,
    }  # fmt: skip
    names = ['height', 'width', 'channels']
    return {'dtype': 'video', 'shape': [height, width, 3], 'names': names, 'info': info}


def _stats(values: NDArray) -> dict[str, Any]:
    """Return statistics over rows; of pictures [K, 3, pixels] for each colour [3, 1, 1]."""
    if values.ndim == 3:
        pixels = values.transpose(0, 2, 1).reshape(-1, 3)
        return {
            name: value if name == 'count' else [[[number]] for number in value]
            for name, value in _figures(pixels, len(values)).items()
        }
    return _figures(values.reshape(len(values), -1), len(values))


def _figures(rows: NDArray, count: int) -> dict[str, Any]:
    rows = rows.astype(np.float64)
    found = {'min': rows.min(0), 'max': rows.max(0), 'mean': rows.mean(0), 'std': rows.std(0)}
    quantiles = np.quantile(rows, _QUANTILES, axis=0)
    found |= {f'q{round(100 * q):02d}': row for q, row in zip(_QUANTILES, quantiles)}
    return {**{name: value.tolist() for name, value in found.items()}, 'count': [count]}
