"""What must hold while the arms are armed: files, other publishers, the e-stop's heartbeat."""

from collections.abc import Iterable
import hashlib
from pathlib import Path

from rclpy.node import Node


class FileWatch:
    """Tells whether files are still those that were read."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._seen = {path: (_stat(path), _digest(path)) for path in paths}

    def changed(self) -> str | None:
        """Return the name of a file whose content has changed; None if none has."""
        for path, (stat, digest) in self._seen.items():
            if _stat(path) != stat and _digest(path) != digest:
                return str(path)
        return None


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def other_publishers(node: Node, topics: Iterable[str]) -> list[str]:
    """Return the nodes that publish on our command topics, by full name; ours twice counts."""
    me = (node.get_namespace(), node.get_name())
    found = set()
    for topic in topics:
        speakers = [
            (info.node_namespace, info.node_name)
            for info in node.get_publishers_info_by_topic(topic)
        ]
        found |= {speaker for speaker in speakers if speaker != me}
        if speakers.count(me) > 1:
            found.add(me)
    return sorted(f'{namespace.rstrip("/")}/{name}' for namespace, name in found)


class Heartbeat:
    """Tells whether a publisher that must be heard is heard.

    Args:
        period_s: it is lost when silent for longer; 0: it may be silent.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._heard_ns: int | None = None

    def beat(self, now_ns: int) -> None:
        """Note that it was heard."""
        self._heard_ns = now_ns

    def lost(self, now_ns: int) -> bool:
        """Return whether it has been silent for too long, or was never heard."""
        if self._period_s <= 0.0:
            return False
        return self._heard_ns is None or now_ns - self._heard_ns > self._period_s * 1e9
