"""A whole training run: build or resume, train with progress, write the checkpoint."""

from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
import math
from pathlib import Path
import platform
import sys

import numpy as np
import torch

from eva_ros.episodes.fingerprint import fingerprint
from eva_ros.episodes.fingerprint import refuse_another
from eva_ros.errors import UserError
from eva_ros.training.labels import require_finite_labels
from eva_ros.training.launch import process_state
from eva_ros.training.launch import training_device
from eva_ros.training.manifest import FILE
from eva_ros.training.manifest import read_manifest
from eva_ros.training.manifest import view_fingerprint
from eva_ros.training.weights import checkpoint_label
from eva_ros.world_model.build import build_world_model
from eva_ros.world_model.build import history_after
from eva_ros.world_model.build import trained_before
from eva_ros.world_model.checkpoint import load_text
from eva_ros.world_model.checkpoint import load_world_model
from eva_ros.world_model.checkpoint import save_world_model
from eva_ros.world_model.clips import after_motion
from eva_ros.world_model.clips import ClipSampler
from eva_ros.world_model.clips import ClipSettings
from eva_ros.world_model.clips import find_clips
from eva_ros.world_model.clips import mirror_instruction
from eva_ros.world_model.codec import CodecConfig
from eva_ros.world_model.folder import KIND
from eva_ros.world_model.rollout import WorldSettings
from eva_ros.world_model.small import SmallWorldModel
from eva_ros.world_model.text import WordEncoder
from eva_ros.world_model.text_encoder import TextEncoder
from eva_ros.world_model.train import averaged_model
from eva_ros.world_model.train import training_loop
from eva_ros.world_model.train import TrainSettings
from eva_ros.world_model.train import WorldModelTask
from eva_ros.world_model.transformer import HEAD_WIDTH

# Options that change no weight or are named otherwise, and one that a resumed run may change.
_NOT_THE_MODEL = ('max_seconds', 'compiled', 'text_encoder', 'base', 'history', 'dream_steps')
_NOT_THE_RUN = (*_NOT_THE_MODEL, 'steps')


@dataclass(frozen=True)
class RunOptions:
    """What the user chooses of a run; a resumed run must have the same.

    Attributes:
        max_seconds: stop with a checkpoint after so long; None trains to the end.
        compiled: whether the forward pass is compiled first.
        text_encoder: Folder of a text encoder of transformers, which stays as it is; None learns
            an embedding of the words that occur.
        base: Folder of a small world model to fine-tune; None trains from scratch.
        history: Observed frames before the first that the model takes where the arms move, a
            multiple of the codec's group; None takes the base's, or none. Where the base has
            none, only the weights that read it are trained: from rest dreams stay the same.
        dream_steps: Denoising steps of an ordinary dream; None takes the base's, or 4.
    """

    name: str
    steps: int
    batch: int = 8
    learning_rate: float = 1.2e-3
    width: int = 256
    layers: int = 8
    seed: int = 0
    mirror: bool = False
    max_seconds: float | None = None
    compiled: bool = False
    text_encoder: Path | None = None
    base: Path | None = None
    history: int | None = None
    dream_steps: int | None = None


def train(episodes: Sequence, robot, view, out: Path, options: RunOptions) -> bool:
    """Train in `out`/run, then write the checkpoint into `out`; continue a run that is there.

    Args:
        episodes: to learn from; those without an instruction are left out.
        robot: Robot that was recorded.
        view: the ViewSpec of the frames.
        out: folder of the checkpoint.
        options: of the run.

    Returns:
        Whether the last step was reached.

    Raises:
        UserError: as `check` does, or the training diverges.
    """
    check(episodes, robot, view, out, options)
    episodes = told(episodes)
    history = options.history if _adds_history(options.base, options.history) else None
    sampler = clip_sampler(
        episodes, view, seed=options.seed, mirror=options.mirror, after_motion_in=history
    )
    start = out / 'run' / 'start'
    if not (start / FILE).is_file() and process_state().is_main_process:
        fresh = _start(sampler, robot, view, options)
        save_world_model(fresh, start, _identity(episodes, options), dtype=torch.float32)
    process_state().wait_for_everyone()
    model = load_world_model(start)
    if options.dream_steps is not None:
        model.settings = replace(model.settings, steps=options.dream_steps)
    sampler.history = model.settings.history
    loop = training_loop(model, sampler, _settings(options), out / 'run')
    loop.resume()
    if options.compiled and isinstance(loop.task, WorldModelTask):
        loop.task.compile()
    loop.run(max_seconds=options.max_seconds or math.inf)
    facts = _facts(episodes, options, loop.step, loop.spent_s)
    trained = averaged_model(loop)
    if loop.is_main:
        save_world_model(trained, out, facts)
    return loop.step >= options.steps


def _start(sampler: ClipSampler, robot, view, options: RunOptions) -> SmallWorldModel:
    """Return what the training starts from."""
    if options.base is not None:
        return _trained_before(robot, view, options)
    settings = WorldSettings(
        name=options.name,
        robot=robot.name,
        view=view.name,
        height=view.height,
        width=view.width,
        rate_hz=view.rate_hz,
        frames=view.frames,
        view_hash=view_fingerprint(view),
        history=options.history or 0,
    )
    return build_world_model(
        settings,
        sampler,
        sampler.instructions,
        seed=options.seed,
        width=options.width,
        layers=options.layers,
        text_encoder=_text_encoder(options),
    )


