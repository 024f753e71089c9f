"""Which version of this package is running."""

from importlib import metadata
from pathlib import Path
import subprocess

_ROOT = Path(__file__).resolve().parents[2]


def version() -> str:
    """Return what git calls the checkout, or else the version of the installed package."""
    command = ['git', '-C', str(_ROOT), 'describe', '--always', '--dirty', '--abbrev=12']
    if (_ROOT / '.git').exists():
        try:
            found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
            return f'git {found.stdout.strip()}'
        except (OSError, subprocess.SubprocessError):
            pass
    try:
        return f'eva_ros {metadata.version("eva_ros")}'
    except metadata.PackageNotFoundError:
        return 'unknown'
