#!/usr/bin/env python3
"""Condense files of `eva evaluate --out` into one result file, and print it as a table.

  alignment_results.py collect --out RESULT.json --ran COMMAND --note TEXT NAME=FILE[:VARIANT] ...
  alignment_results.py table RESULT.json [--against NAME]

The first NAME is what all others are compared with, on the scenes that all have attempted. Names
that end in _0, _1, ... are training seeds of the same variant.
"""

import argparse
from collections import defaultdict
from collections.abc import Collection
import json
import os
from pathlib import Path
import platform
import re
import sys

from measure_best_of import git
import numpy as np

from eva_ros.evaluation.statistics import paired_gain
from eva_ros.evaluation.statistics import wilson_interval
from eva_ros.training.manifest import write_json

Attempts = dict[tuple[str, str, int], int]
# By task and scenes; means over training seeds are between 0 and 1.
Successes = dict[str, list[float]]


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


def table(result: dict, against: str = '') -> str:
    """Return the result as a table in Markdown, all variants against one of them.

    Variants that differ only in a number at the end are training seeds of one variant; a row with
    their mean is added.

    Args:
        result: What `collect` wrote.
        against: Variant, or training seeds by their common name; the first variant if empty.
    """
    cells, variants = result['cells'], result['variants']
    won: dict[str, Successes] = {
        name: {cell: cells[cell]['successes'][name] for cell in cells} for name in variants
    }
    seeds = _seeds(variants)
    for name, group in seeds.items():
        won[name] = {c: np.mean([won[v][c] for v in group], axis=0).tolist() for c in cells}
    first = against or variants[0]
    if first not in won:
        sys.exit(f'unknown variant {first}: choose from {", ".join(won)}')
    columns = [f'{name} ({len(cell["seeds"])})' for name, cell in cells.items()]
    head = ['variant', *columns, f'against {first}, points', 'gained / lost', "McNemar's p"]
    lines = [' | '.join(['', *head, '']).strip(), '|' + '---|' * len(head)]
    for name in won:
        label = f'`{name}`, mean of {len(seeds[name])} seeds' if name in seeds else f'`{name}`'
        row = [label, *(_share(won[name][cell]) for cell in cells)]
        row += ['', '', ''] if name == first else _gain(won[name], won[first])
        lines.append(' | '.join(['', *row, '']).strip())
    return '\n'.join(lines)


def _seeds(variants: Collection[str]) -> dict[str, list[str]]:
    """Return variants that differ only in a number at the end, by their common name."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in variants:
        match = re.fullmatch(r'(.+)_\d+', name)
        # In best_of_4 and any_of_4 the number is that of the dreams.
        if match and not match[1].endswith('_of'):
            groups[match[1]].append(name)
    seeds = {name: group for name, group in groups.items() if len(group) > 1}
    if both := set(seeds) & set(variants):
        sys.exit(f'{min(both)} is a variant and the name of several seeds: rename one')
    return seeds


def _gain(ours: Successes, theirs: Successes) -> list[str]:
    """Return the cells of a comparison; means over seeds have no gained and lost scenes."""
    gain = paired_gain(ours, theirs, seed=0)
    low, high = gain.interval
    points = f'{100 * gain.mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})'
    if not all(_are_counts(scenes) for won in (ours, theirs) for scenes in won.values()):
        return [points, '', '']
    return [points, f'{gain.gained} / {gain.lost}', f'{gain.p_value:.2g}']


def _are_counts(successes: list[float]) -> bool:
    """Return whether these are single attempts, not means over training seeds."""
    return all(success in (0, 1) for success in successes)


def _share(successes: list[float]) -> str:
    if not _are_counts(successes):
        return f'{sum(successes) / len(successes):.0%}'
    low, high = wilson_interval(int(sum(successes)), len(successes))
    return (
        f'{sum(successes):.0f} = {sum(successes) / len(successes):.0%} ({low:.0%} to {high:.0%})'
    )


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
    shown.add_argument('--against', default='', metavar='NAME', help='(the first variant)')
    args = parser.parse_args()
    if args.command == 'collect':
        collect(args)
        args.result, args.against = args.out, ''
    print(table(json.loads(args.result.read_text()), args.against))


if __name__ == '__main__':
    main()
