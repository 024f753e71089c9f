"""Where the files of a LeRobot data set are: the templates of paths in its info.json."""

from pathlib import Path
from typing import Any

from eva_ros.errors import UserError

# A placeholder means what its name holds, the first of these that does: tools invent their own.
_MEANINGS = {
    'chunk': 'chunk',
    'file': 'file',
    'episode': 'episode',
    'key': 'key',
    'cam': 'key',
    'image': 'key',
    'video': 'key',
}


class Numbers(dict[str, Any]):
    """What fills a template: chunk, file, episode, and the key of a camera."""

    def __missing__(self, name: str) -> Any:
        """Return what a placeholder of another name means."""
        meaning = next((there for part, there in _MEANINGS.items() if part in name), '')
        if dict.__contains__(self, meaning):
            return self[meaning]
        raise KeyError(name)


def numbers_of(about: dict[str, Any], what: str, info: dict[str, Any]) -> Numbers:
    """Return an episode's numbers: what its metadata say of `what`, else what counting gives.

    Raises:
        TypeError: they are no numbers.
        ValueError: they are no numbers.
    """
    index = int(about['episode_index'])
    chunk = about.get(f'{what}/chunk_index', index // int(info.get('chunks_size') or 1000))
    file = about.get(f'{what}/file_index', index)
    return Numbers(chunk=int(chunk), file=int(file), episode=index)


def inside(folder: Path, template: str, numbers: Numbers) -> Path:
    """Return a path within a data set.

    Raises:
        UserError: the template names something unknown, or leads out of the data set.
    """
    try:
        path = folder / template.format_map(numbers)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UserError(f"{folder}: the path '{template}' has no {error}.") from None
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{folder}: the path '{template}' leads out of the data set.")
    return path


def find_video(
    folder: Path, template: str, numbers: Numbers, key: str
) -> tuple[Path, Path | None]:
    """Return where a video should be, and where it is.

    Templates may take a camera's whole key or its last part. A file of that name elsewhere is
    taken if it is the only one below a folder named as the camera.
    """
    short = key.rsplit('.', 1)[-1]
    paths = [inside(folder, template, Numbers(numbers, key=name)) for name in (key, short)]
    for path in paths:
        if path.is_file():
            return path, path
    names = {key, short}
    found = [p for p in folder.rglob(paths[0].name) if names & set(p.relative_to(folder).parts)]
    return paths[0], found[0] if len(found) == 1 else None
