"""Probes: does the reward tell a recorded motion from dreams that must not win?

Each probe spoils recorded clips in one way; the inverse dynamics model and the critic read the
spoiled frames as they would read a dream. The AUC of a term is the probability that a recorded
clip gets more of it than a spoiled one: 0.5 is blind, below it the term prefers what is spoiled.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
import torch
from torch import Tensor

from eva_ros.alignment.judge import Judge
from eva_ros.alignment.prompts import Prompt
from eva_ros.errors import UserError
from eva_ros.idm.augment import gaussian_blur
from eva_ros.training.frames import frames_to_tensor

# An AUC below this fails a probe.
PASS = 0.8
# What each term is in a reward for: where it fails one of these, something is wrong with it.
CLAIMS: Mapping[str, tuple[str, ...]] = {
    'executability': ('jumped', 'noise'),
    'motion': ('still',),
    'similarity': ('still', 'reversed', 'wrong_arm', 'swapped_instruction', 'wrong_place'),
    'progress': ('still', 'reversed'),
    'outcome': (),
}
SUM = 'sum'
_NOISE_RAD = 0.03
_BLUR_PIXELS = 3.0
_BATCH = 16
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Clips:
    """Recorded clips to be spoiled.

    Attributes:
        prompts: What was recorded [N].
        arms_are_alike: Whether a mirrored view shows the other arm doing it.
    """

    prompts: Sequence[Prompt]
    arms_are_alike: bool

    def frames(self, number: int) -> Frames:
        """Return the frames of a clip [T, H, W, 3]."""
        return np.asarray(self.prompts[number].frames)

    def others(self, number: int, *, same_task: bool) -> list[int]:
        """Return the clips of other attempts at the same task, or at other tasks."""
        mine = self.prompts[number]
        return [
            i
            for i, other in enumerate(self.prompts)
            if (other.task == mine.task) == same_task and (other.episode != mine.episode)
        ]


Probe = Callable[[Clips, int, np.random.Generator], Frames | None]


def _recorded(clips: Clips, number: int, rng: np.random.Generator) -> Frames:
    return clips.frames(number)


def _jumped(clips: Clips, number: int, rng: np.random.Generator) -> Frames | None:
    """Show the end of another attempt for three frames."""
    others = [i for i, p in enumerate(clips.prompts) if p.episode != clips.prompts[number].episode]
    if not others:
        return None
    frames = clips.frames(number).copy()
    start = len(frames) // 2
    frames[start : start + 3] = clips.frames(rng.choice(others))[-1]
    return frames


def _shuffled(clips: Clips, number: int, rng: np.random.Generator) -> Frames:
    frames = clips.frames(number)
    return frames[[0, *(1 + rng.permutation(len(frames) - 1))]]


def _still(clips: Clips, number: int, rng: np.random.Generator) -> Frames:
    frames = clips.frames(number)
    return np.repeat(frames[:1], len(frames), axis=0)


def _reversed(clips: Clips, number: int, rng: np.random.Generator) -> Frames:
    return clips.frames(number)[::-1]


def _wrong_arm(clips: Clips, number: int, rng: np.random.Generator) -> Frames | None:
    """Mirror the view: the other arm makes the mirrored motion."""
    return clips.frames(number)[:, :, ::-1] if clips.arms_are_alike else None


def _swapped_instruction(clips: Clips, number: int, rng: np.random.Generator) -> Frames | None:
    """Show what was recorded for another task."""
    others = clips.others(number, same_task=False)
    return clips.frames(rng.choice(others)) if others else None


def _wrong_place(clips: Clips, number: int, rng: np.random.Generator) -> Frames | None:
    """Show what was recorded in another scene of the same task."""
    others = clips.others(number, same_task=True)
    return clips.frames(rng.choice(others)) if others else None


def _blur(clips: Clips, number: int, rng: np.random.Generator) -> Frames:
    clip = frames_to_tensor(clips.frames(number))[None]
    blurred = gaussian_blur(clip, torch.tensor([_BLUR_PIXELS]), radius=round(3 * _BLUR_PIXELS))
    return (blurred[0].movedim(1, -1) * 255).round().to(torch.uint8).numpy()


PROBES: Mapping[str, Probe] = {
    'jumped': _jumped,
    'shuffled': _shuffled,
    'noise': _recorded,
    'still': _still,
    'reversed': _reversed,
    'wrong_arm': _wrong_arm,
    'swapped_instruction': _swapped_instruction,
    'blur': _blur,
    'wrong_place': _wrong_place,
}
Aucs = dict[str, dict[str, float | None]]


@torch.no_grad()
def probe(
    judge: Judge, prompts: Sequence[Prompt], *, seed: int, most: int, arms_are_alike: bool
) -> Aucs:
    """Return the AUC of each term, and of their weighted sum, for each probe.

    Args:
        judge: Judge with all terms that there are.
        prompts: Recorded clips, best ones that nothing was trained on.
        seed: Random seed of what is chosen and spoiled.
        most: Number of clips, if there are as many.
        arms_are_alike: Whether the robot's arms mirror each other.

    Returns:
        By probe and term; None where the recordings do not permit a probe.
    """
    rng = np.random.default_rng(seed)
    chosen = [prompts[i] for i in rng.permutation(len(prompts))[:most]]
    clips = Clips(chosen, arms_are_alike)
    clean = terms_of(judge, [(clips.frames(i), prompt) for i, prompt in enumerate(chosen)])
    found: Aucs = {}
    for name, spoil in PROBES.items():
        spoiled = [(spoil(clips, i, rng), prompt) for i, prompt in enumerate(chosen)]
        usable = [(frames, prompt) for frames, prompt in spoiled if frames is not None]
        if not usable:
            found[name] = dict.fromkeys(clean)
            continue
        noise = _NOISE_RAD if name == 'noise' else 0.0
        bad = terms_of(judge, usable, noise=noise, seed=seed)
        found[name] = {term: auc(values, bad[term]) for term, values in clean.items()}
    return found


@torch.no_grad()
def terms_of(
    judge: Judge,
    shown: Sequence[tuple[Frames, Prompt]],
    *,
    noise: float = 0.0,
    seed: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Return each term, and the sum, of frames judged as dreams from prompts [N].

    Args:
        judge: Judge of the dreams.
        shown: Frames [T, H, W, 3] and the prompt that they are judged against, N of them.
        noise: Standard deviation of noise on the joints that are read, rad.
        seed: Random seed of that noise.
    """
    generator = torch.Generator().manual_seed(seed)
    parts: list[dict[str, Tensor]] = []
    for start in range(0, len(shown), _BATCH):
        batch = shown[start : start + _BATCH]
        frames = frames_to_tensor(np.stack([frames for frames, _ in batch]))
        prompts = [prompt for _, prompt in batch]
        needed = [prompt.demonstrated(judge.dt, judge.limits.grippers) for prompt in prompts]
        positions = judge.read(frames)
        positions = positions + noise * torch.randn(positions.shape, generator=generator)
        judged = judge.of_rollout(positions, frames, torch.tensor(needed), prompts)
        parts.append({**judged.terms, SUM: judged.reward})
    names = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: torch.cat([part[name] for part in parts]).double().numpy() for name in names}


