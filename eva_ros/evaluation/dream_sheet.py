"""A folder of dreams to look at: a video of each beside its recording, and a contact sheet."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.evaluation.dreams import DreamedClip
from eva_ros.evaluation.dreams import table
from eva_ros.interchange.lerobot.writer import VideoFile
from eva_ros.pages import data_uri
from eva_ros.pages import evenly
from eva_ros.pages import jpeg
from eva_ros.pages import render

_SHEET = 'index.html'
_PICTURES = 6
# Figures that are shown with each clip.
_SHOWN = ('psnr_moving_db', 'still_psnr_moving_db', 'nearest_clip_psnr_moving', 'ms_ssim',
          'executability')  # fmt: skip


class DreamSheet:
    """Writes an mp4 per clip, and a page that shows all of them."""

    def __init__(self, folder: Path) -> None:
        """Create the folder.

        Raises:
            UserError: It cannot be created.
        """
        self._folder = folder
        self._clips: list[dict[str, Any]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f'{folder} cannot be created: {error.strerror}.') from error

    def add(self, clip: DreamedClip) -> None:
        """Write a clip's video, recording on the left and dream on the right."""
        name = f'clip-{len(self._clips):03d}.mp4'
        _write_video(self._folder / name, np.concatenate([clip.real, clip.dream], 2), clip.rate_hz)
        chosen = evenly(len(clip.real), _PICTURES)
        self._clips.append(
            {
                'instruction': clip.instruction,
                'video': name,
                'figures': {k: clip.figures[k] for k in _SHOWN if k in clip.figures},
                'rows': {
                    'recorded': [data_uri(jpeg(frame)) for frame in clip.real[chosen]],
                    'dreamed': [data_uri(jpeg(frame)) for frame in clip.dream[chosen]],
                },
                'seconds': [index / clip.rate_hz for index in chosen],
            }
        )

    def write(self, result: dict) -> Path:
        """Write the page, and return its path."""
        path = self._folder / _SHEET
        text = render(
            'dreams.html', title='Dreams', style='dreams.css', clips=self._clips,
            summary=table(result),
        )  # fmt: skip
        path.write_text(text, encoding='utf-8')
        return path


def _write_video(path: Path, frames: NDArray[np.uint8], rate_hz: float) -> None:
    height, width = frames.shape[1:3]
    even = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode='edge')
    rate = Fraction(rate_hz).limit_denominator(1000)
    video = VideoFile(path, (even.shape[1], even.shape[2]), rate)
    for frame in even:
        video.add(frame)
    video.close()
