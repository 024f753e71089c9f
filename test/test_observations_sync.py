"""As-of lookup: the newest that is not after an instant, whatever order samples come in."""

from hypothesis import given
from hypothesis import strategies as st

from eva_ros.observations.sync import AsOfBuffer

MS = 1_000_000


@given(
    stamps=st.lists(st.integers(0, 900), min_size=1, max_size=60),
    asked=st.integers(-10, 1000),
)
def test_as_of_is_the_newest_not_after_and_never_later(stamps, asked):
    buffer = AsOfBuffer()
    for stamp in stamps:
        assert buffer.add(stamp * MS, stamp) == 0
    earlier = [stamp for stamp in stamps if stamp <= asked]
    later = [stamp for stamp in stamps if stamp > asked]
    found, after = buffer.at(asked * MS), buffer.after(asked * MS)
    assert (found and found.value) == (max(earlier) if earlier else None)
    assert (after and after.value) == (min(later) if later else None)


def test_of_equal_stamps_the_last_one_counts():
    buffer = AsOfBuffer()
    buffer.add(5, 'first')
    buffer.add(5, 'second')
    assert buffer.at(5).value == 'second'


def test_memory_is_constant():
    buffer = AsOfBuffer()
    for index in range(10_000):
        buffer.add(index * 10 * MS, index)
    assert 200 <= len(buffer) <= 202
    assert buffer.at((9_999 * 10 - 2000) * MS).value == 9_799
    fast = AsOfBuffer()
    for index in range(10_000):
        fast.add(index, index)
    assert len(fast) == 4096


def test_a_slow_stream_keeps_its_newest_sample():
    buffer = AsOfBuffer()
    for second in (0, 10, 20):
        buffer.add(second * 1000 * MS, second)
    assert buffer.at(19_000 * MS).value == 10 and buffer.newest.value == 20


def test_a_clock_that_was_set_back_is_noticed_and_the_past_forgotten():
    buffer = AsOfBuffer()
    buffer.add(50_000 * MS, 'old')
    buffer.add(49_500 * MS, 'late')
    assert len(buffer) == 2
    assert buffer.add(1_000 * MS, 'new') == 49_000 * MS
    assert len(buffer) == 1 and buffer.at(60_000 * MS).value == 'new'
