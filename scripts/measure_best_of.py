#!/usr/bin/env python3
"""Measure on the same scenes what any of N attempts and the best of N dreams bring.

Writes the successes of every scene as JSON, with commit, seeds and hardware, and prints the
table. If the file exists, it only prints the table.
"""

import argparse
from collections import Counter
import json
import os
from pathlib import Path
import platform
import shlex
import subprocess
import sys

from eva_ros.alignment.best_of import CHOICES
from eva_ros.evaluation.closed_loop import LoopSettings
from eva_ros.evaluation.comparison import attempts
from eva_ros.evaluation.comparison import Comparison
from eva_ros.evaluation.comparison import Outcome
from eva_ros.evaluation.statistics import wilson_interval
from eva_ros.robot.paths import checkpoint_dir
from eva_ros.robot.paths import SIM_ROBOT
from eva_ros.training.manifest import write_json

UNALIGNED = 'unaligned'


def measure(args: argparse.Namespace) -> None:
    """Run all attempts; the file is written again after each."""
    best = f'best_of_{args.candidates}'
    comparison = Comparison(
        robot=SIM_ROBOT,
        view=None,
        models=checkpoint_dir(),
        tasks=(args.task,),
        variants=(UNALIGNED, f'any_of_{args.candidates}', *(f'{best}_by_{by}' for by in CHOICES)),
        episodes=args.episodes,
        seed=args.seed,
        loop=LoopSettings(),
    )
    about = {
        'command': shlex.join(['python', 'scripts/measure_best_of.py', *sys.argv[1:]]),
        'commit': git('rev-parse', 'HEAD'),
        'changed': bool(git('status', '--porcelain', '--untracked-files=no')),
        'task': args.task,
        'judge': args.judge,
        'time_limit_s': comparison.loop.time_limit_s,
        'think_times_s': comparison.loop.think_times_s,
        'hardware': f'{platform.machine()}, {os.cpu_count()} cores, no GPU',
    }
    outcomes: list[Outcome] = []
    for outcome in attempts(comparison, args.workers):
        outcomes.append(outcome)
        write_json(args.out, {**about, **summary(comparison, outcomes)})


def summary(comparison: Comparison, outcomes: list[Outcome]) -> dict:
    """Return the successes on the scenes that every variant has attempted."""
    counted = Counter(outcome.scene for outcome in outcomes)
    scenes = sorted(scene for scene, n in counted.items() if n == len(comparison.variants))
    won = {(outcome.variant, outcome.scene): int(outcome.success) for outcome in outcomes}
    successes = {name: [won[name, scene] for scene in scenes] for name in comparison.variants}
    return {'scenes': scenes, 'successes': successes}


def git(*arguments: str) -> str:
    """Return what git prints about the sources."""
    command = ('git', *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def table(result: dict) -> str:
    """Return the result as a table in Markdown."""
    reference = result['successes'][UNALIGNED]
    lines = ['| variant | successes | gained | lost |', '|---|---|---|---|']
    for name, won in result['successes'].items():
        low, high = wilson_interval(sum(won), len(won))
        rate = f'{sum(won)} of {len(won)}: {sum(won) / len(won):.0%} ({low:.0%} to {high:.0%})'
        gained = sum(ours > theirs for ours, theirs in zip(won, reference))
        lost = sum(ours < theirs for ours, theirs in zip(won, reference))
        paired = '| | |' if name == UNALIGNED else f'| {gained} | {lost} |'
        lines.append(f'| `{name}` | {rate} {paired}')
    return '\n'.join(lines)


def main() -> int:
    """Measure what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--out', type=Path, required=True, help='JSON file to write or to read')
    parser.add_argument('--task', default='transfer_cube', help='(%(default)s)')
    parser.add_argument('--episodes', type=int, default=30, help='scenes (%(default)s)')
    parser.add_argument('--seed', type=int, default=30000, help='first scene (%(default)s)')
    parser.add_argument('--candidates', type=int, default=4, help='N (%(default)s)')
    parser.add_argument('--judge', default='', help='name of the judge that counts, for the file')
    parser.add_argument('--workers', type=int, default=2, help='processes (%(default)s)')
    args = parser.parse_args()
    if not args.out.exists():
        measure(args)
    print(table(json.loads(args.out.read_text(encoding='utf-8'))))
    return 0


if __name__ == '__main__':
    sys.exit(main())
