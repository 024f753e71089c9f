"""What both arms share is written once: `arms.both`, with `<side>` for left and right."""

from collections.abc import Mapping
from typing import Any

SIDES = ('left', 'right')
_PLACEHOLDER = '<side>'
_BY_JOINT = ('joint_limits', 'home', 'max_tracking_error', 'cameras')


def expand_sides(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a robot file's content with every `<side>` written out.

    `arms.both` becomes `arms.left` and `arms.right`; a key under `left` or `right` replaces the
    shared one. Entries of maps and lists with a `<side>` in them are repeated for each arm, the
    left arm's first.

    Args:
        content: The map that the YAML file holds; malformed parts are left for the schema.
    """
    found = dict(content)
    arms = found.get('arms')
    if not isinstance(arms, Mapping):
        return found
    shared = arms.get('both')
    if isinstance(shared, Mapping):
        own = {side: arms.get(side) or {} for side in SIDES}
        others = {key: value for key, value in arms.items() if key not in ('both', *SIDES)}
        arms = {**others, **{side: _written_out({**shared, **own[side]}, side) for side in SIDES}}
    found['arms'] = arms
    sides = [side for side in SIDES if side in arms]
    for key in _BY_JOINT:
        if isinstance(found.get(key), Mapping):
            found[key] = _repeated_map(found[key], sides)
    if isinstance(found.get('collision'), Mapping):
        found['collision'] = {
            key: _repeated_list(value, sides) if isinstance(value, list) else value
            for key, value in found['collision'].items()
        }
    return found


def _repeated_map(entries: Mapping[str, Any], sides: list[str]) -> dict[str, Any]:
    """Return a map with its `<side>` entries for each side; written-out entries win."""
    found: dict[str, Any] = {}
    for key, value in entries.items():
        if _PLACEHOLDER not in str(key):
            found[key] = value
            continue
        for side in sides:
            name = str(key).replace(_PLACEHOLDER, side)
            found[name] = entries.get(name, _written_out(value, side))
    return found


def _repeated_list(entries: list[Any], sides: list[str]) -> list[Any]:
    """Return a list with its `<side>` entries for each side, then the others."""
    shared = [entry for entry in entries if _PLACEHOLDER in str(entry)]
    repeated = [_written_out(entry, side) for side in sides for entry in shared]
    return repeated + [entry for entry in entries if _PLACEHOLDER not in str(entry)]


def _written_out(value: Any, side: str) -> Any:
    if isinstance(value, str):
        return value.replace(_PLACEHOLDER, side)
    if isinstance(value, Mapping):
        return {_written_out(k, side): _written_out(v, side) for k, v in value.items()}
    if isinstance(value, list):
        return [_written_out(entry, side) for entry in value]
    return value
