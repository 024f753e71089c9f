"""The `eva` command: find the sub-command, parse its arguments, run it.

Each module of this folder that defines HELP is a sub-command with `HELP: str`,
`add_arguments(parser)` and `run(args) -> int`. Only the chosen module is imported.

Exit codes: 0 success, 1 findings, 2 wrong usage or bad input (one sentence on stderr).
With --json, stdout holds only JSON.
"""

import argparse
import ast
from collections.abc import Sequence
import errno
import importlib
import importlib.metadata
import os
from pathlib import Path
import sys
from types import ModuleType
from typing import Any
from typing import NoReturn

import eva_ros.cli
from eva_ros.errors import UserError
from eva_ros.ros.installed import missing

FINDINGS = 1
WRONG_USE = 2
INTERRUPTED = 130
# Errors of the file system that are not bugs of this package, even if they name no file.
_DISK = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)


class _SubCommands(argparse._SubParsersAction):
    """Sub-commands that reject options before their name.

    Those belong to the parent command. argparse would silently drop them, or replace them by the
    sub-command's own defaults.
    """

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        """Parse the arguments after a sub-command's name."""
        before = parser.given[: len(parser.given) - len(values)]
        for argument in before:
            if argument.startswith('-'):
                parser.error(f"give {argument} after '{values[0]}'")
        super().__call__(parser, namespace, values, option)


class Parser(argparse.ArgumentParser):
    """An argument parser with one-sentence errors and without abbreviated options."""

    def __init__(self, **options: Any) -> None:
        # Abbreviated, `--mode` would be taken for `--models`. Sub-parsers are of this class, too.
        super().__init__(allow_abbrev=False, **options)
        self.given: list[str] = []
        self.register('action', 'parsers', _SubCommands)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments, and remember them for the sub-commands."""
        self.given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Report an unknown option whose value argparse mistakes for a sub-command."""
        if isinstance(action, _SubCommands) and value not in action.choices:
            for argument in self.given[: self.given.index(value)]:
                name = argument.partition('=')[0]
                if name.startswith('--') and name not in self._option_string_actions:
                    self.error(f'unrecognized arguments: {argument}')
        super()._check_value(action, value)

    def error(self, message: str) -> NoReturn:
        """Print the error and where to read more, then exit with 2."""
        self.exit(WRONG_USE, f'{self.prog}: {message} (see {self.prog} --help)\n')


def subcommands() -> dict[str, str]:
    """Return the help line of every sub-command by its name, without importing any."""
    found = {}
    for folder in eva_ros.cli.__path__:
        for path in sorted(Path(folder).glob('*.py')):
            help_line = _help_line(path)
            if help_line is not None:
                found[path.stem.replace('_', '-')] = help_line
    return found


def _help_line(path: Path) -> str | None:
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        names = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(name, ast.Name) and name.id == 'HELP' for name in names):
            return ast.literal_eval(node.value)
    return None


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(f'eva_ros.cli.{name.replace("-", "_")}')
    except ImportError as error:
        raise UserError(missing(error)) from error


def build_parser(chosen: str | None) -> Parser:
    """Return the parser of `eva`, with the arguments of the chosen sub-command."""
    parser = Parser(
        prog='eva',
        description='EVA for ROS 2: dream, decode, check, move; train and evaluate offline.',
    )
    version = importlib.metadata.version('eva_ros')
    parser.add_argument('--version', action='version', version=f'eva_ros {version}')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, help_line in subcommands().items():
        command = commands.add_parser(name, help=help_line, description=help_line)
        if name == chosen:
            _import(name).add_arguments(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `eva` and return its exit code.

    Args:
        argv: Arguments after `eva`; default sys.argv.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((argument for argument in arguments if not argument.startswith('-')), None)
    try:
        args = build_parser(chosen).parse_args(arguments)
        return _run(args)
    except UserError as error:
        print(f'eva: {error}', file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        print('eva: interrupted', file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout has gone; redirect it so that Python exits without an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINDINGS
    except OSError as error:
        if error.filename is None and error.errno not in _DISK:
            raise
        print(f'eva: {error.filename or "A file"}: {error.strerror}.', file=sys.stderr)
        return WRONG_USE


def _run(args: argparse.Namespace) -> int:
    try:
        code = _import(args.command).run(args)
        sys.stdout.flush()
        return code
    except ImportError as error:
        raise UserError(missing(error)) from error


if __name__ == '__main__':
    sys.exit(main())
