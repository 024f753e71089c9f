"""Nanoseconds inside, builtin_interfaces outside."""

from builtin_interfaces.msg import Duration
from builtin_interfaces.msg import Time

NS_PER_S = 1_000_000_000


def to_time(stamp_ns: int) -> Time:
    """Return a stamp as a message."""
    sec, nanosec = divmod(int(stamp_ns), NS_PER_S)
    return Time(sec=sec, nanosec=nanosec)


def to_duration(seconds: float) -> Duration:
    """Return seconds as a message, rounded to the nanosecond."""
    sec, nanosec = divmod(round(seconds * NS_PER_S), NS_PER_S)
    return Duration(sec=sec, nanosec=nanosec)


def to_ns(stamp: Time | Duration) -> int:
    """Return a Time or Duration message in nanoseconds."""
    return stamp.sec * NS_PER_S + stamp.nanosec


def to_seconds(duration: Duration) -> float:
    """Return a Duration message in seconds."""
    return to_ns(duration) / NS_PER_S
