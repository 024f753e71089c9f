"""Rates at which cameras and joints can have been recorded.

Apart from what reads recordings: the command line needs the bounds before it loads anything.
"""

_LEAST_HZ, _MOST_HZ = 0.1, 1000.0
NO_RATE = f'is no rate from {_LEAST_HZ:g} to {_MOST_HZ:g} Hz'


def is_rate(rate_hz: float) -> bool:
    """Return whether something can have been recorded at a rate; where not, it `NO_RATE`."""
    return _LEAST_HZ <= rate_hz <= _MOST_HZ
