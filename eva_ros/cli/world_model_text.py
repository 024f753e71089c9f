"""`eva world-model text`: give a small world model an encoder that reads the simulator's tasks."""

import argparse
from dataclasses import replace
from pathlib import Path
import shutil
import sys

import numpy as np
import torch
from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.sim import constructions
from eva_ros.training.loop import Budget
from eva_ros.training.loop import TrainingLoop
from eva_ros.training.manifest import read_manifest
from eva_ros.training.manifest import write_manifest
from eva_ros.world_model.checkpoint import load_world_model
from eva_ros.world_model.folder import KIND
from eva_ros.world_model.folder import TEXT
from eva_ros.world_model.folder import TEXT_ENCODER
from eva_ros.world_model.folder import TOKENIZER
from eva_ros.world_model.small import SmallWorldModel
from eva_ros.world_model.text_encoder import Readings
from eva_ros.world_model.text_encoder import TextEncoder
from eva_ros.world_model.text_training import build_text_encoder
from eva_ros.world_model.text_training import TextSettings
from eva_ros.world_model.text_training import TextTraining

# What stands for a task whose words the world model lacks.
_INSTEAD = {'lift_bar': 'lift the red cube with the left arm and the right arm'}
# Transfers are told apart by who gives and who takes, which is learnt last.
_SHARES = {'transfer_cube': 2.0, constructions.MIRRORED: 2.0}
_SENTENCES = 500


def run(args: argparse.Namespace) -> int:
    """Train the encoder in `out`/run, and write the world model with it into `out`."""
    base = args.base
    if args.out.resolve() == base.resolve():
        raise UserError(f'{base} is kept as it is: give another folder with --out.')
    model = load_world_model(base)
    if not isinstance(model, SmallWorldModel):
        raise UserError(f'{base} is a Wan checkpoint, which keeps its own text encoder.')
    embeddings = _embeddings(model, args.seed)
    settings = TextSettings(steps=args.steps, kept=constructions.SIDES, seed=args.seed)
    tokens, width = next(iter(embeddings.values())).shape
    text = build_text_encoder(constructions.vocabulary(), width, tokens, args.seed)
    task = TextTraining(text, embeddings, constructions.draw, _shares(), settings)
    loop = TrainingLoop(task, args.out / 'run', Budget(steps=args.steps))
    loop.resume()
    loop.run()
    loop.finish()
    facts = {'steps': loop.step, 'seed': args.seed, 'seconds': round(loop.spent_s)}
    encoder = TextEncoder(text.encoder, text.tokenizer, _readings(text, args.seed))
    _write(base, args.out, encoder, facts)
    accepted, refused = _check(encoder, args.seed)
    print(
        f'of {_SENTENCES} new sentences that ask for a task {accepted:.1%} are accepted; of '
        f'{_SENTENCES} that do not {refused:.1%} are refused',
        file=sys.stderr,
    )
    return 0


@torch.no_grad()
def _embeddings(model: SmallWorldModel, seed: int) -> dict[str, Tensor]:
    """Return what the world model has for each reading [tokens, width]."""
    found = {}
    for reading, instruction in constructions.CANONICAL.items():
        try:
            model.check_instruction(instruction)
        except UserError:
            instruction = _INSTEAD.get(reading, instruction)
        model.check_instruction(instruction)
        found[reading] = model.text(torch.tensor([model.text.tokenize(instruction)]))[0]
    # Far from all tasks, like other words.
    like = found['reach_left']
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
    found[constructions.NOTHING] = like.mean() + like.std() * noise
    return found


def _shares() -> dict[str, float]:
    weights = {reading: _SHARES.get(reading, 1.0) for reading in constructions.READINGS}
    return {reading: weight / sum(weights.values()) for reading, weight in weights.items()}


def _readings(text: TextEncoder, seed: int) -> Readings:
    """Accept what is at most twice as far from a task as new sentences are that ask for one."""
    tasks = tuple(constructions.CANONICAL.values())
    asked = _asked(np.random.default_rng((seed, 1)))
    return Readings(tasks, 2 * float(text.distances(asked, tasks)[:, 0].max()))


def _asked(rng: np.random.Generator) -> list[str]:
    names = list(constructions.CANONICAL)
    return [constructions.draw(names[i % len(names)], rng) for i in range(_SENTENCES)]


def _write(base: Path, out: Path, encoder: TextEncoder, facts: dict) -> None:
    """Write the world model with another text encoder; its other parts are copied."""
    manifest = read_manifest(base, KIND)
    skipped = shutil.ignore_patterns(TEXT, TEXT_ENCODER, TOKENIZER, 'run')
    shutil.copytree(base, out, ignore=skipped, dirs_exist_ok=True)
    encoder.save(out)
    training = {**manifest.training, TEXT_ENCODER: facts}
    write_manifest(out, replace(manifest, training=training))


def _check(encoder: TextEncoder, seed: int) -> tuple[float, float]:
    """Return the share of new sentences accepted, and of those for no task refused."""
    rng = np.random.default_rng((seed, 2))
    asked = _asked(rng)
    idle = [constructions.draw(constructions.NOTHING, rng) for _ in range(_SENTENCES)]
    accepted, taken = (float(np.mean(encoder.is_read(*texts))) for texts in (asked, idle))
    return accepted, 1 - taken
