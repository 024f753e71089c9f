"""One HTML page that shows a bag: pictures of its episodes, and its joints as curves."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from html import escape
import io
from pathlib import Path

import cv2
import numpy as np

from eva_ros.episodes.align import Piece
from eva_ros.episodes.attempts import attempts
from eva_ros.episodes.bag_reader import BagReader
from eva_ros.episodes.check import BagCheck
from eva_ros.episodes.ingest import Observation
from eva_ros.episodes.settings import AlignSettings
from eva_ros.episodes.views import ViewSpec
from eva_ros.errors import UserError
from eva_ros.robot.spec import ARM_NAMES
from eva_ros.robot.spec import Robot

_PICTURES = 12
_STYLE = (
    'body{font:15px sans-serif;margin:2em;max-width:110em}img{margin:2px}'
    '.usable{color:#276749}.partial{color:#975a16}.unusable{color:#9b2c2c}'
    'table{border-collapse:collapse}td,th{padding:2px 10px;text-align:left}'
)


@dataclass
class _Jpegs:
    """Views as JPEG, as many as there are ticks; each is a few kilobytes."""

    data: list[bytes] = field(default_factory=list)

    def add(self, observation: Observation) -> int:
        self.data.append(cv2.imencode('.jpg', observation.view[..., ::-1])[1].tobytes())
        return len(self.data) - 1


def bag_section(
    path: Path, check: BagCheck, robot: Robot, view: ViewSpec, settings: AlignSettings | None
) -> str:
    """Return the part of the page that shows one bag.

    Args:
        path: the bag.
        check: what was found in it.
        robot: whose joints are drawn.
        view: what the pictures show.
        settings: as for training.
    """
    parts = [
        f'<h2>{escape(str(path))}: <span class="{check.verdict}">{check.verdict}</span></h2>',
        ''.join(f'<p>{escape(reason)}</p>' for reason in check.reasons),
        _topics(check),
    ]
    jpegs = _Jpegs()
    for number, piece in enumerate(_pieces(path, robot, view, settings, jpegs)):
        title = piece.instruction or '(no instruction)'
        said = {True: 'success', False: 'failure', None: 'not judged'}[piece.success]
        parts.append(f'<h3>Episode {number}: {escape(title)} ({said})</h3>')
        parts.append(_strip(piece, jpegs))
        parts.append(_curves(piece, robot))
    return '\n'.join(parts)


def page(sections: Sequence[str]) -> str:
    """Return the whole page."""
    head = f'<!doctype html><meta charset="utf-8"><title>Bags</title><style>{_STYLE}</style>'
    return '\n'.join([head, '<h1>Bags</h1>', *sections]) + '\n'


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
    rows = ''.join(
        f'<tr><td>{escape(name)}<td>{escape(facts["type"])}<td>{facts["messages"]}'
        f'<td>{facts["rate_hz"]}<td>{len(facts["gaps"])}'
        for name, facts in check.topics.items()
    )
    return f'<table><tr><th>topic<th>type<th>messages<th>Hz<th>gaps{rows}</table>'


def _strip(piece: Piece, jpegs: _Jpegs) -> str:
    """Return pictures at even times, under each its time in s."""
    chosen = np.unique(np.linspace(0, len(piece.ticks) - 1, _PICTURES).round().astype(int))
    start_ns = piece.ticks[0].observation.stamp_ns
    shown = []
    for index in chosen:
        tick = piece.ticks[index]
        seconds = (tick.observation.stamp_ns - start_ns) * 1e-9
        shown.append(_image(jpegs.data[tick.frame], 'jpeg', f'{seconds:.1f} s'))
    return '<p>' + ''.join(shown) + '</p>'


def _image(data: bytes, kind: str, title: str) -> str:
    text = b64encode(data).decode()
    return f'<img title="{title}" alt="{title}" src="data:image/{kind};base64,{text}">'


def _curves(piece: Piece, robot: Robot) -> str:
    """Return the joints of both arms over time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3), layout='constrained')
    FigureCanvasAgg(figure)
    stamps = np.array([tick.observation.stamp_ns for tick in piece.ticks])
    joints = np.stack([tick.joints for tick in piece.ticks])
    seconds = (stamps - stamps[0]) * 1e-9
    for axes, arm in zip(figure.subplots(1, 2), ARM_NAMES):
        for name, values in zip(robot.arms[arm].joint_names, joints[:, robot.arm_indices(arm)].T):
            axes.plot(seconds, values, label=name, linewidth=1)
        axes.set_title(f'{arm} arm')
        axes.set_xlabel('s')
        axes.set_ylabel('rad; gripper 0 to 1')
        axes.legend(fontsize=6, loc='center left', bbox_to_anchor=(1, 0.5))
    stream = io.BytesIO()
    figure.savefig(stream, format='png', dpi=80)
    return '<p>' + _image(stream.getvalue(), 'png', 'joints') + '</p>'
