"""Start a node: `python -m eva_ros.nodes NAME`, or the console script that is called like it."""

import importlib
from pathlib import Path
import sys

from eva_ros.ros.installed import missing

# As eva_ros.ros.run has it, which needs ROS.
REFUSED = 2
INTERRUPTED = 130


def main() -> int:
    """Import the node and run it, or say in one sentence what it lacks."""
    script = Path(sys.argv[0])
    arguments = sys.argv[1:] if script.stem == '__main__' else [script.name, *sys.argv[1:]]
    try:
        return importlib.import_module(f'eva_ros.nodes.{arguments[0]}').main(arguments)
    except ImportError as error:
        print(f'{arguments[0]}: {missing(error)}', file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        # What a node needs takes seconds to import; `ros2 launch` may be stopped meanwhile.
        return INTERRUPTED


if __name__ == '__main__':
    sys.exit(main())
