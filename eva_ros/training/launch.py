"""Training in several processes: started here on a CPU, by `accelerate launch` anywhere else.

On a CPU two processes of one thread are faster than one of two threads (no barrier in every
small operation), and they keep their pace when something else wants a core. accelerate finds the
processes by the environment that torchrun, `accelerate launch` and this module set alike.
"""

from collections.abc import Callable
import os
import socket
import sys
import threading
import time
from typing import Any

from accelerate import PartialState
import torch
from torch.multiprocessing import ProcessExitedException
from torch.multiprocessing import ProcessRaisedException

from eva_ros.errors import UserError


def process_state() -> PartialState:
    """Return this process' place among those that train together, and its device."""
    return PartialState(cpu=not torch.cuda.is_available())


def training_device() -> torch.device:
    """Return the GPU of this process if there is one, else the CPU."""
    return process_state().device


def share_of(size: int, what: str) -> slice:
    """Return which of `size` things this process takes: every n-th.

    Args:
        size: Things of a step, such as clips of a batch.
        what: What they are, in the plural.

    Raises:
        UserError: They cannot be shared evenly: their mean would not be that of the whole.
    """
    state = process_state()
    if size % state.num_processes:
        raise UserError(
            f'{size} {what} cannot be shared evenly by {state.num_processes} processes: give a '
            f'multiple of {state.num_processes}, or --processes 1.'
        )
    return slice(state.process_index, None, state.num_processes)


def launch(count: int, function: Callable[..., None], *arguments: object) -> None:
    """Call function(*arguments) in processes that train together.

    Args:
        count: Processes on a CPU. With one, with a GPU, and in a process that `accelerate launch`
            has started, the function is called here.
        function: Function that can be imported by name.
        arguments: What it is given; picklable.

    Raises:
        UserError: The function raised it in one of the processes; the others are ended.
    """
    if count == 1 or torch.cuda.is_available() or 'WORLD_SIZE' in os.environ:
        function(*arguments)
        return
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    said = torch.multiprocessing.get_context('spawn').SimpleQueue()
    try:
        torch.multiprocessing.spawn(
            _member, (count, port, said, function, arguments), nprocs=count, join=True
        )
    except (ProcessExitedException, ProcessRaisedException) as error:
        if said.empty():
            raise
        raise UserError(said.get()) from error


def _member(
    rank: int, count: int, port: int, said: Any, function: Callable[..., None], arguments: tuple
) -> None:
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    threads = max(1, (os.cpu_count() or 1) // count)
    os.environ |= {
        'RANK': str(rank),
        'LOCAL_RANK': str(rank),
        'WORLD_SIZE': str(count),
        'LOCAL_WORLD_SIZE': str(count),
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': str(port),
        'GLOO_SOCKET_IFNAME': 'lo',
        'OMP_NUM_THREADS': str(threads),
    }
    torch.set_num_threads(threads)
    try:
        function(*arguments)
        # Whoever leaves first would take the connection from those still at it.
        process_state().wait_for_everyone()
    except UserError as error:
        said.put(str(error))
        sys.exit(1)
    finally:
        process_state().destroy_process_group()


def _end_with_parent(parent: int) -> None:
    """End this process once its parent is gone, so that a killed training leaves nothing."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
