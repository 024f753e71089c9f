"""Which term of the reward predicts the success of recorded attempts?"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.alignment.attempts import AttemptDream
from eva_ros.alignment.attempts import dream_prompts
from eva_ros.alignment.judge import Judge
from eva_ros.alignment.probes import auc
from eva_ros.alignment.probes import terms_of
from eva_ros.alignment.prompts import find_prompts
from eva_ros.alignment.prompts import Prompt
from eva_ros.errors import UserError

# Fewer successes or failures than this give no AUC.
FEWEST = 2
# Views are compared at every eighth pixel.
_EVERY = 8


def probe_attempts(
    judge: Judge,
    attempts: Sequence[Any],
    demonstrations: Sequence[Prompt],
    frames: int,
    dreams: Sequence[AttemptDream] = (),
) -> dict[str, dict[str, Any]]:
    """Return the AUC of each term for success, by task.

    An attempt's term is its mean over the motions that begin at rest in it. Each motion is
    compared with what was demonstrated from the most similar view of the same task.

    Args:
        judge: Judge with all terms that there are.
        attempts: Recorded attempts (episodes) with outcomes.
        demonstrations: What was demonstrated.
        frames: Number of frames of a dream.
        dreams: What the attempts dreamed, if it was recorded.

    Returns:
        By task: episodes, successes, and the AUC by term; None with fewer than two successes or
        failures. Where there are dreams, the same of them under `dreams`.

    Raises:
        UserError: No attempt has an outcome.
    """
    judged = [attempt for attempt in attempts if attempt.success is not None]
    if not judged:
        raise UserError(
            f'None of the {len(attempts)} attempts has an outcome: record with Episode markers '
            'that say whether the task was done.'
        )
    found = _by_task(judge, judged, find_prompts(judged, frames, 1 / judge.dt), demonstrations)
    dreamed = dream_prompts(dreams, judged)
    _require_length(dreamed, frames)
    of_dreams = _by_task(judge, judged, dreamed, demonstrations) if dreamed else {}
    for task, figures in of_dreams.items():
        found[task]['dreams'] = figures
    return found


def _by_task(
    judge: Judge,
    judged: Sequence[Any],
    prompts: Sequence[Prompt],
    demonstrations: Sequence[Prompt],
) -> dict[str, dict[str, Any]]:
    views = _views(demonstrations)
    shown = [
        (np.asarray(p.frames), replace(p, joints=_nearest(p, demonstrations, views).joints))
        for p in prompts
    ]
    terms = terms_of(judge, shown)
    owners = np.array([prompt.episode for prompt in prompts])
    found = {}
    for task in sorted({_task(attempt) for attempt in judged}):
        numbers = [i for i, a in enumerate(judged) if _task(a) == task and (owners == i).any()]
        success = np.array([bool(judged[i].success) for i in numbers], bool)
        means = {
            name: np.array([values[owners == i].mean() for i in numbers])
            for name, values in terms.items()
        }
        enough = min(success.sum(), (~success).sum()) >= FEWEST
        found[task] = {
            'episodes': len(numbers),
            'successes': int(success.sum()),
            'auc': {
                name: auc(values[success], values[~success]) if enough else None
                for name, values in means.items()
            },
        }
    return found


def _require_length(prompts: Sequence[Prompt], frames: int) -> None:
    for prompt in prompts:
        if len(prompt.frames) != frames:
            raise UserError(
                f'The attempts hold dreams of {len(prompt.frames)} frames, and the view has '
                f'{frames}: give the --view that the attempts were made with.'
            )


def _task(attempt: Any) -> str:
    return attempt.task or attempt.instruction


def _views(prompts: Sequence[Prompt]) -> NDArray[np.float32]:
    """Return the small initial views of prompts [N, D]."""
    small = [np.asarray(p.frames[0])[::_EVERY, ::_EVERY].ravel() for p in prompts]
    return np.stack(small).astype(np.float32)


def _nearest(
    prompt: Prompt, demonstrations: Sequence[Prompt], views: NDArray[np.float32]
) -> Prompt:
    """Return the demonstration of the same task from the most similar view."""
    same = [i for i, other in enumerate(demonstrations) if _task(other) == _task(prompt)]
    if not same:
        raise UserError(
            f"No demonstration of '{_task(prompt)}' is among the recordings: give its bags, too."
        )
    distances = np.square(views[same] - _views([prompt])).sum(-1)
    return demonstrations[same[int(distances.argmin())]]
