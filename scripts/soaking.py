"""Run many numbered cases and go on where it ended: what the soak scripts share.

    python scripts/soak_....py [--cases N] [--processes 2] [--state runs/soak_....json]

Each case is a number, so that a failure can be run again alone: `--only NUMBER`. Prints the 95 %
bound on the rate of failures that the number of cases without one allows (3 / n, the rule of
three).
"""

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from itertools import repeat
import json
import multiprocessing
import os
from pathlib import Path
import sys
import traceback
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
BLOCK = 250


def soak(module: str, cases: int, state: str, about: str) -> int:
    """Run what is left and return 1 if a case failed.

    Args:
        module: of test/, with `run(number) -> str`: what came of a case; it raises where it must.
        cases: how many, unless the command line says otherwise.
        state: file in runs/ that says how far it got.
        about: what is run, for --help.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0], allow_abbrev=False)
    parser.add_argument('--cases', type=int, default=cases)
    parser.add_argument('--processes', type=int, default=2)
    parser.add_argument('--state', type=Path, default=ROOT / 'runs' / state)
    parser.add_argument('--only', type=int, help='run this case alone, its error in full')
    args = parser.parse_args()
    args.module = module
    if args.only is not None:
        print(_cases(module).run(args.only))
        return 0
    state = {'done': 0, 'found': {}, 'failures': []}
    if args.state.is_file():
        state = json.loads(args.state.read_text())
    _run(args, state)
    _report(state)
    return 1 if state['failures'] else 0


def _run(args: argparse.Namespace, state: dict) -> None:
    begins = range(state['done'], args.cases, BLOCK)
    ends = [min(begin + BLOCK, args.cases) for begin in begins]
    context = multiprocessing.get_context('spawn')
    args.state.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(args.processes, mp_context=context) as pool:
        for end, (found, failures) in zip(
            ends, pool.map(_block, repeat(args.module), begins, ends)
        ):
            counts = Counter(state['found'])
            counts.update(found)
            state.update(done=end, found=dict(counts))
            state['failures'] += failures
            part = args.state.with_suffix('.part')
            part.write_text(json.dumps(state))
            part.replace(args.state)
            print(f'\r{end} of {args.cases}, {len(state["failures"])} failed', end='', flush=True)
    print()


def _cases(module: str) -> ModuleType:
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    sys.path[:0] = [str(ROOT), str(ROOT / 'test')]
    return import_module(module)


def _block(module: str, begin: int, end: int) -> tuple[dict[str, int], list[dict]]:
    cases = _cases(module)
    found: Counter[str] = Counter()
    failures = []
    for number in range(begin, end):
        try:
            found[cases.run(number)] += 1
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            sentence = str(error).strip().splitlines()[0] if str(error).strip() else ''
            failures.append({'case': number, 'error': f'{where.name}: {sentence}'})
    return dict(found), failures


def _report(state: dict) -> None:
    done, failed = state['done'], len(state['failures'])
    for name, count in sorted(state['found'].items(), key=lambda item: -item[1]):
        print(f'{name:28} {count}')
    for failure in state['failures'][:20]:
        print(f'case {failure["case"]}: {failure["error"]}')
    print(f'{done} cases, {failed} failed', end='')
    if not failed and done:
        print(f'; at most {3.0 / done:.2g} of all cases fail (95 %)', end='')
    print()
