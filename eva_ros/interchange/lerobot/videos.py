"""Which picture of a LeRobot video belongs to which row.

Pictures are paired with rows by their index within the episode: the stamps of rows were measured
or counted, those of pictures are what an encoder made of them. Where the number of pictures and
of rows cannot both be right, the pictures are left out: one that is paired with the wrong joints
is worse than none.
"""

from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eva_ros.interchange.episode_faults import Fault

# Stamps of a packet and of the picture that is decoded from it, s.
_SAME_S = 1e-6
# A video that is so many pictures too long is paired from its beginning: wrong by that at most.
_SPARE = 1
# How far, as a share, a video's rate may be from the declared one where it says which row a
# picture belongs to.
_UNEVEN = 0.05

Due = Sequence[float | None]


@dataclass(frozen=True, eq=False)
class Film:
    """A video file.

    Attributes:
        times: when each picture is shown, s [F].
        codec: its name.
        size: height and width.
    """

    times: NDArray[np.float64]
    codec: str
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Claim:
    """The stretch of a video that an episode claims.

    Attributes:
        episode: its number.
        rows: how many it has.
        frames: the frame_index of its rows [T], None if they have none.
        start_s: where its pictures begin.
        end_s: where they end, if the metadata say it.
    """

    episode: int
    rows: int
    frames: NDArray[np.int64] | None
    start_s: float
    end_s: float | None


def open_film(path: Path) -> Film:
    """Return what is in a video, without decoding it."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        codec, size = stream.codec.canonical_name, (stream.height, stream.width)
        times = [
            float(packet.pts * packet.time_base)
            for packet in container.demux(stream)
            if packet.pts is not None and packet.size and not packet.is_discard
        ]
    return Film(np.sort(np.array(times, np.float64)), codec, size)


def place(
    key: str, path: Path, film: Film, claims: Sequence[Claim], rate_hz: float
) -> tuple[dict[int, Due], list[str], list[Fault]]:
    """Return when the picture of each row is shown, for the episodes where that is certain.

    Args:
        key: the camera's.
        path: the video.
        film: what is in it.
        claims: of all episodes that point to it.
        rate_hz: declared frames a second, 0 where unknown.

    Returns:
        Times by episode (None for a row without a picture), what is wrong with the file, and what
        is wrong with single episodes.
    """
    claims = sorted(claims, key=lambda claim: (claim.start_s, claim.episode))
    total, step_s = len(film.times), _step_s(film.times)
    begin = np.searchsorted(film.times, [c.start_s - step_s / 2 for c in claims]).tolist()
    ends = _ends(begin, claims, total, rate_hz)
    rows = np.zeros(total, int)
    for first, end in zip(begin, ends):
        rows[first:end] += 1
    lost = sum(max(0, end - total) for end in ends) if (rows == 0).any() else 0
    said = _of_file(key, path, rows, lost) if len(claims) > 1 or begin[0] else []
    faults = _lengths(key, claims, rate_hz)
    found: dict[int, Due] = {}
    for first, end, until, claim in () if lost else zip(begin, ends, [*begin[1:], total], claims):
        shared = int((rows[first:end] > 1).sum())
        if shared:
            due, fault = None, f'{shared} of its pictures are claimed by another episode, too'
        else:
            due, fault = _pair(film.times[first:until], claim, rate_hz)
        if due is not None:
            found[claim.episode] = due
        if fault:
            left = '' if due is not None else ': its pictures are left out'
            faults.append((claim.episode, f"Episode {claim.episode}, '{key}': {fault}{left}."))
    return found, said, faults


def _step_s(times: NDArray[np.float64]) -> float:
    """Return the usual time between pictures, 0 where there are not two."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.0


def _ends(begin: list[int], claims: Sequence[Claim], total: int, rate_hz: float) -> list[int]:
    """Return behind which picture each episode ends, which may lie behind the end of the file.

    That is where its rows are counted to, unless the next one begins no earlier by its time: the
    video lacks pictures, then.
    """
    ends = [first + claim.rows for first, claim in zip(begin, claims)]
    for index, (claim, after) in enumerate(pairwise(claims)):
        apart = (after.start_s - claim.start_s) * rate_hz > claim.rows - 0.5
        if rate_hz and apart and begin[index + 1] < total:
            ends[index] = min(ends[index], begin[index + 1])
    return ends