def usual_learning_rate(base: Path | None, history: int | None) -> float:
    """Return the learning rate of a training that begins with a base and learns a history."""
    if base is None:
        return 1.2e-3
    return 2e-3 if _adds_history(base, history) else 3e-4


def _adds_history(base: Path | None, history: int | None) -> bool:
    if base is None or not history:
        return False
    return not read_manifest(base, KIND).details['settings'].get('history')


def _trained_before(robot, view, options: RunOptions) -> SmallWorldModel:
    assert options.base is not None
    return trained_before(options.base, robot, view, name=options.name, history=options.history)


def clip_sampler(
    episodes: Sequence,
    view,
    *,
    seed: int,
    mirror: bool,
    history: int = 0,
    after_motion_in: int | None = None,
) -> ClipSampler:
    """Return the sampler of all clips of the view's length, with `history` frames before each.

    With `after_motion_in`, only clips with motion in that number of frames before them are used.

    Raises:
        UserError: No episode has a moving joint.
    """
    joints, dt, settings = (
        [e.joints for e in episodes],
        1.0 / view.rate_hz,
        ClipSettings(view.frames),
    )
    clips = find_clips(joints, dt, settings)
    if after_motion_in is not None:
        clips = after_motion(clips, joints, dt, settings, after_motion_in)
    if not clips:
        raise UserError('There is nothing to train on: no episode has a moving joint.')
    print(f'{len(episodes)} episodes, {len(clips)} clips', file=sys.stderr)
    return ClipSampler(
        list(episodes),
        clips,
        seed=seed,
        mirror=mirror,
        history=history,
        device=training_device(),
    )


def check(episodes: Sequence, robot, view, out: Path, options: RunOptions) -> None:
    """Refuse what cannot be trained, before any process is started for it.

    Raises:
        UserError: no episode has an instruction, a recorded joint is not finite, the width, the
            history or the base does not fit, the text encoder cannot encode an instruction, or
            the run in the folder was begun with other episodes or other settings.
    """
    if not told(episodes):
        raise UserError('No episode says what the robot was told: there is nothing to learn from.')
    require_finite_labels(told(episodes))
    if options.width % HEAD_WIDTH:
        raise UserError(f'The width is {options.width} and must be a multiple of {HEAD_WIDTH}.')
    if (options.history or 0) % CodecConfig.group:
        raise UserError(
            f'--history is {options.history} and must be a multiple of {CodecConfig.group} frames.'
        )
    encoder: WordEncoder | TextEncoder | None
    if options.base is None:
        encoder = _text_encoder(options)
    else:
        # The weights are loaded by the training alone, once it begins.
        settings, encoder = load_text(options.base, view, robot=robot)
        history_after(options.base, settings.history, options.history)
    if encoder is not None:
        texts = {e.instruction for e in told(episodes)}
        mirrored = {mirror_instruction(text) for text in texts} if options.mirror else set()
        for text in texts.union(other for other in mirrored if other is not None):
            encoder.check(text, options.name)
    start, here = out / 'run' / 'start', _identity(told(episodes), options)
    if not (start / FILE).is_file():
        return
    there = read_manifest(start, KIND).training
    refuse_another(out / 'run', 'a training', there, here)


def _text_encoder(options: RunOptions) -> TextEncoder | None:
    return None if options.text_encoder is None else TextEncoder.load(options.text_encoder)


def told(episodes: Sequence) -> list:
    """Return the episodes that have an instruction."""
    return [e for e in episodes if e.instruction]


def _identity(episodes: Sequence, options: RunOptions) -> dict:
    """Return what must be the same for a resumed run to be the same run.

    The number of steps may be another one: it only says when the learning rate falls.
    """
    parts = (part for e in episodes for part in (e.instruction, np.asarray(e.joints)))
    chosen = {k: v for k, v in asdict(options).items() if k not in _NOT_THE_RUN}
    return {**chosen, **_labels(options), 'bags': fingerprint(parts)}


def _labels(options: RunOptions) -> dict:
    """Return names and digests of what the run takes over; paths say nothing elsewhere."""
    taken = {'text_encoder': options.text_encoder, 'base': options.base}
    labels = {name: checkpoint_label(path) for name, path in taken.items() if path is not None}
    return labels | ({} if options.history is None else {'history': options.history})


def _settings(options: RunOptions) -> TrainSettings:
    return TrainSettings(
        steps=options.steps,
        batch=options.batch,
        learning_rate=options.learning_rate,
        seed=options.seed,
        history_alone=_adds_history(options.base, options.history),
    )


def _facts(episodes: Sequence, options: RunOptions, step: int, seconds: float) -> dict:
    options_json = {k: v for k, v in asdict(options).items() if k not in _NOT_THE_MODEL}
    before = {} if options.base is None else {'before': read_manifest(options.base, KIND).training}
    return {
        'options': {**options_json, **_labels(options)},
        'steps_done': step,
        'seconds': round(seconds),
        'episodes': len(episodes),
        'processor': _processor(),
        'processes': process_state().num_processes,
        'threads': torch.get_num_threads(),
        'torch': torch.__version__,
        **before,
    }


def _processor() -> str:
    device = training_device()
    return torch.cuda.get_device_name(device) if device.type == 'cuda' else platform.machine()
