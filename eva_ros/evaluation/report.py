"""The page that shows a run: what was seen, dreamed, decoded and done. One file, no network."""

from html import escape
from pathlib import Path

import numpy as np

from eva_ros.evaluation.plots import joint_panels
from eva_ros.evaluation.plots import timeline
from eva_ros.evaluation.report_frames import alignment_section
from eva_ros.evaluation.report_frames import FrameSheets
from eva_ros.evaluation.report_frames import turn_section
from eva_ros.evaluation.report_style import CSS
from eva_ros.evaluation.run import Attempted
from eva_ros.evaluation.run import median_and_p95
from eva_ros.evaluation.run import Run
from eva_ros.evaluation.run import shown
from eva_ros.evaluation.run import STAGES

STAGE_MEANS = {
    'look': 'wait until the arms rest and the cameras have seen it',
    'dream': 'the world model dreams the next frames',
    'decode': 'the inverse dynamics model reads the joints',
    'check': 'the gate checks and sends both arms',
    'move': 'the arms follow, cameras and joints are recorded',
}


def write_report(run: Run, path: Path) -> None:
    """Write a run as a page that needs nothing beside itself."""
    path.write_text(page(run), encoding='utf-8')


def page(run: Run) -> str:
    """Return the whole page as HTML."""
    sheets = FrameSheets()
    longest = max((_wall(attempt) for attempt in run.attempts), default=1.0)
    sections = [_attempt(attempt, run, sheets, longest) for attempt in run.attempts]
    if run.alignment:
        sections.append(alignment_section(run.alignment, run.robot, sheets))
    body = ''.join([_head(run), _tiles(run), _tasks(run), _stages(run), *sections, _foot(run)])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(run.title)}</title><style>{CSS}{sheets.css()}</style></head>'
        f'<body><main>{body}</main></body></html>\n'
    )


def _head(run: Run) -> str:
    return (
        f'<h1>{escape(run.title)}</h1><p class="lead">Cameras to observation, observation to '
        'dream, dream to joints, joints through the gate to two arms. Everything below is read '
        'from the recorded topics of this run; nothing in it knew more than the cameras and the '
        f'joints. {escape(run.started)}.</p>'
    )


def _tiles(run: Run) -> str:
    attempts = run.attempts
    turns = [turn for attempt in attempts for turn in attempt.turns]
    before = sum(attempt.violations()[0] for attempt in attempts)
    after = sum(attempt.violations()[1] for attempt in attempts)
    dream, _ = median_and_p95(run.stage_seconds('dream'))
    scores = [turn.score for turn in turns if np.isfinite(turn.score)]
    score = f'{np.mean(scores):.2f}' if scores else '–'
    standing = [attempt.standing for attempt in attempts if np.isfinite(attempt.standing)]
    rest = f'{np.mean(standing):.0%}' if standing else '–'
    refused = sum(not turn.accepted for turn in turns)
    values = (
        (f'{sum(a.success for a in attempts)} of {len(attempts)}', 'tasks done'),
        (shown(dream, '{:.2f} s'), 'for a dream, median'),
        (rest, 'of the time the arms stood still'),
        (score, 'executability of what was decoded (10 is best)'),
        (f'{before} → {after}', 'limit violations as decoded → as sent'),
        (f'{len(turns) - refused} of {len(turns)}', 'chunks accepted by the gate'),
    )
    tiles = [
        f'<div class="card"><b>{value}</b><span>{what}</span></div>' for value, what in values
    ]
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _tasks(run: Run) -> str:
    rows = [_task_row(attempt) for attempt in run.attempts]
    return (
        '<h2>Tasks</h2><div class="card"><table><tr><th>task</th>'
        '<th class="words">outcome</th><th>time</th><th>chunks</th><th>stood still</th>'
        '<th>executability</th><th>limit violations, decoded → sent</th></tr>'
        f'{"".join(rows)}</table></div>'
    )


def _task_row(attempt: Attempted) -> str:
    before, after = attempt.violations()
    accepted = sum(turn.accepted for turn in attempt.turns)
    return (
        f'<tr><td>{escape(attempt.task)}</td><td class="words">{_outcome(attempt)}</td>'
        f'<td>{attempt.elapsed_s:.1f} s</td><td>{accepted} of {len(attempt.turns)}</td>'
        f'<td>{shown(attempt.standing, "{:.0%}")}</td><td>{shown(attempt.score, "{:.2f}")}</td>'
        f'<td>{before} → {after}</td></tr>'
    )


def _outcome(attempt: Attempted) -> str:
    kind, word = ('good', 'done') if attempt.success else ('bad', 'not done')
    return f'<span class="pill {kind}">{word}</span>'


def _stages(run: Run) -> str:
    rows = []
    for stage in STAGES:
        median, p95 = median_and_p95(run.stage_seconds(stage))
        swatch = f'<span class="legend"><span><i class="{stage}"></i>{stage}</span></span>'
        rows.append(
            f'<tr><td>{swatch}</td><td>{shown(median, "{:.2f} s")}</td>'
            f'<td>{shown(p95, "{:.2f} s")}</td><td class="words">{STAGE_MEANS[stage]}</td></tr>'
        )
    return (
        '<h2>Where the time goes</h2><div class="card"><table><tr><th>stage</th><th>median</th>'
        '<th>95th percentile</th><th class="words">what happens</th></tr>'
        f'{"".join(rows)}</table></div>'
    )


def _wall(attempt: Attempted) -> float:
    return sum(sum(turn.seconds.values()) for turn in attempt.turns) or 1.0


def _attempt(attempt: Attempted, run: Run, sheets: FrameSheets, longest: float) -> str:
    turns = [turn_section(turn, n, run, sheets) for n, turn in enumerate(attempt.turns, 1)]
    legend = ''.join(f'<span><i class="{stage}"></i>{stage}</span>' for stage in STAGES)
    return (
        f'<section class="card"><div class="head"><h2>{escape(attempt.task)}</h2>'
        f'{_outcome(attempt)}<q>{escape(attempt.instruction)}</q></div>'
        f'<p class="note">{escape(attempt.message)} Scene {attempt.seed}, '
        f'{attempt.elapsed_s:.1f} s of ROS time. Below: where the wall time went.</p>'
        f'{timeline(attempt.turns, longest)}<div class="legend">{legend}</div>'
        f'{"".join(turns)}{_joints(attempt, run)}</section>'
    )


def _joints(attempt: Attempted, run: Run) -> str:
    if len(attempt.stamps_ns) < 2:
        return ''
    return (
        '<div class="turn"><h3>Joints: decoded, sent and executed</h3><div class="legend">'
        '<span><i class="stroke dashed" style="color:var(--dream)"></i>decoded from the dream'
        '</span><span><i class="stroke" style="color:var(--sent)"></i>sent by the gate</span>'
        '<span><i class="stroke" style="color:var(--real)"></i>measured</span>'
        '<span><i class="stroke" style="color:var(--limit)"></i>limit</span>'
        '<span><i style="background:var(--band)"></i>moving</span>'
        '<span>bar on the right: the whole range between the limits, and the part used</span>'
        f'</div>{joint_panels(attempt, run.robot)}</div>'
    )


def _foot(run: Run) -> str:
    facts = {**run.checkpoints, **run.facts}
    rows = [
        f'<tr><td>{escape(name)}</td><td class="words"><code>{escape(value)}</code></td></tr>'
        for name, value in facts.items()
    ]
    return f'<h2>Made with</h2><div class="card"><table>{"".join(rows)}</table></div>'