def auc(better: NDArray[np.float64], worse: NDArray[np.float64]) -> float:
    """Return the probability that a value of the first set is above one of the second.

    Mann and Whitney's U over the number of pairs; ties count half.
    """
    ranks = rankdata(np.concatenate([better, worse]))[: len(better)]
    most = len(better) * len(worse)
    return float((ranks.sum() - len(better) * (len(better) + 1) / 2) / most)


def failures(found: Aucs, used: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return what fails: probes by term that claims to pass them, and probes the sum is blind to.

    Args:
        found: AUCs by probe and term.
        used: Terms in the reward.
    """

    def fails(name: str, term: str) -> bool:
        value = found.get(name, {}).get(term)
        return value is not None and (math.isnan(value) or value < PASS)

    broken = {term: [name for name in CLAIMS[term] if fails(name, term)] for term in used}
    blind = [name for name in found if fails(name, SUM)]
    return {term: names for term, names in broken.items() if names}, blind


def require_probes(found: Aucs, used: Sequence[str], accepted: Sequence[str] = ()) -> None:
    """Refuse a reward that dreams can win which must not.

    Args:
        found: AUCs by probe and term.
        used: Terms in the reward.
        accepted: Probes that the reward may fail.

    Raises:
        UserError: Names the term that fails a probe which it exists for, or the probes that the
            whole reward fails.
    """
    broken, blind = failures(found, used)
    for term, names in broken.items():
        value = found[names[0]][term]
        raise UserError(
            f"The term '{term}' of the reward fails the probe '{names[0]}' (AUC {value:.2f}, at "
            f'least {PASS:g} is needed): it cannot be trained on; see `eva align probe`.'
        )
    open_ = [name for name in blind if name not in accepted]
    if open_:
        figures = ', '.join(f'{name} (AUC {found[name][SUM]:.2f})' for name in open_)
        raise UserError(
            f'The reward ({", ".join(used)}) is blind to {figures}: add a term that sees it, or '
            f'accept this with --accept-blind {" ".join(open_)}.'
        )
