"""`eva sim`: record or evaluate scripted experts on the simulated robot."""

import argparse
import importlib.metadata
import json
import sys

from eva_ros.cli import arguments
from eva_ros.robot.paths import SIM_ROBOT
from eva_ros.sim.phrasings import RECORDED_PHRASINGS

HELP = 'record or evaluate scripted experts on the simulated robot'
# Images per second that may be recorded; the first is the simulated robot's own rate.
CAMERA_HZ = (20, 10)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare record and evaluate-expert."""
    actions = parser.add_subparsers(dest='action', metavar='ACTION', required=True)
    record = actions.add_parser('record', help='record one rosbag2 MCAP bag per episode')
    record.add_argument('--task', required=True, help='name of the task')
    record.add_argument('--episodes', type=arguments.count, required=True, help='how many')
    record.add_argument(
        '--out', type=arguments.new_folder, required=True, help='folder of the bags'
    )
    record.add_argument(
        '--camera-rate',
        type=int,
        choices=CAMERA_HZ,
        default=CAMERA_HZ[0],
        help='images per second; 10, the rate that training takes, halves the time (%(default)s)',
    )
    _add_common(record)
    expert = actions.add_parser('evaluate-expert', help='success rate of the scripted experts')
    expert.add_argument('--tasks', nargs='+', help='names of tasks (all)')
    expert.add_argument(
        '--episodes', type=arguments.count, default=100, help='scenes per task (100)'
    )
    expert.add_argument('--json', action='store_true', help='print one JSON object')
    _add_common(expert)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--seed',
        type=arguments.seed,
        default=0,
        help='seed of scenes, instructions and pauses (0)',
    )
    arguments.add_scenes(parser)
    parser.add_argument('--workers', type=arguments.count, default=2, help='processes (2)')
    parser.add_argument(
        '--astray',
        type=arguments.share,
        default=0.5,
        help='probability that an episode starts at a wrong position near the cube (0.5)',
    )
    parser.add_argument(
        '--pauses',
        type=arguments.share,
        default=0.3,
        help='probability of a pause in a long segment (0.3)',
    )
    parser.add_argument(
        '--phrasings',
        choices=RECORDED_PHRASINGS,
        default=RECORDED_PHRASINGS[0],
        help='instructions: those the shipped models know, or the many of the grammar (shipped)',
    )


def run(args: argparse.Namespace) -> int:
    """Run the chosen action."""
    return {'record': _record, 'evaluate-expert': _evaluate}[args.action](args)


def _record(args: argparse.Namespace) -> int:
    from eva_ros.cli.sim_recording import is_recorded
    from eva_ros.cli.sim_recording import Job
    from eva_ros.cli.sim_recording import record
    from eva_ros.sim.tasks import find_task
    from eva_ros.workers import spread

    find_task(args.task)
    version = importlib.metadata.version('eva_ros')
    paths = [args.out / f'{args.task}-{args.seed}-{i:05d}' for i in range(args.episodes)]
    settings, rate = _settings(args), args.camera_rate
    asked = [
        Job(args.task, args.seed, index, path, version, settings, args.scenes, rate)
        for index, path in enumerate(paths)
    ]
    jobs = [job for job in asked if not is_recorded(job)]
    print(f'{args.episodes - len(jobs)} of {args.episodes} already exist', file=sys.stderr)
    done, seconds = 0, 0.0
    for success, duration in spread(
        record, jobs, args.workers, what='episodes', report=sys.stderr
    ):
        done += success
        seconds += duration
    print(
        f'recorded {len(jobs)} episodes, {seconds:.0f} s; {done} successful',
        file=sys.stderr,
    )
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from eva_ros.cli.sim_recording import Attempt
    from eva_ros.cli.sim_recording import judge
    from eva_ros.sim.tasks import find_task
    from eva_ros.sim.tasks import TASKS
    from eva_ros.workers import spread

    names = [find_task(name).name for name in args.tasks or TASKS]
    settings = _settings(args)
    attempts = [
        Attempt(name, args.seed, i, settings, args.scenes)
        for name in names
        for i in range(args.episodes)
    ]
    successes = dict.fromkeys(names, 0)
    for name, success in spread(judge, attempts, args.workers, what='episodes', report=sys.stderr):
        successes[name] += success
    _print_rates(successes, args)
    return 0


def _print_rates(successes: dict[str, int], args: argparse.Namespace) -> None:
    from eva_ros.evaluation.statistics import wilson_interval

    intervals = {name: wilson_interval(count, args.episodes) for name, count in successes.items()}
    if args.json:
        tasks = {
            name: {
                'episodes': args.episodes,
                'successes': count,
                'interval': list(intervals[name]),
            }
            for name, count in successes.items()
        }
        made = {'robot': SIM_ROBOT, 'seed': args.seed, 'scenes': str(args.scenes)}
        print(json.dumps({**made, 'strict': True, 'tasks': tasks}))
        return
    for name, count in successes.items():
        low, high = intervals[name]
        rate = count / args.episodes
        print(f'{name:15s} {count:4d}/{args.episodes}  {rate:6.1%}  [{low:.1%}, {high:.1%}]')


def _settings(args: argparse.Namespace):
    from eva_ros.sim.experts import ExpertSettings

    return ExpertSettings(
        astray_chance=args.astray, pause_chance=args.pauses, phrasings=args.phrasings
    )
