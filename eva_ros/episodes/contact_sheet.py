"""What the page of `eva bags view` shows of a bag: its findings, topics, pictures and joints."""

from base64 import b64encode
from dataclasses import dataclass
from dataclasses import field
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from eva_ros.episodes.align import Piece
from eva_ros.episodes.attempts import attempts
from eva_ros.episodes.bag_reader import BagReader
from eva_ros.episodes.bags_page import pill
from eva_ros.episodes.check import BagCheck
from eva_ros.episodes.ingest import Observation
from eva_ros.episodes.joint_curves import joint_curves
from eva_ros.episodes.reasons import grouped
from eva_ros.episodes.settings import AlignSettings
from eva_ros.episodes.views import ViewSpec
from eva_ros.errors import UserError
from eva_ros.robot.spec import Robot

_PICTURES = 12
# Pictures are shown no narrower and no lower than this, px.
_TILE = (150, 85)


@dataclass
class _Jpegs:
    """Views as JPEG, as many as there are ticks; each is a few kilobytes."""

    data: list[bytes] = field(default_factory=list)

    def add(self, observation: Observation) -> int:
        self.data.append(cv2.imencode('.jpg', observation.view[..., ::-1])[1].tobytes())
        return len(self.data) - 1


def bag_section(
    number: int,
    path: Path,
    check: BagCheck,
    robot: Robot,
    view: ViewSpec,
    settings: AlignSettings | None,
) -> str:
    """Return the part of the page that shows one bag.

    Args:
        number: of the bag on the page.
        path: the bag.
        check: what was found in it.
        robot: whose joints are drawn.
        view: what the pictures show.
        settings: as for training.
    """
    facts = f'{len(check.episodes)} episodes, {check.usable_s:.1f} usable seconds'
    parts = [
        f'<section class="card" id="bag-{number}"><div class="head">'
        f'<h2>{escape(str(path))}</h2>{pill(check.verdict)}'
        f'<a class="up" href="#top">to the top</a></div><p class="facts">{facts}</p>',
        _reasons(check),
        _topics(check),
    ]
    jpegs = _Jpegs()
    for index, piece in enumerate(_pieces(path, robot, view, settings, jpegs)):
        title = escape(piece.instruction or '(no instruction)')
        about = f'<span class="facts">{_judged(piece)}</span>'
        parts.append(f'<h3>Episode {index}: {title} {about}</h3>')
        parts.append(_strip(piece, jpegs, view))
        parts.append(joint_curves(piece, robot))
    return '\n'.join([*parts, '</section>'])


def _judged(piece: Piece) -> str:
    said = {True: 'success', False: 'failure', None: 'not judged'}[piece.success]
    return f'{said}, {piece.seconds[-1]:.1f} s'


def _reasons(check: BagCheck) -> str:
    notes = [f'note: {note}' for note in grouped(check.notes)]
    items = ''.join(f'<li>{escape(text)}' for text in [*grouped(check.reasons), *notes])
    return f'<ul>{items}</ul>' if items else ''


def _pieces(
    path: Path, robot: Robot, view: ViewSpec, settings: AlignSettings | None, jpegs: _Jpegs
) -> list[Piece]:
    def passed_over(sentence: str) -> None:
        """The check has said it."""

    pieces: list[Piece] = []
    try:
        with BagReader(path, passed_over) as reader:
            found = attempts(reader, robot, view, passed_over, settings=settings, keep=jpegs.add)
            pieces.extend(found)
    except UserError as error:
        passed_over(str(error))
    return pieces


def _topics(check: BagCheck) -> str:
    if not check.topics:
        return ''
    rows = ''.join(
        f'<tr><td>{escape(name)}<td class="words">{escape(facts["type"])}'
        f'<td data-unit="messages">{facts["messages"]}<td data-unit="Hz">{_rate(facts)}'
        f'<td data-unit="gaps">{len(facts["gaps"]) or ""}'
        for name, facts in check.topics.items()
    )
    return (
        f'<details><summary>{len(check.topics)} topics</summary><div class="wide">'
        '<table class="stacked"><tr><th>topic<th class="words">type<th>messages<th>Hz<th>gaps'
        f'{rows}</table></div></details>'
    )


def _rate(facts: dict[str, Any]) -> float:
    return facts['mean_rate_hz'] if facts['bursts'] else facts['rate_hz']


def _strip(piece: Piece, jpegs: _Jpegs, view: ViewSpec) -> str:
    """Return pictures at even times, under each its time; those of cameras in a row are wider."""
    chosen = np.unique(np.linspace(0, len(piece.ticks) - 1, _PICTURES).round().astype(int))
    seconds = piece.seconds
    shown = [_picture(jpegs.data[piece.ticks[i].frame], f'{seconds[i]:.1f} s') for i in chosen]
    height, width, _ = view.shape
    tile = max(_TILE[0], _TILE[1] * width // height)
    return f'<div class="strip" style="--tile:{tile}px">{"".join(shown)}</div>'


def _picture(jpeg: bytes, time: str) -> str:
    data = b64encode(jpeg).decode()
    return (
        f'<figure><img alt="the view at {time}" src="data:image/jpeg;base64,{data}">'
        f'<figcaption>{time}</figcaption></figure>'
    )
