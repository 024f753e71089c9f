"""`eva demo`: run the whole system on this machine, and write a report."""

import argparse
from contextlib import suppress
import ctypes.util
from datetime import datetime
import json
import os
from pathlib import Path
import platform
import signal

from eva_ros.cli import arguments
from eva_ros.control.settings import MODES
from eva_ros.errors import UserError
from eva_ros.robot.paths import SIM_ROBOT

HELP = 'run three tasks on the simulated robot with all nodes, and write a report'

DEFAULT_TASKS = ('reach_left', 'reach_right', 'lift_left')
# Away from 0, which robots use, and from those of the tests; DDS has ports for 0 to 101.
DEFAULT_DOMAIN = 101
# Generous, because start-up is slow on a busy machine; failed nodes are noticed at once.
_READY_TIMEOUT_S = 300.0
_DISCOVERY_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eva demo`."""
    parser.add_argument(
        '--tasks',
        nargs='+',
        default=DEFAULT_TASKS,
        metavar='TASK',
        help=f'tasks to run, one after the other ({" ".join(DEFAULT_TASKS)})',
    )
    parser.add_argument(
        '--seed', type=arguments.seed, default=3, help='of the scenes (%(default)s)'
    )
    parser.add_argument(
        '--max-duration',
        type=arguments.above_zero,
        default=30.0,
        metavar='S',
        help='abort a task after this many simulated seconds (%(default)s)',
    )
    parser.add_argument(
        '--mode',
        choices=MODES,
        default=MODES[0],
        help='look_dream_move: the arms stand still while the model dreams; overlap: the next '
        'dream starts while they move (%(default)s, the better one with the shipped models)',
    )
    parser.add_argument(
        '--domain-id',
        type=int,
        default=DEFAULT_DOMAIN,
        help='ROS_DOMAIN_ID of the demo, on this machine only (%(default)s)',
    )
    parser.add_argument(
        '--out', type=arguments.new_folder, default=Path('runs'), help='folder (%(default)s)'
    )
    parser.add_argument(
        '--lora',
        default='default',
        metavar='LORA',
        help="adapter of the world model; 'default' is the shipped one, 'none' goes without "
        '(%(default)s)',
    )
    parser.add_argument(
        '--report',
        type=Path,
        metavar='FOLDER',
        help='only make the report of a recorded run',
    )
    parser.add_argument(
        '--picture',
        type=arguments.new_file,
        metavar='PNG',
        help='also write a picture of one turn, as in the README',
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo, or make the report of a recorded run."""
    from rich.console import Console

    console = Console(highlight=False)
    folder = args.report or _record(args, console)
    _report(folder, args.picture, console)
    return 0


def _record(args: argparse.Namespace, console) -> Path:
    """Run the tasks, recording every topic; return the folder of the run."""
    from eva_ros.sim.tasks import find_task

    for task in args.tasks:
        find_task(task).told('shipped')
    _check_gl()
    _stay_on_this_machine(args.domain_id)
    from eva_ros.cli.demo_stack import Stack
    from eva_ros.ros.demo_client import DemoClient
    from eva_ros.ros.discovery import port_in_use

    port = port_in_use(args.domain_id)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Same as Ctrl-C, so that the nodes always stop first.
        signal.signal(number, signal.default_int_handler)
    client = DemoClient()
    stack = None
    try:
        client.start()
        if port is not None:
            others = client.others(_DISCOVERY_S)
            user = f'the node {others[0]}' if others else f'a program at UDP port {port}'
            raise UserError(
                f'ROS_DOMAIN_ID {args.domain_id} is taken on this machine by {user}: choose '
                'another with --domain-id.'
            )
        started = datetime.now()
        folder = args.out / f'demo-{started:%Y%m%d-%H%M%S}'
        folder.mkdir(parents=True)
        console.print(f'Mode: {args.mode}')
        with console.status('Starting the simulated robot and the nodes'):
            stack = Stack(_up_arguments(args), folder / 'nodes.log')
            client.check = stack.check
            stack.wait_until_ready(_READY_TIMEOUT_S)
            client.wait_until_ready(_READY_TIMEOUT_S)
        attempts = _attempts(args, client, folder, console)
    finally:
        client.close()
        if stack:
            stack.stop()
    _write_about(args, folder, started, attempts)
    return folder


def _check_gl() -> None:
    if os.environ.get('MUJOCO_GL', 'egl') == 'egl' and not ctypes.util.find_library('EGL'):
        raise UserError(
            'The simulated cameras need a GL library that is not here: '
            'sudo apt-get install libegl1 libgl1-mesa-dri'
        )


def _stay_on_this_machine(domain: int) -> None:
    """Set up DDS for this process and its children, before any of them touches it."""
    if not 0 <= domain <= 101:
        raise UserError(f'--domain-id is {domain} and must be 0 to 101.')
    os.environ['ROS_DOMAIN_ID'] = str(domain)
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ.pop('ROS_LOCALHOST_ONLY', None)
    os.environ.pop('ROS_STATIC_PEERS', None)
    if os.environ.get('ROS_DISTRO') == 'humble':  # which knows this variable alone
        os.environ['ROS_LOCALHOST_ONLY'] = '1'


def _up_arguments(args: argparse.Namespace) -> list[str]:
    # The robot is simulated, so accepted motions may be executed.
    up = ['--robot', SIM_ROBOT, '--sim', '--no-dry-run', '--composed', '--use-sim-time']
    up += ['--mode', args.mode, '--task', args.tasks[0], '--seed', str(args.seed)]
    return [*up, '--log-level', 'warn', '--lora', args.lora]


def _attempts(args: argparse.Namespace, client, folder: Path, console) -> list[dict]:
    from eva_ros.evaluation.run_reader import BAG
    from eva_ros.robot.spec import load_robot
    from eva_ros.ros.run_recorder import recorded_topics
    from eva_ros.ros.run_recorder import RunRecorder

    robot = load_robot(SIM_ROBOT)
    recorder = RunRecorder(client.node, folder / BAG, recorded_topics(robot))
    try:
        cameras = {f'/{camera.topic}' for camera in robot.cameras.values()}
        client.wait_for(
            lambda: cameras <= recorder.counts.keys(), _READY_TIMEOUT_S, 'an image of each camera'
        )
        attempts = [
            _attempt(client, task, args.seed + number, args.max_duration, console)
            for number, task in enumerate(args.tasks)
        ]
    except BaseException:
        with suppress(UserError):
            # The original error is more useful than the resulting one of the bag.
            recorder.close()
        raise
    recorder.close()
    return attempts


def _attempt(client, task: str, seed: int, max_duration_s: float, console) -> dict:
    from eva_ros.cli.demo_screen import TaskScreen
    from eva_ros.ros.demo_client import task_goal
    from eva_ros.sim.tasks import find_task

    phrasings = find_task(task).told('shipped')
    instruction = phrasings[seed % len(phrasings)]
    goal = task_goal(task, instruction, seed * 1000, max_duration_s)
    client.draw_scene(task, seed)
    client.arm()
    with TaskScreen(console, task, instruction) as screen:
        ended = client.execute(goal, screen.update)
    client.disarm()
    outcome = '[green]done[/green]' if ended.success else '[yellow]not done[/yellow]'
    elapsed_s = (ended.end_ns - ended.start_ns) * 1e-9
    console.print(f'{task}: {outcome} after {elapsed_s:.1f} s. {ended.message}')
    return {'task': task, 'instruction': instruction, 'seed': seed, **vars(ended)}


def _write_about(
    args: argparse.Namespace, folder: Path, started: datetime, attempts: list[dict]
) -> None:
    from eva_ros.evaluation.run_reader import RUN_FILE

    about = {
        'title': 'EVA on a simulated two-arm robot',
        'started': f'Recorded on {started:%d %B %Y, %H:%M}',
        'robot': SIM_ROBOT,
        'view': SIM_ROBOT,
        'attempts': attempts,
        'facts': {
            'command': f'eva demo --tasks {" ".join(args.tasks)} --seed {args.seed} '
            f'--mode {args.mode}',
            'mode': args.mode,
            'machine': f'{platform.machine()}, {os.cpu_count()} CPU cores, no GPU used',
            'instructions': 'phrasings held out of the training data',
        },
    }
    text = json.dumps(about, indent=2, ensure_ascii=False)
    (folder / RUN_FILE).write_text(text + '\n', encoding='utf-8')


def _report(folder: Path, picture: Path | None, console) -> None:
    from eva_ros.cli.demo_screen import summary
    from eva_ros.evaluation.alignment_pair import with_alignment
    from eva_ros.evaluation.report import write_report
    from eva_ros.evaluation.run_reader import read_run
    from eva_ros.evaluation.turn_picture import draw
    from eva_ros.robot.paths import checkpoint_dir

    with console.status('Making the report'):
        run = with_alignment(read_run(folder), checkpoint_dir())
        write_report(run, folder / 'report.html')
        if picture:
            draw(run, picture)
    summary(console, run)
    console.print(f'Bag and report: {folder}/bag, {folder}/report.html', soft_wrap=True)
