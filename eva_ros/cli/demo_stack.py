"""The simulated robot and all nodes, started for the demo by `eva up` as a child process."""

from collections import deque
from collections.abc import Sequence
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading

from eva_ros.cli.up import die_with_parent
from eva_ros.errors import UserError

READY = 'eva up: ready'
# `eva up` gives the nodes, then the simulated robot, 20 s each before it kills them.
_STOP_TIMEOUT_S = 60.0


class Stack:
    """`eva up` as a child process; its output goes to a file, its last error to the user."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        """Start it.

        Args:
            arguments: Arguments of `eva up`.
            log: File for its output.
        """
        self._log = log.open('w', encoding='utf-8', errors='replace')
        self._ready = threading.Event()
        self._said: deque[str] = deque(maxlen=20)
        # In its own session, so that Ctrl-C only reaches the demo, which stops it in order.
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'eva_ros.cli.main', 'up', *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        self._reader = threading.Thread(target=self._read, name='eva up', daemon=True)
        self._reader.start()

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait until every node is active.

        Raises:
            UserError: A node refused to start, or it took too long.
        """
        for _ in range(int(timeout_s / 0.2)):
            if self._ready.wait(0.2):
                return
            self.check()
        raise UserError(f'The nodes did not start within {timeout_s:.0f} s: see {self._log.name}.')

    def check(self) -> None:
        """Raise a UserError with its last error if it has exited."""
        if self._process.poll() is None:
            return
        self._reader.join(2.0)
        raise UserError(
            f'The nodes have ended: {_last_words(self._said)} '
            f'(see {self._log.name} for their full output)'
        )

    def stop(self) -> None:
        """Stop the nodes in order; after a timeout, kill the rest."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._reader.join(2.0)
        self._log.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._log.write(line)
            self._log.flush()
            if line.strip():
                self._said.append(line.strip())
            if READY in line:
                self._ready.set()


def _last_words(said: Sequence[str]) -> str:
    """Return the last sentence that is neither a log line nor about the exit."""
    sentences = [line for line in said if not line.startswith(('[', 'eva up:'))]
    return (sentences or list(said) or ['they said nothing'])[-1]
