#!/usr/bin/env python3
"""Condense files of `eva evaluate --out` into one result file, and print it as a table.

  alignment_results.py collect --out RESULT.json --ran COMMAND --note TEXT NAME=FILE[:VARIANT] ...
  alignment_results.py table RESULT.json

The first NAME is what all others are compared with, on the scenes that all have attempted.
"""

import argparse
import json
import os
from pathlib import Path
import platform
import sys

from measure_best_of import git

from eva_ros.evaluation.statistics import paired_gain
from eva_ros.evaluation.statistics import wilson_interval
from eva_ros.training.manifest import write_json

Attempts = dict[tuple[str, str, int], int]


def read(entry: str) -> tuple[str, Attempts]:
    """Return a name and its successes by scenes, task and seed of the scene."""
    name, _, place = entry.partition('=')
    path, _, variant = place.partition(':')
    found: Attempts = {}
    for file in path.split(','):
        for line in Path(file).read_text(encoding='utf-8').splitlines():
            told = json.loads(line)
            if told['variant'] == (variant or told['variant']):
                key = told['scenes'], told['task'], told['scene']
                if key in found:
                    sys.exit(
                        f'{file} holds scene {key} twice: name a variant, {name}=FILE:VARIANT'
                    )
                found[key] = int(told['success'])
    return name, found


def collect(args: argparse.Namespace) -> None:
    """Write the successes of all variants on the scenes that all of them attempted."""
    runs = dict(read(entry) for entry in args.runs)
    shared = sorted(set.intersection(*(set(run) for run in runs.values())))
    if not shared:
        sys.exit('no scene was attempted by all')
    cells: dict[str, dict] = {}
    for scenes, task, seed in shared:
        cell = cells.setdefault(f'{task}, {scenes}', {'seeds': [], 'successes': {}})
        cell['seeds'].append(seed)
        for name, run in runs.items():
            cell['successes'].setdefault(name, []).append(run[scenes, task, seed])
    commit = git('rev-parse', args.commit)
    hardware = f'{platform.machine()}, {os.cpu_count()} cores, no GPU'
    command = args.ran[0] if len(args.ran) == 1 else args.ran
    about = {'command': command, 'note': args.note, 'commit': commit, 'hardware': hardware}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, {**about, 'variants': list(runs), 'cells': cells})


def table(result: dict) -> str:
    """Return the result as a table in Markdown, all variants against the first."""
    first, *others = result['variants']
    cells = result['cells']
    columns = [f'{name} ({len(cell["seeds"])})' for name, cell in cells.items()]
    head = ['variant', *columns, f'against {first}, points', 'gained / lost', "McNemar's p"]
    lines = [' | '.join(['', *head, '']).strip(), '|' + '---|' * len(head)]
    won = {
        name: {cell: cells[cell]['successes'][name] for cell in cells}
        for name in result['variants']
    }
    for name in (first, *others):
        row = [f'`{name}`', *(_share(won[name][cell]) for cell in cells)]
        if name == first:
            row += ['', '', '']
        else:
            gain = paired_gain(won[name], won[first], seed=0)
            low, high = gain.interval
            row += [
                f'{100 * gain.mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})',
                f'{gain.gained} / {gain.lost}',
                f'{gain.p_value:.2g}',
            ]
        lines.append(' | '.join(['', *row, '']).strip())
    return '\n'.join(lines)


def _share(successes: list[int]) -> str:
    low, high = wilson_interval(sum(successes), len(successes))
    return f'{sum(successes)} = {sum(successes) / len(successes):.0%} ({low:.0%} to {high:.0%})'


def main() -> None:
    """Collect or print."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest='command', required=True)
    made = commands.add_parser('collect')
    made.add_argument('--out', type=Path, required=True)
    made.add_argument(
        '--ran', action='append', required=True, metavar='COMMAND', help='that made the attempts'
    )
    made.add_argument('--note', required=True, help='what the variants are')
    made.add_argument('--commit', default='HEAD', help='that the attempts were run at')
    made.add_argument('runs', nargs='+', metavar='NAME=FILE[,FILE][:VARIANT]')
    shown = commands.add_parser('table')
    shown.add_argument('result', type=Path)
    args = parser.parse_args()
    if args.command == 'collect':
        collect(args)
    print(table(json.loads((getattr(args, 'out', None) or args.result).read_text())))


if __name__ == '__main__':
    main()
