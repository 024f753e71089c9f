"""Run adversarial cases through the command gate, a million by default; goes on where it ended.

    python scripts/soak_gate.py [--cases 1000000] [--processes 2] [--state runs/soak_gate.json]

What must be true of every command stands in test/gate_cases.py;
`--only NUMBER` runs a failure again alone.
"""

import sys

from soaking import soak

if __name__ == '__main__':
    sys.exit(soak('gate_cases', 1_000_000, 'soak_gate.json', __doc__))
