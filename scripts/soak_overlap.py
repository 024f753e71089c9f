"""Run tasks in mode overlap through the command gate, 20,000 by default; goes on where it ended.

    python scripts/soak_overlap.py [--cases 20000] [--processes 2] [--state FILE]

What happens in a task and what must be true of it stands in test/overlap_cases.py; FILE is
runs/soak_overlap.json, and `--only NUMBER` runs a failure again alone.
"""

import sys

from soaking import soak

if __name__ == '__main__':
    sys.exit(soak('overlap_cases', 20_000, 'soak_overlap.json', __doc__))
