"""Training in several processes on one machine: each takes a share of every batch.

On a CPU two processes of one thread are faster than one of two threads (no barrier in every
small operation), and they keep their pace when something else wants a core.
"""

from collections.abc import Callable
from collections.abc import Iterable
import os
import socket
import sys
import threading
import time
from typing import Any

import torch
from torch import distributed
from torch import Tensor
from torch.multiprocessing import ProcessExitedException
from torch.multiprocessing import ProcessRaisedException

from eva_ros.errors import UserError


def process_count() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def process_rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def share_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Average the gradients over all processes."""
    if process_count() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    flat /= process_count()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def share_mean(value: Tensor) -> Tensor:
    """Return the mean of a number over all processes."""
    if process_count() == 1:
        return value
    total = value.clone()
    distributed.all_reduce(total)
    return total / process_count()


def agree(stop: bool) -> bool:
    """Return what the first process says."""
    if process_count() == 1:
        return stop
    word = Tensor([float(stop)])
    distributed.broadcast(word, 0)
    return bool(word.item())


def wait_for_all() -> None:
    """Return once every process is here."""
    if process_count() > 1:
        distributed.barrier()


def run_processes(count: int, function: Callable[..., None], *arguments: object) -> None:
    """Call function(*arguments) in `count` processes that can share gradients.

    Args:
        count: processes; with one, the function is called here.
        function: importable by name.
        arguments: picklable.

    Raises:
        UserError: the function raised it in one of the processes; the others are ended.
    """
    if count == 1:
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
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    distributed.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=count
    )
    try:
        function(*arguments)
    except UserError as error:
        said.put(str(error))
        sys.exit(1)
    finally:
        distributed.destroy_process_group()


def _end_with_parent(parent: int) -> None:
    """End this process once its parent is gone, so that a killed training leaves nothing."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
