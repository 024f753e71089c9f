"""Which parts of a robot's own attempts may be imitated: verified self-training.

A part counts only if the task succeeded and what the cameras saw, read by the inverse dynamics
model, agrees with the measured joints as well as it does in 90 % of the recordings.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.alignment.prompts import find_prompts
from eva_ros.alignment.prompts import Prompt
from eva_ros.errors import UserError
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_rollout

PERCENTILE = 90
# Fewer motions than this give no 90th percentile.
FEWEST = 10
# Why a part does not count, in the order in which it is looked at.
NOT_JUDGED = 'attempt without outcome'
FAILED = 'task failed'
NOT_TOLD = 'no instruction'
CUT_OFF = 'cut off by the end of the attempt'
DISAGREES = 'cameras and joints disagree'


@dataclass(frozen=True)
class Tolerance:
    """How far a reading may lie from the measured joints; frozen while the models learn.

    A part's error is the largest of its joints' root mean square errors, each divided by that
    joint's scale.

    Attributes:
        limit: 90th percentile of the errors of the recordings' parts.
        scale: Median root mean square error of each joint, rad; grippers 0 to 1.
        joint_names: Names of the joints.
        parts: Number of parts that it was measured on.
        idm: Name of the inverse dynamics model's weights, "name@sha12".
    """

    limit: float
    scale: tuple[float, ...]
    joint_names: tuple[str, ...]
    parts: int
    idm: str

    def error(self, model: InverseDynamics, prompt: Prompt) -> tuple[float, str]:
        """Return a part's error and the joint with the largest."""
        errors = _errors(model, prompt) / np.array(self.scale)
        return float(errors.max()), self.joint_names[int(errors.argmax())]

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2) + '\n', encoding='utf-8')


def measure_tolerance(model: InverseDynamics, prompts: Sequence[Prompt], idm: str) -> Tolerance:
    """Return the tolerance of a model on recordings.

    Args:
        model: Inverse dynamics model.
        prompts: Motions of recordings that the model was not trained on.
        idm: Name of its weights.

    Raises:
        UserError: There are too few motions.
    """
    if len(prompts) < FEWEST:
        raise UserError(
            f'The recordings hold {len(prompts)} motions from rest, and the tolerance needs '
            f'{FEWEST} at least: give more --bags, or a larger --held-out.'
        )
    errors = np.stack([_errors(model, prompt) for prompt in prompts])
    scale = np.maximum(np.median(errors, axis=0), 1e-6)
    limit = float(np.percentile((errors / scale).max(1), PERCENTILE))
    names = tuple(model.config.joint_names)
    return Tolerance(limit, tuple(scale.tolist()), names, len(prompts), idm)


def load_tolerance(path: Path, idm: str) -> Tolerance:
    """Return a tolerance that was saved.

    Args:
        path: File that it was saved in.
        idm: Name of the inverse dynamics model's weights that are in use.

    Raises:
        UserError: The file is not one, or was measured with another model.
    """
    try:
        told = json.loads(path.read_text(encoding='utf-8'))
        names, scale = tuple(map(str, told['joint_names'])), tuple(map(float, told['scale']))
        found = Tolerance(float(told['limit']), scale, names, int(told['parts']), told['idm'])
        if len(names) != len(scale) or not np.isfinite([found.limit, *scale]).all():
            raise ValueError('its numbers do not fit')
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'{path} holds no tolerance ({reason}): give another file.') from None
    if found.idm != idm:
        raise UserError(
            f'{path} was measured with the inverse dynamics model {found.idm}, not with {idm}: '
            'give that model, or another file to measure anew.'
        )
    return found


@dataclass(frozen=True)
class Part:
    """A motion of an attempt.

    Attributes:
        prompt: Its views, measured joints, instruction and outcome.
        rejected: Why it does not count; '' if it is verified.
        error: How far the reading lies from the measured joints, as Tolerance has it.
        joint: Joint with the largest error.
    """

    prompt: Prompt
    rejected: str
    error: float
    joint: str


def verify(
    model: InverseDynamics, attempts: Sequence[Any], frames: int, tolerance: Tolerance
) -> list[Part]:
    """Return every motion in attempts, and whether it may be imitated.

    Args:
        model: Inverse dynamics model that the tolerance was measured with.
        attempts: Episodes of attempts.
        frames: Number of frames of a part.
        tolerance: Frozen tolerance.

    Raises:
        UserError: No attempt has an outcome, or none an instruction.
    """
    _require_told(attempts)
    parts = []
    for prompt in find_prompts(attempts, frames, model.config.rate_hz):
        error, joint = tolerance.error(model, prompt)
        parts.append(Part(prompt, _rejected(prompt, error, tolerance), error, joint))
    return parts


def _rejected(prompt: Prompt, error: float, tolerance: Tolerance) -> str:
    if prompt.success is None:
        return NOT_JUDGED
    if not prompt.success:
        return FAILED
    if not prompt.instruction.strip():
        return NOT_TOLD
    if not prompt.whole:
        return CUT_OFF
    return DISAGREES if error > tolerance.limit else ''


def _require_told(attempts: Sequence[Any]) -> None:
    count = len(attempts)
    if not any(attempt.instruction.strip() for attempt in attempts):
        raise UserError(
            f'None of the {count} attempts has an instruction: record with Episode markers that '
            'say what the robot was told.'
        )
    if all(attempt.success is None for attempt in attempts):
        raise UserError(
            f'None of the {count} attempts has an outcome: record with Episode markers that say '
            'whether the task was done.'
        )


def counts(parts: Sequence[Part], attempts: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Return attempts, successes, parts, verified and rejected ones by task."""
    found = {}
    for task in sorted({attempt.task or attempt.instruction for attempt in attempts}):
        own = [a for a in attempts if (a.task or a.instruction) == task]
        made = {(a.source, a.number): a.success for a in own}
        mine = [p for p in parts if (p.prompt.task or p.prompt.instruction) == task]
        rejected = Counter(part.rejected for part in mine if part.rejected)
        found[task] = {
            'attempts': len(made),
            'successes': sum(map(bool, made.values())),
            'parts': len(mine),
            'verified': len(mine) - rejected.total(),
            'rejected': dict(rejected),
        }
    return found


def _errors(model: InverseDynamics, prompt: Prompt) -> NDArray[np.float64]:
    """Return the root mean square error of each joint over a part [J]."""
    read = read_rollout(model, np.asarray(prompt.frames)).positions.double().numpy()
    return np.sqrt(np.mean(np.square(read - np.asarray(prompt.joints)), axis=0))