def _of_file(key: str, path: Path, rows: NDArray[np.int_], lost: int) -> list[str]:
    """Say how many pictures of a file belong to no row, or to rows of several episodes."""
    none, several = int((rows == 0).sum()), int((rows > 1).sum())
    said = []
    if lost:
        said.append(
            f"{path}: {none} pictures of '{key}' belong to no row, and {lost} rows lie behind its "
            'end: its episodes begin elsewhere than from_timestamp says, so their pictures are '
            'left out.'
        )
    elif none:
        said.append(f"{path}: {none} of {len(rows)} pictures of '{key}' belong to no row.")
    if several:
        said.append(
            f"{path}: {several} of {len(rows)} pictures of '{key}' belong to rows of two episodes "
            'or more.'
        )
    return said


def _lengths(key: str, claims: Sequence[Claim], rate_hz: float) -> list[Fault]:
    """Say which stretches are not as long as their rows."""
    found = []
    for claim in claims:
        if claim.end_s is None or not rate_hz:
            continue
        count = (claim.end_s - claim.start_s) * rate_hz
        if abs(count - claim.rows) > 0.5:
            found.append((
                claim.episode,
                f"Episode {claim.episode}, '{key}': from_timestamp to to_timestamp are "
                f'{count:.4g} pictures at {rate_hz:g} Hz, for {claim.rows} rows.',
            ))  # fmt: skip
    return found


def _pair(times: NDArray[np.float64], claim: Claim, rate_hz: float) -> tuple[Due | None, str]:
    """Return the time of each row's picture, or None, and what is wrong."""
    there, rows = len(times), claim.rows
    spare = there - rows
    if spare == 0:
        return times.tolist(), ''
    if spare < 0:
        return _by_time(times, claim, rate_hz)
    numbers = claim.frames
    if numbers is not None and _fits(numbers, rows, there):
        return (
            times[numbers].tolist(),
            f'{there} pictures for {rows} rows, whose frame_index says which {spare} belong to '
            'no row',
        )
    what = f'{there} pictures for {rows} rows, and nothing says which {spare} belong to no row'
    if spare > _SPARE:
        return None, what
    return times[:rows].tolist(), f'{what}: the last is taken for it'


def _fits(numbers: NDArray[np.int64], rows: int, there: int) -> bool:
    """Return whether frame numbers go up to the last picture, some left out."""
    increase = bool(np.all(np.diff(numbers) > 0))
    return len(numbers) == rows > 0 and increase and int(numbers[-1]) == there - 1


def _by_time(times: NDArray[np.float64], claim: Claim, rate_hz: float) -> tuple[Due | None, str]:
    """Return the times of pictures that are fewer than the rows; the video's own say which."""
    step_s = _step_s(times) or 1.0 / (rate_hz or 30.0)
    what = f'{len(times)} pictures for {claim.rows} rows'
    if rate_hz and abs(step_s * rate_hz - 1) > _UNEVEN:
        return None, f'{what}, {1 / step_s:.4g} and not {rate_hz:g} a second'
    # Shown from the start of the stretch, or from whatever start the file has.
    for start_s in (claim.start_s, float(times[0]) if len(times) else 0.0):
        places = np.rint((times - start_s) / step_s).astype(int).tolist()
        if len(set(places)) == len(places) and all(0 <= i < claim.rows for i in places):
            due: list[float | None] = [None] * claim.rows
            for index, time in zip(places, times.tolist()):
                due[index] = time
            return due, ''
    return None, f'{what}, and their stamps are not even'


def decode(path: Path, due: Due) -> Iterator[NDArray[np.uint8] | None]:
    """Yield the picture [H, W, 3] that is shown at each time; None where there is none."""
    import av

    first_s = next((time for time in due if time is not None), 0.0)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = 'AUTO'
        if first_s > 0 and stream.time_base:
            container.seek(int(first_s / stream.time_base), stream=stream)
        frames = (frame for frame in container.decode(stream) if frame.time is not None)
        frame = next(frames, None)
        for time in due:
            while time is not None and frame is not None and frame.time < time - _SAME_S:
                frame = next(frames, None)
            if time is None or frame is None or frame.time > time + _SAME_S:
                yield None
            else:
                yield frame.to_ndarray(format='rgb24')
