"""Long computations say how far they are, and spread over processes."""

import io

import pytest

from eva_ros.progress import Progress
from eva_ros.workers import spread


class Terminal(io.StringIO):
    def isatty(self):
        return True


def double(number):
    if number == 13:
        raise ValueError('thirteen')
    return 2 * number


def test_a_file_gets_a_line_and_a_terminal_a_bar():
    for stream in (io.StringIO(), Terminal()):
        with Progress('bags', 2, stream) as counter:
            counter.advance()
            counter.advance()
        assert ('\x1b' in stream.getvalue()) == stream.isatty()
        assert 'bags' in stream.getvalue() and '2/2' in stream.getvalue()


def test_what_is_printed_meanwhile_stays_on_stdout(capsys):
    with Progress('bags', 1, Terminal()):
        print('{}')
    assert capsys.readouterr().out == '{}\n'


@pytest.mark.parametrize('workers', [1, 2])
def test_every_job_is_done_once(workers):
    found = spread(double, range(5), workers, what='numbers', report=None)
    assert sorted(found) == [0, 2, 4, 6, 8]
    assert list(spread(double, [], workers, what='numbers', report=None)) == []


def test_a_fault_in_another_process_is_raised_here():
    with pytest.raises(ValueError, match='thirteen'):
        list(spread(double, [1, 13], 2, what='numbers', report=None))
