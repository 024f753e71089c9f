"""One RoboTwin 2.0 episode in an HDF5 file, in the layout of August 2026 or the one before it."""

from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
import json
from pathlib import Path
from typing import Any
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.interchange.imported import Frames
from eva_ros.observations.images import decode_compressed
from eva_ros.observations.picture_header import comments_of
from eva_ros.observations.picture_header import header_of

# Columns of a vector without parts that say whose they are: of the two arms and grippers.
_WIDTHS = (6, 1, 6, 1)
# A JPEG with this comment is like any other; red and blue are exchanged in one without.
_STANDARD = b'XPL-RGB1'
# What single precision may make of a joint, rad.
_SAME = 1e-4


class _Layout(NamedTuple):
    """Where a file holds what; `vector` repeats the parts."""

    states: str
    actions: str
    parts: tuple[str, ...]
    vector: str
    cameras: str
    pictures: str


_NEW = _Layout(
    'state',
    'action',
    tuple(f'{arm}_{part}_joint_states' for arm in ('left', 'right') for part in ('arm', 'ee')),
    'joint_states',
    'vision',
    'colors',
)
_OLD = _Layout(
    'joint_action',
    '',
    tuple(f'{arm}_{part}' for arm in ('left', 'right') for part in ('arm', 'gripper')),
    'vector',
    'observation',
    'rgb',
)


@dataclass(frozen=True, eq=False)
class RoboTwinFile:
    """What a file says.

    Attributes:
        joint_names: the left arm's joints and gripper, then the right one's [J].
        states: joints [T, J].
        actions: as many, or None.
        frames: gives each camera's pictures.
        rate_hz: frames a second, None where it does not say.
        instruction: '' where it does not say.
        doubts: what it says twice and differently, a phrase each.
    """

    joint_names: tuple[str, ...]
    states: NDArray[np.float64]
    actions: NDArray[np.float64] | None
    frames: dict[str, Frames]
    rate_hz: float | None
    instruction: str
    doubts: list[str]


def read_file(path: Path) -> RoboTwinFile:
    """Open an episode.

    Raises:
        UserError: it cannot be read, is no RoboTwin episode, or does not say which rows and
            pictures belong together.
    """
    with _open(path) as data:
        layout = _layout(path, data)
        states = _joints(path, data, layout, layout.states)
        has_actions = layout.actions in data
        actions = _joints(path, data, layout, layout.actions) if has_actions else None
        if actions is not None and actions.shape != states.shape:
            raise UserError(
                f'{path}: {layout.actions} has {_size(actions)} and {layout.states} '
                f'{_size(states)}.'
            )
        names = _names(data, layout)
        cameras = _cameras(path, data, layout, len(states))
        instruction, doubts = _instruction(data, path)
        doubts += [text for name in cameras if (text := _odd_shape(data, layout, name))]
        rate_hz = _rate_hz(path, data)
    frames: dict[str, Frames] = {
        name: partial(_decode, path, f'{layout.cameras}/{name}/{layout.pictures}')
        for name in cameras
    }
    return RoboTwinFile(names, states, actions, frames, rate_hz, instruction, doubts)


def _open(file: Path) -> Any:
    import h5py

    try:
        return h5py.File(file, 'r')
    except OSError as error:
        raise UserError(f'{file} cannot be read: {" ".join(str(error).split())[:150]}.') from None


def _layout(path: Path, data: Any) -> _Layout:
    for layout in (_NEW, _OLD):
        group = data.get(layout.states)
        if hasattr(group, 'keys') and ({layout.vector, *layout.parts} & set(group)):
            return layout
    raise UserError(
        f'{path} has neither {_NEW.states}/{_NEW.parts[0]} nor {_OLD.states}/{_OLD.vector}: it is '
        'no RoboTwin episode.'
    )


# Joints.


def _joints(path: Path, data: Any, layout: _Layout, group: str) -> NDArray[np.float64]:
    """Return the joints [T, J] of a group."""
    there = [name for name in layout.parts if name in data[group]]
    vector = _vector(path, data, f'{group}/{layout.vector}')
    lacking = [name for name in layout.parts if name not in there]
    if vector is not None and not there:
        if vector.shape[1] != sum(_WIDTHS):
            raise UserError(
                f'{path}: {group}/{layout.vector} has the shape {vector.shape}, and not '
                f'[T, {sum(_WIDTHS)}].'
            )
        return vector
    if lacking:
        raise UserError(f'{path}: {group} has no {", ".join(lacking)}.')
    parts = _joined(path, data, [f'{group}/{name}' for name in there])
    if vector is not None:
        _compare(path, f'{group}/{layout.vector}', vector, parts)
    return parts


def _names(data: Any, layout: _Layout) -> tuple[str, ...]:
    """Return the names of the joints that `_joints` returns."""
    arms = [data[layout.states].get(layout.parts[index]) for index in (0, 2)]
    widths = [_WIDTHS[0] if arm is None else arm.shape[1] for arm in arms]
    return tuple(
        f'{side}_{name}'
        for side, width in zip(('left', 'right'), widths)
        for name in (*(f'joint_{index}' for index in range(width)), 'gripper')
    )


def _vector(path: Path, data: Any, name: str) -> NDArray[np.float64] | None:
    if name not in data:
        return None
    values = np.asarray(data[name], np.float64)
    if values.ndim != 2:
        raise UserError(f'{path}: {name} has the shape {values.shape}, and not [T, J].')
    return _finite(path, name, values)


