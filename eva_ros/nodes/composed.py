"""All nodes in one process, each with an executor and a thread of its own."""

import importlib
import sys

from rclpy.utilities import remove_ros_args

from eva_ros.errors import UserError
from eva_ros.ros.bringup import MERGERS
from eva_ros.ros.bringup import RECORDERS
from eva_ros.ros.bringup import STACK
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.run import REFUSED
from eva_ros.ros.run import run


def node_class(name: str) -> type[EvaNode]:
    """Return the class of a node of this package.

    Raises:
        UserError: there is no such node.
    """
    known = (*STACK, *RECORDERS, *MERGERS)
    if name not in known:
        raise UserError(f"There is no node '{name}' (there are: {', '.join(known)}).")
    module = importlib.import_module(f'eva_ros.nodes.{name}')
    return getattr(module, ''.join(part.title() for part in name.split('_')))


def main(args: list[str] | None = None) -> int:
    """Run the nodes named on the command line, or all but the simulated robot."""
    argv = sys.argv if args is None else args
    names = remove_ros_args(argv)[1:] or list(STACK)
    try:
        makers = [node_class(name) for name in names]
    except UserError as error:
        print(error, file=sys.stderr)
        return REFUSED
    return run(makers, args=[word for word in argv if word not in names])
