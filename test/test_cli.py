"""The `eva` command: sub-commands are found, asked for alone, and complain in one sentence."""

import os
import subprocess
import sys

import pytest

import eva_ros.cli
from eva_ros.cli.main import main
from eva_ros.robot.spec import load_robot

COMMAND = """
HELP = 'Does what the test says.'


def add_arguments(parser):
    parser.add_argument('--count', type=int, required=True)


def run(args):
    {body}
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Return a function that adds a sub-command made of a name and a body."""
    monkeypatch.setattr(eva_ros.cli, '__path__', [*eva_ros.cli.__path__, str(tmp_path)])

    def add(name, body, first_line=''):
        monkeypatch.delitem(sys.modules, f'eva_ros.cli.{name}', raising=False)
        (tmp_path / f'{name}.py').write_text(first_line + '\n' + COMMAND.format(body=body))

    return add


def sentence(capsys):
    """Return the one line on stderr."""
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == ''
    return line


def exit_code(*arguments):
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code


def test_the_exit_code_is_the_sub_commands(command):
    command('made_up', 'return args.count')
    assert main(['made-up', '--count', '1']) == 1
    assert main(['made-up', '--count', '0']) == 0


def test_help_lists_a_sub_command_without_importing_it(command, capsys):
    command('broken', 'return 0', first_line='raise RuntimeError("imported")')
    assert exit_code('--help') == 0
    assert 'broken' in capsys.readouterr().out


def test_a_sub_command_is_not_disturbed_by_another(command):
    command('broken', 'return 0', first_line='raise RuntimeError("imported")')
    command('whole', 'return 0')
    assert main(['whole', '--count', '1']) == 0


def test_bad_input_is_one_sentence_and_code_2(command, capsys):
    command('made_up', "from eva_ros.errors import UserError; raise UserError('No such bag.')")
    assert exit_code('made-up', '--count', '1') == 2
    assert sentence(capsys) == 'eva: No such bag.'


@pytest.mark.parametrize(
    'arguments, expected',
    [
        ([], 'COMMAND'),
        (['no-such-command'], 'no-such-command'),
        (['made-up'], '--count'),
        (['made-up', '--count', 'many'], 'many'),
    ],
)
def test_wrong_use_is_one_sentence_and_code_2(command, capsys, arguments, expected):
    command('made_up', 'return 0')
    assert exit_code(*arguments) == 2
    assert expected in sentence(capsys)


@pytest.mark.parametrize('where', ['first_line', 'body'])
def test_a_missing_package_is_one_sentence_and_code_2(command, capsys, where):
    parts = {'body': 'return 0', 'first_line': '', where: 'import no_such_package'}
    command('made_up', parts['body'], first_line=parts['first_line'])
    assert exit_code('made-up', '--count', '1') == 2
    assert "'no_such_package'" in sentence(capsys)


def test_a_fault_of_our_own_keeps_its_traceback(command):
    command('made_up', 'import eva_ros.no_such_module')
    with pytest.raises(ModuleNotFoundError):
        main(['made-up', '--count', '1'])


def test_a_disk_that_takes_no_more_is_one_sentence(command, capsys):
    command('made_up', "import errno; raise OSError(errno.ENOSPC, 'No space left', '/data/x')")
    assert exit_code('made-up', '--count', '1') == 2
    assert sentence(capsys) == 'eva: /data/x: No space left.'


def test_a_place_that_cannot_be_written_is_one_sentence(command, capsys, tmp_path):
    command('made_up', f"open('{tmp_path}/gone/robot.yaml', 'w')")
    assert exit_code('made-up', '--count', '1') == 2
    assert sentence(capsys) == f'eva: {tmp_path}/gone/robot.yaml: No such file or directory.'


def test_a_name_that_is_too_long_is_one_sentence(capsys, tmp_path):
    urdf, out = load_robot('aloha_sim').urdf, tmp_path / f'{"x" * 300}.yaml'
    assert exit_code('robot', 'init', '--urdf', str(urdf), '--out', str(out)) == 2
    assert sentence(capsys) == f'eva: {out}: File name too long.'


def test_a_fault_that_names_no_file_keeps_its_traceback(command):
    command('made_up', "raise OSError('a fault of our own')")
    with pytest.raises(OSError, match='a fault of our own'):
        main(['made-up', '--count', '1'])


def test_an_interrupt_is_code_130(command, capsys):
    command('made_up', 'raise KeyboardInterrupt')
    assert exit_code('made-up', '--count', '1') == 130
    assert sentence(capsys) == 'eva: interrupted'


def test_a_closed_pipe_is_quiet():
    program = (
        'import sys; from eva_ros.cli import main as m; '
        "m._run = lambda args: print('x' * 1_000_000) or 0; sys.exit(m.main(sys.argv[1:]))"
    )
    name = next(iter(_real_names()))
    command = [sys.executable, '-c', program, name]
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert 'Traceback' not in result.stderr
    assert 'BrokenPipe' not in result.stderr


def _real_names():
    from eva_ros.cli.main import subcommands

    return subcommands()


def test_every_real_sub_command_prints_its_help():
    names = _real_names()
    assert names
    for name in names:
        command = [sys.executable, '-m', 'eva_ros.cli.main', name, '--help']
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith(f'usage: eva {name}')
