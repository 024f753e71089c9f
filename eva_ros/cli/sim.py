"""`eva sim`: record scripted experts on the simulated robot, and say how good they are."""

import argparse
import json
import multiprocessing
from pathlib import Path
import sys

from eva_ros.errors import UserError

HELP = 'record or evaluate scripted experts on the simulated robot'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare record and evaluate-expert."""
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    record = actions.add_parser('record', help='one rosbag2 MCAP bag for each episode')
    record.add_argument('--task', required=True, help='name of the task')
    record.add_argument('--episodes', type=int, required=True, help='how many')
    record.add_argument('--seed', type=int, default=0, help='of scenes, words and pauses')
    record.add_argument('--out', type=Path, required=True, help='folder of the bags')
    record.add_argument('--workers', type=int, default=2, help='processes (2)')
    record.add_argument(
        '--astray', type=float, default=0.5,
        help='chance that an episode starts at a wrong place near the cube (0.5)',
    )
    expert = actions.add_parser('evaluate-expert', help='success of the scripted experts')
    expert.add_argument('--tasks', nargs='+', help='names of tasks (all)')
    expert.add_argument('--episodes', type=int, default=100, help='scenes of each task (100)')
    expert.add_argument('--seed', type=int, default=0, help='of the scenes')
    expert.add_argument('--workers', type=int, default=2, help='processes (2)')
    expert.add_argument('--json', action='store_true', help='print one JSON object')


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    return {'record': _record, 'evaluate-expert': _evaluate}[args.action](args)


def _record(args: argparse.Namespace) -> int:
    from eva_ros.cli.sim_recording import Job
    from eva_ros.cli.sim_recording import record
    from eva_ros.evaluation.progress import Progress
    from eva_ros.sim.experts import ExpertSettings
    from eva_ros.sim.tasks import find_task

    find_task(args.task)
    if args.episodes < 1:
        raise UserError(f'--episodes {args.episodes}: give a number above zero.')
    settings = ExpertSettings(astray_chance=args.astray)
    jobs = []
    for index in range(args.episodes):
        path = args.out / f'{args.task}-{args.seed}-{index:05d}'
        if not (path / 'metadata.yaml').is_file():
            jobs.append(Job(args.task, args.seed, index, path, _version(), settings))
    print(f'{args.episodes - len(jobs)} of {args.episodes} are there already', file=sys.stderr)
    done, seconds = 0, 0.0
    if jobs:
        with Progress('episodes', len(jobs)) as progress:
            for _, success, duration in _spread(record, jobs, args.workers):
                done += success
                seconds += duration
                progress.advance()
    print(
        f'recorded {len(jobs)} episodes, {seconds:.0f} s; the task was done in {done}',
        file=sys.stderr,
    )
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from eva_ros.evaluation.progress import Progress
    from eva_ros.evaluation.statistics import wilson_interval
    from eva_ros.sim.tasks import find_task
    from eva_ros.sim.tasks import TASKS

    names = args.tasks or list(TASKS)
    jobs = [(find_task(name).name, args.seed, index)
            for name in names for index in range(args.episodes)]
    successes = dict.fromkeys(names, 0)
    with Progress('episodes', len(jobs)) as progress:
        for name, success in _spread(_attempt, jobs, args.workers):
            successes[name] += success
            progress.advance()
    result = {
        name: {
            'episodes': args.episodes, 'successes': count,
            'interval': wilson_interval(count, args.episodes),
        }
        for name, count in successes.items()
    }
    if args.json:
        print(json.dumps({'robot': 'aloha_sim', 'seed': args.seed, 'tasks': result}))
        return 0
    for name, row in result.items():
        low, high = row['interval']
        print(f'{name:15s} {row["successes"]:4d}/{row["episodes"]}  '
              f'{row["successes"] / row["episodes"]:6.1%}  [{low:.1%}, {high:.1%}]')
    return 0


def _attempt(job: tuple[str, int, int]) -> tuple[str, bool]:
    from eva_ros.cli.sim_recording import episode_rng
    from eva_ros.cli.sim_recording import run_expert
    from eva_ros.sim.experts import ExpertSettings
    from eva_ros.sim.robot import SimRobot

    task, seed, index = job
    sim = SimRobot(task, 0)
    rng = episode_rng(task, seed, index)
    return task, run_expert(sim, task, rng, ExpertSettings(astray_chance=0.5))


def _spread(function, jobs: list, workers: int):
    """Yield the results of jobs over processes, in the order they finish."""
    if workers < 2 or len(jobs) < 2:
        yield from map(function, jobs)
        return
    with multiprocessing.get_context('spawn').Pool(min(workers, len(jobs))) as pool:
        yield from pool.imap_unordered(function, jobs)


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version('eva_ros')
