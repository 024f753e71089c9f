"""The parts of the report page that show frames: a turn, and a scene before and after alignment.

Each dream is one picture of all its frames side by side; the page shows a frame of it, or plays
it, by moving that picture, so that every pixel is stored once and no script is needed.
"""

from html import escape

import numpy as np
from numpy.typing import NDArray

from eva_ros.evaluation.pictures import jpeg_uri
from eva_ros.evaluation.pictures import sheet
from eva_ros.evaluation.run import Alignment
from eva_ros.evaluation.run import Dream
from eva_ros.evaluation.run import Run
from eva_ros.evaluation.run import Turn
from eva_ros.robot.motion import differences
from eva_ros.robot.spec import Robot

# Frames of a strip.
_COLUMNS = 6


class FrameSheets:
    """The pictures of a page's dreams, and the style rules that show them."""

    def __init__(self) -> None:
        """Begin without any."""
        self._rules: list[str] = []

    def add(self, frames: NDArray[np.uint8]) -> str:
        """Take in frames [T, H, W, 3] and return the class that shows them."""
        name = f's{len(self._rules)}'
        count, height, width = frames.shape[:3]
        self._rules.append(
            f'.{name}{{background-image:url({jpeg_uri(sheet(frames))});'
            f'background-size:{count * 100}% 100%;aspect-ratio:{width}/{height};--steps:{count}}}'
        )
        return name

    def css(self) -> str:
        """Return the style rules of all frames taken in."""
        return '\n'.join(self._rules)


def turn_section(turn: Turn, number: int, run: Run, sheets: FrameSheets) -> str:
    """Return one turn: the observation, and the dream above what the cameras later saw.

    All but the first are folded: a task may take many.
    """
    order = [camera.name for camera in run.view.cameras]
    images = ''.join(
        f'<img src="{jpeg_uri(turn.cameras[name])}" alt="{escape(name)} camera">'
        for name in order
        if name in turn.cameras
    )
    return (
        f'<details class="turn"{" open" if number == 1 else ""}><summary>'
        f'<h3>Turn {number} · dream {turn.rollout_id}</h3><span class="note">{_verdict(turn)}'
        f'</span></summary><div class="looks"><figure style="margin:0">'
        f'<div class="cameras">{images}</div><figcaption>What the cameras saw before the dream'
        f'</figcaption></figure><div>{_strips(turn, sheets)}</div></div></details>'
    )


def _verdict(turn: Turn) -> str:
    score = f'Executability {turn.score:.2f}. ' if np.isfinite(turn.score) else ''
    if not turn.accepted:
        return (
            f'{score}<span class="bad">Refused: {escape(turn.reason)}.</span> '
            f'{escape(turn.detail)}'
        )
    return (
        f'{score}Accepted: {turn.clamped_steps} values clamped, limit violations '
        f'{turn.violations_before} as decoded and {turn.violations_after} as sent, '
        f'{turn.stretch:.2f} times as long as dreamed.'
    )


def _strips(turn: Turn, sheets: FrameSheets) -> str:
    last = len(turn.frames) - 1
    steps = np.linspace(0, last, _COLUMNS).round().astype(int)
    dreamed = sheets.add(turn.frames)
    length = f'--length:{1.5 * turn.dt * len(turn.frames):.2f}s'
    films = [_film(dreamed, 'Dreamed, played', length)]
    rows = [_row('dreamed', dreamed, steps, last)]
    if turn.seen is not None:
        seen = sheets.add(turn.seen)
        films.append(_film(seen, 'Seen by the cameras, played', length))
        rows.append(_row('seen', seen, steps, last))
    times = ''.join(f'<span class="time">{step * turn.dt:.1f} s</span>' for step in steps)
    return (
        f'<div class="pair">{"".join(films)}</div>'
        f'<div class="strip"><span></span>{times}{"".join(rows)}</div>'
    )


def _row(label: str, name: str, steps: NDArray[np.int_], last: int) -> str:
    frames = ''.join(
        f'<span class="frame {name}" style="--at:{step / last:.4f}" role="img" '
        f'aria-label="{label}, frame {step}"></span>'
        for step in steps
    )
    return f'<b>{label}</b>{frames}'


def _film(name: str, caption: str, length: str) -> str:
    return (
        f'<figure style="margin:0"><span class="frame film {name}" style="{length}" role="img" '
        f'aria-label="{caption}"></span><figcaption>{caption}</figcaption></figure>'
    )


def alignment_section(alignment: Alignment, robot: Robot, sheets: FrameSheets) -> str:
    """Return one scene dreamed before and after alignment."""
    parts = [
        _dreamed('Before alignment', alignment.before, alignment.dt, robot, sheets),
        _dreamed('After alignment', alignment.after, alignment.dt, robot, sheets),
    ]
    return (
        '<section class="card"><div class="head"><h2>The same scene before and after alignment'
        f'</h2><q>{escape(alignment.instruction)}</q></div><p class="note">Same observation, '
        'same seed. Executability scores the joints decoded from the dream; a dream can look '
        f'right and still decode into motion that no arm can make.</p>{"".join(parts)}</section>'
    )


def _dreamed(title: str, dream: Dream, dt: float, robot: Robot, sheets: FrameSheets) -> str:
    name, last = sheets.add(dream.frames), len(dream.frames) - 1
    steps = np.linspace(0, last, _COLUMNS).round().astype(int)
    arms = ~robot.gripper_mask
    velocity, _, jerk = differences(dream.positions[:, arms], dt)
    return (
        f'<div class="turn"><h3>{title}</h3><p class="note">Executability {dream.score:.2f}, '
        f'root mean square jerk of the arm joints {np.sqrt(np.square(jerk).mean()):.1f} rad/s³, '
        f'mean speed {np.abs(velocity).mean():.3f} rad/s.</p>'
        f'<div class="strip">{_row("dreamed", name, steps, last)}</div></div>'
    )
