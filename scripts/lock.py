"""Resolve requirements/lock.in into requirements/lock.txt: `make lock`.

One file for Python 3.10 to 3.12. The CUDA libraries that the registry's default torch asks for
are left out: `make setup` chooses the torch that fits the machine, with what that one needs.
"""

from pathlib import Path
import re
import subprocess
import sys

REQUIREMENTS = Path(__file__).resolve().parents[1] / 'requirements'
HEADER = '# Made by `make lock` from lock.in; do not edit.\n'
CUDA = re.compile(r'^(triton|nvidia-|cuda-)')
# True wherever the lock is used; only what depends on the Python version is kept.
ALWAYS = re.compile(
    r"""(\ and)?\ (platform_machine\ ==\ 'x86_64'
    |sys_platform\ ==\ 'linux'
    |platform_python_implementation\ !=\ 'PyPy'
    |python_full_version\ <\ '3\.13')""",
    re.VERBOSE,
)


def resolve() -> list[str]:
    """Return the resolved lines for every supported Python."""
    wheels = [f'--only-binary={name}' for name in ('numpy', 'scipy', 'pin', 'hpp-fcl')]
    command = [
        Path(sys.executable).parent / 'uv', 'pip', 'compile', '--quiet', '--universal',
        '--python-version', '3.10', '--no-annotate', '--no-header', *wheels,
        *sys.argv[1:], REQUIREMENTS / 'lock.in',
    ]  # fmt: skip
    return subprocess.run(
        command, check=True, text=True, stdout=subprocess.PIPE, cwd=REQUIREMENTS.parent
    ).stdout.splitlines()


def simplify(line: str) -> str:
    """Return a resolved line without the conditions that always hold."""
    requirement, _, condition = line.partition(' ;')
    rest = ALWAYS.sub('', condition).removeprefix(' and').strip()
    return f'{requirement} ; {rest}' if rest else requirement


def main() -> None:
    """Write the lock."""
    lines = [simplify(line) for line in resolve() if not CUDA.match(line)]
    (REQUIREMENTS / 'lock.txt').write_text(HEADER + '\n'.join(lines) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