def _joined(path: Path, data: Any, names: list[str]) -> NDArray[np.float64]:
    parts = []
    for index, name in enumerate(names):
        values = np.asarray(data[name], np.float64)
        is_gripper = index % 2 == 1
        values = values[:, None] if values.ndim == 1 and is_gripper else values
        if values.ndim != 2 or (is_gripper and values.shape[1] != 1):
            wanted = '[T, 1]' if is_gripper else '[T, J]'
            raise UserError(f'{path}: {name} has the shape {values.shape}, and not {wanted}.')
        parts.append(_finite(path, name, values))
    if len({len(part) for part in parts}) > 1:
        rows = ', '.join(f'{name} {len(part)}' for name, part in zip(names, parts))
        raise UserError(
            f'{path}: its joints differ in rows ({rows}), so it is unclear which belong together.'
        )
    return np.concatenate(parts, axis=1)


def _finite(path: Path, name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(values) or not np.isfinite(values).all():
        raise UserError(f'{path}: {name} is empty or holds values that are not finite.')
    return values


def _size(values: NDArray) -> str:
    return f'{values.shape[0]} rows of {values.shape[1]}'


def _compare(path: Path, name: str, vector: NDArray, parts: NDArray) -> None:
    """Refuse a vector that is not what its parts are."""
    if vector.shape != parts.shape:
        raise UserError(
            f'{path}: {name} has {_size(vector)} and the joints of the arms {_size(parts)}.'
        )
    rows = np.flatnonzero(np.abs(vector - parts).max(axis=1) > _SAME)
    if len(rows):
        raise UserError(
            f'{path}: {name} differs from the joints of the arms in {len(rows)} of {len(parts)} '
            f'rows, the first being {rows[0]}: it is unclear which are right.'
        )


# Pictures.


def _cameras(path: Path, data: Any, layout: _Layout, rows: int) -> list[str]:
    """Return the cameras that have pictures, of which there must be one for each row."""
    cameras = data.get(layout.cameras, {})
    names = [name for name in cameras if layout.pictures in cameras[name]]
    for name in names:
        count = len(cameras[name][layout.pictures])
        if count != rows:
            where = f'{layout.cameras}/{name}/{layout.pictures}'
            raise UserError(f'{path}: {where} has {count} pictures for {rows} rows of joints.')
    return names


def _odd_shape(data: Any, layout: _Layout, camera: str) -> str:
    """Return how a camera's `shape` differs from its first picture, '' where it does not."""
    group = data[layout.cameras][camera]
    if 'shape' not in group:
        return ''
    stated, first = tuple(np.asarray(group['shape']).ravel()[:2].tolist()), _first(group, layout)
    if first in (None, stated):
        return ''
    return (
        f'{layout.cameras}/{camera}/shape says {"x".join(map(str, stated))} and the pictures are '
        f'{"x".join(map(str, first or ()))}'
    )


def _first(group: Any, layout: _Layout) -> tuple[int, int] | None:
    """Return height and width of a camera's first picture, None where that is damaged."""
    packed = np.asarray(group[layout.pictures][0])
    if packed.ndim == 3:
        return packed.shape[0], packed.shape[1]
    found = header_of(_bytes(packed))
    return (found.height, found.width) if found else None


def _decode(file: Path, name: str) -> Iterator[NDArray[np.uint8]]:
    with _open(file) as data:
        for packed in data[name]:
            if np.ndim(packed) == 3:
                yield np.asarray(packed, np.uint8)
                continue
            stream = _bytes(packed)
            picture = decode_compressed(stream, 'jpeg')
            # RoboTwin gives OpenCV's encoder RGB for BGR, so that red and blue have changed
            # places in the JPEG, unless a comment says that they have not.
            standard = _STANDARD in comments_of(stream)
            yield picture if standard else picture[..., ::-1].copy()


def _bytes(packed: Any) -> bytes:
    """Return a picture's bytes; strings and rows of fixed length are filled up with zeros."""
    return np.asarray(packed).tobytes().rstrip(b'\0')


# What it says about itself.


def _rate_hz(path: Path, data: Any) -> float | None:
    if 'additional_info/frequency' not in data:
        return None
    values = np.asarray(data['additional_info/frequency'], np.float64).ravel()
    if len(values) != 1 or not 0 < values[0] < 1000:
        raise UserError(f'{path}: additional_info/frequency is {values.tolist()}, not a rate.')
    return float(values[0])


def _instruction(data: Any, path: Path) -> tuple[str, list[str]]:
    """Return what was asked, '' where nothing says it, and what contradicts it."""
    one, many = _texts(data, 'instruction'), _texts(data, 'instructions')
    if not one and not many:
        beside = path.parent.parent / 'instructions' / f'{path.stem}.json'
        try:
            many = _sentences(json.loads(beside.read_text(encoding='utf-8')))
        except (OSError, ValueError):
            return '', []
    odd = bool(one and many) and one[0] not in many
    return next(iter([*one, *many]), ''), (
        ['its instruction is none of its instructions'] if odd else []
    )


def _texts(data: Any, name: str) -> list[str]:
    """Return the sentences in a text, a list of texts or a list in JSON."""
    if name not in data:
        return []
    found = data[name][()]
    texts = [t.decode() if isinstance(t, bytes) else str(t) for t in np.ravel(found).tolist()]
    try:
        return _sentences(json.loads(texts[0])) if len(texts) == 1 else _sentences(texts)
    except ValueError:
        return _sentences(texts)


def _sentences(found: Any) -> list[str]:
    """Return the sentences in what JSON holds: a text, a list, or lists of seen and unseen."""
    if isinstance(found, dict):
        return _sentences(found.get('seen')) or _sentences(found.get('unseen'))
    texts: Iterable[Any] = [found] if isinstance(found, str) else found or ()
    return [text for text in texts if isinstance(text, str) and text]
