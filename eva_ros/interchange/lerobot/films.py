"""The videos of a LeRobot data set: which file is whose, and what is in it."""

from collections.abc import Mapping
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.interchange.episode_faults import Fault
from eva_ros.interchange.imported import ImportedEpisode
from eva_ros.interchange.lerobot.features import Features
from eva_ros.interchange.lerobot.paths import find_video
from eva_ros.interchange.lerobot.paths import numbers_of
from eva_ros.interchange.lerobot.videos import Claim
from eva_ros.interchange.lerobot.videos import decode
from eva_ros.interchange.lerobot.videos import Film
from eva_ros.interchange.lerobot.videos import open_film
from eva_ros.interchange.lerobot.videos import place


class Films:
    """Looks up the pictures of episodes.

    Args:
        folder: the data set's.
        info: what its info.json holds.
        features: what it says of them.
        findings: gets a sentence for whatever is wrong with a file.
        faults: gets what is wrong with single episodes.
    """

    def __init__(
        self,
        folder: Path,
        info: dict[str, Any],
        features: Features,
        findings: list[str],
        faults: list[Fault],
    ) -> None:
        """Take what the metadata say."""
        self._folder, self._info, self._features = folder, info, features
        self._findings, self._faults = findings, faults

    def add(
        self,
        key: str,
        listed: Sequence[dict[str, Any]],
        episodes: Mapping[int, ImportedEpisode],
        frames: Mapping[int, NDArray[np.int64] | None],
    ) -> None:
        """Give the episodes their pictures of a camera, of those files that can be opened.

        Args:
            key: the camera's.
            listed: the entries of all episodes in the metadata.
            episodes: those whose rows were read, by number.
            frames: the frame_index of their rows.
        """
        claims: dict[Path, list[Claim]] = {}
        for about in listed:
            index = about['episode_index']
            path = self._video(key, about)
            count = len(episodes[index]) if index in episodes else int(about.get('length') or 0)
            if path:
                begin_s, end_s = (about.get(f'videos/{key}/{n}_timestamp') for n in ('from', 'to'))
                claim = Claim(
                    index, count, frames.get(index),
                    float(begin_s or 0.0), None if end_s is None else float(end_s),
                )  # fmt: skip
                claims.setdefault(path, []).append(claim)
        for path, those in claims.items():
            film = self._open(key, path)
            if film is None:
                continue
            due, findings, faults = place(key, path, film, those, self._features.rate_hz)
            self._findings += findings
            self._faults += [fault for fault in faults if fault[0] in episodes]
            for index in due.keys() & episodes.keys():
                episodes[index].frames[key] = partial(decode, path, due[index])

    def _video(self, key: str, about: dict[str, Any]) -> Path | None:
        """Return the file of an episode's video, None where it is not there."""
        try:
            numbers = numbers_of(about, f'videos/{key}', self._info)
            pointed, path = find_video(self._folder, self._info['video_path'], numbers, key)
        except (KeyError, TypeError, ValueError) as error:
            self._fail(about, f"has no place of the video '{key}' ({error})")
            return None
        if path is None:
            self._fail(about, f'lacks the video {pointed}')
        elif path != pointed:
            self._fail(about, f'has its video in {path}: the pointer to {pointed} is stale')
        return path

    def _fail(self, about: dict[str, Any], fault: str) -> None:
        index = about['episode_index']
        self._faults.append((index, f'Episode {index} {fault}.'))

    def _open(self, key: str, path: Path) -> Film | None:
        """Return what is in a video, and say where it is not what the metadata declare."""
        feature = self._features.all[key]
        info = feature.get('info') or feature.get('video_info') or {}
        declared = info.get('video.codec')
        try:
            film = open_film(path)
        except Exception as error:  # PyAV has many, and damaged files meet all of them
            self._findings.append(f'The video {path} cannot be opened ({type(error).__name__}).')
            return None
        shape = feature.get('shape') or []
        sentences = []
        if declared and declared != film.codec:
            sentences.append(f"'{key}' is declared as {declared}, its videos are {film.codec}.")
        if shape and film.size not in (tuple(shape[:2]), tuple(shape[1:])):
            height, width = film.size
            sentences.append(f"'{key}' is declared as {shape}, its videos are {height}x{width}.")
        self._findings += [said for said in sentences if said not in self._findings]
        return film
