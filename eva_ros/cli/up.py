"""`eva up`: start the nodes like the launch files, without `ros2 launch`."""

import argparse
from collections.abc import Iterable
import ctypes
import os
from pathlib import Path
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Any

from eva_ros.ros import topics
from eva_ros.ros.bringup import ALL_NODES
from eva_ros.ros.bringup import Argument
from eva_ros.ros.bringup import ARGUMENTS
from eva_ros.ros.bringup import NODES
from eva_ros.ros.bringup import plan
from eva_ros.ros.bringup import Process
from eva_ros.ros.bringup import READY
from eva_ros.ros.bringup import RECORDERS
from eva_ros.ros.bringup import remarks
from eva_ros.ros.bringup import STACK
from eva_ros.ros.installed import check_ros

HELP = 'start the nodes of a robot, or of the simulated one (--sim), until Ctrl-C'
DONE = 0
FAILED = 1
WRONG_USE = 2
# A node shuts down in about a second, unless it has to finish a dream.
_PATIENCE_S = 20.0
_PR_SET_PDEATHSIG = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an option for each launch argument, and the choice of nodes."""
    for argument in ARGUMENTS:
        option = f'--{argument.name.replace("_", "-")}'
        if argument.kind is bool:
            parser.add_argument(
                option,
                action=argparse.BooleanOptionalAction,
                default=argument.default,
                help=argument.description,
            )
        else:
            parser.add_argument(
                option,
                type=argument.kind,
                default=argument.default,
                metavar=_metavar(argument),
                help=argument.description,
            )
    parser.add_argument(
        '--sim',
        action=argparse.BooleanOptionalAction,
        default=False,
        help='Also start the simulated robot, and use its clock.',
    )
    parser.add_argument(
        '--nodes',
        nargs='+',
        choices=ALL_NODES,
        metavar='NODE',
        help=f'Only these: {", ".join(ALL_NODES)}.',
    )
    parser.add_argument('--record', action='store_true', help='Also start the episode recorder.')


def run(args: argparse.Namespace) -> int:
    """Start the processes, wait until one exits or a signal arrives, and stop them all."""
    check_ros()
    nodes, settings = _nodes(args), _settings(args)
    for sentence in remarks(nodes, settings):
        print(f'eva up: {sentence}', file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix='eva_up_') as folder:
        return Family(plan(nodes, settings, Path(folder))).live()


def _metavar(argument: Argument) -> str:
    return {str: 'TEXT', int: 'N', float: 'X'}[argument.kind]


def _nodes(args: argparse.Namespace) -> Iterable[str]:
    nodes = args.nodes or (NODES if args.sim else STACK)
    return (*nodes, *RECORDERS) if args.record else nodes


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    settings = {argument.name: getattr(args, argument.name) for argument in ARGUMENTS}
    if settings['use_sim_time'] is None and args.sim:
        settings['use_sim_time'] = True
    return settings


class Family:
    """The processes of a running system, which start and stop together."""

    def __init__(self, processes: list[Process]) -> None:
        self._plan = processes
        self._children: list[tuple[Process, subprocess.Popen]] = []
        # SimpleQueue, because a signal handler may put while the same thread waits.
        self._news: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def live(self) -> int:
        """Start everything, wait, stop everything; return the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._news.put(('signal', None)))
        try:
            for process in self._plan:
                self._start(process)
            return self._wait()
        finally:
            self._stop()

    def _start(self, process: Process) -> None:
        node = ['-m', 'eva_ros.nodes', process.executable]
        command = [sys.executable, *node, *process.command_line()]
        # A session of its own: Ctrl-C reaches the nodes through `_stop`, in order.
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._children.append((process, child))
        threading.Thread(target=self._follow, args=(process, child), daemon=True).start()

    def _follow(self, process: Process, child: subprocess.Popen) -> None:
        """Forward a child's stdout, and its exit."""
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith(READY):
                self._news.put(('ready', process))
            else:
                print(line, end='', file=sys.stderr, flush=True)
        self._news.put(('ended', (process, child.wait())))

    def _wait(self) -> int:
        waiting = list(self._plan)
        while True:
            kind, what = self._news.get()
            if kind == 'signal':
                return DONE
            if kind == 'ended':
                return _explain(*what)
            waiting.remove(what)
            if not waiting:
                print('eva up: ready', file=sys.stderr, flush=True)

    def _stop(self) -> None:
        """Stop the children, the simulated robot last, so that the arms can be held.

        SIGTERM works like Ctrl-C for running nodes, and ends nodes that are still importing
        without a traceback.
        """
        for last in (False, True):
            part = [c for p, c in self._children if (topics.SIM_ROBOT in p.nodes) == last]
            for child in part:
                if child.poll() is None:
                    child.terminate()
            for child in part:
                _wait_or_kill(child)


def _wait_or_kill(child: subprocess.Popen) -> None:
    try:
        child.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _explain(process: Process, code: int) -> int:
    """Report which process exited by itself; return the exit code of `eva up`."""
    names = ', '.join(process.nodes)
    print(f'eva up: {names} ended with exit code {code}; stopping', file=sys.stderr, flush=True)
    return WRONG_USE if code == WRONG_USE else FAILED


def _environment() -> dict[str, str]:
    """Return the environment of the nodes, with this package first on the path."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, os.environ.get('PYTHONPATH', '').split(os.pathsep))]
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(paths), 'PYTHONUNBUFFERED': '1'}


def die_with_parent() -> None:
    """Have Linux stop this child if `eva up` dies without stopping it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
