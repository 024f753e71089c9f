"""Where the files lie that travel beside the code: config, launch and models."""

from pathlib import Path

from eva_ros.errors import UserError

_PACKAGE = Path(__file__).resolve().parent


def share_folder() -> Path:
    """Return the folder that holds config/, launch/ and models/.

    In a checkout that is its root. Installed by pip or colcon, it is share/eva_ros below the
    prefix that holds the code.

    Raises:
        UserError: neither exists.
    """
    if (_PACKAGE.parent / 'package.xml').is_file():
        return _PACKAGE.parent
    for prefix in _PACKAGE.parents:
        if (prefix / 'share' / 'eva_ros' / 'package.xml').is_file():
            return prefix / 'share' / 'eva_ros'
    raise UserError(f'The files installed beside {_PACKAGE} are missing: install eva_ros again.')


def resource(*parts: str) -> Path:
    """Return the path of a shared file or folder from its parts, such as 'config' and 'robots'.

    Raises:
        UserError: there is no such file.
    """
    path = share_folder().joinpath(*parts)
    if not path.exists():
        raise UserError(f'{path} does not exist.')
    return path
