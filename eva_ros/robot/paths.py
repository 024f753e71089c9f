"""Find the package's own configuration, or the file that a user names."""

from pathlib import Path

from eva_ros.errors import UserError
from eva_ros.resources import share_folder

# The simulated robot that comes with the package: what commands and nodes use unless told.
SIM_ROBOT = 'aloha_sim'


def config_dir() -> Path:
    """Return the folder of the configuration that comes with the package."""
    return share_folder() / 'config'


def checkpoint_dir() -> Path:
    """Return the folder of the models that come with the package."""
    return share_folder() / 'models'


def find_config(kind: str, name_or_path: str | Path) -> Path:
    """Return the file of a configuration given by its name or by its path.

    Args:
        kind: folder below config/, e.g. 'robots' or 'views'.
        name_or_path: name of a file of that folder, or a path to a YAML file.

    Raises:
        UserError: there is no such file; names those that exist.
    """
    named = str(name_or_path)
    if named.endswith(('.yaml', '.yml')) or '/' in named:
        path = Path(named).expanduser()
        if path.is_file():
            return path
        raise UserError(f'There is no file {path}.')
    folder = config_dir() / kind
    path = folder / f'{named}.yaml'
    if path.is_file():
        return path
    known = ', '.join(sorted(entry.stem for entry in folder.glob('*.yaml'))) or 'none'
    raise UserError(f'There is no "{named}" in {folder} (there are: {known}).')
