"""Damage bags at random and read what is left, 20,000 by default; goes on where it ended.

    python scripts/soak_bags.py [--cases 20000] [--processes 2] [--state runs/soak_bags.json]

What must be true of what is read stands in test/bag_cases.py;
`--only NUMBER` runs a failure again alone.
"""

import sys

from soaking import soak

if __name__ == '__main__':
    sys.exit(soak('bag_cases', 20_000, 'soak_bags.json', __doc__))
