"""The page of `eva bags view`: a table of all bags, then each one's findings and episodes."""

from collections.abc import Sequence
import os
from pathlib import Path
from typing import Any

from eva_ros.episodes.attempts import attempts
from eva_ros.episodes.resampling import Piece
from eva_ros.episodes.settings import ResamplingSettings
from eva_ros.errors import UserError
from eva_ros.inspection.check import BagCheck
from eva_ros.inspection.check import PARTIAL
from eva_ros.inspection.check import UNUSABLE
from eva_ros.inspection.check import USABLE
from eva_ros.inspection.joint_curves import joint_curves
from eva_ros.observations.ingest import Observation
from eva_ros.observations.reasons import grouped
from eva_ros.observations.views import ViewSpec
from eva_ros.pages import data_uri
from eva_ros.pages import evenly
from eva_ros.pages import jpeg
from eva_ros.pages import render
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.robot.spec import Robot

_PICTURES = 12
# Pictures are shown no narrower and no lower than this, px.
_TILE = (150, 85)


def page(
    checks: Sequence[BagCheck], robot: Robot, view: ViewSpec, settings: ResamplingSettings | None
) -> str:
    """Return the page as HTML; reads each bag again for its pictures and joints.

    Args:
        checks: Result of `check_bag` for each bag.
        robot: Robot whose joints are drawn.
        view: Camera layout that the pictures show.
        settings: Alignment settings, as for training.
    """
    folder = _common_folder(checks)
    bags = [
        {
            'check': check,
            'name': os.path.relpath(check.path, folder) if folder else check.path,
            'episodes': _episodes(Path(check.path), robot, view, settings),
        }
        for check in checks
    ]
    verdicts = [check.verdict for check in checks]
    height, width, _ = view.shape
    return render(
        'bags.html',
        title='Bags',
        style='bags.css',
        bags=bags,
        folder=folder,
        counts=[
            f'{verdicts.count(verdict)} {verdict}'
            for verdict in (USABLE, PARTIAL, UNUSABLE)
            if verdict in verdicts
        ],
        episodes=sum(len(check.episodes) for check in checks),
        usable_s=sum(check.usable_s for check in checks),
        tile_px=max(_TILE[0], _TILE[1] * width // height),
        data_uri=data_uri,
        grouped=grouped,
    )


def _common_folder(checks: Sequence[BagCheck]) -> str:
    """Return the folder that holds all of several bags, '' if there is none."""
    folders = [str(Path(check.path).parent) for check in checks]
    try:
        return os.path.commonpath(folders) if len(folders) > 1 else ''
    except ValueError:  # some are relative and some are not
        return ''


def _episodes(
    path: Path, robot: Robot, view: ViewSpec, settings: ResamplingSettings | None
) -> list[dict[str, Any]]:
    views: list[bytes] = []

    def keep(observation: Observation) -> int:
        views.append(jpeg(observation.view, quality=95))
        return len(views) - 1

    pieces: list[Piece] = []
    try:
        # The check has reported every problem already.
        with BagReader(path, lambda problem: None) as reader:
            found = attempts(
                reader, robot, view, lambda problem: None, settings=settings, keep=keep
            )
            pieces.extend(found)
    except UserError:
        pass
    return [
        {'piece': piece, 'pictures': _pictures(piece, views), 'plots': joint_curves(piece, robot)}
        for piece in pieces
    ]


def _pictures(piece: Piece, views: list[bytes]) -> list[tuple[float, bytes]]:
    """Return (time in s, JPEG) of a few views at even times."""
    chosen = evenly(len(piece.ticks), _PICTURES)
    return [(piece.seconds[i], views[piece.ticks[i].frame]) for i in chosen]
