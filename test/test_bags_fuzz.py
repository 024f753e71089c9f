"""A quick run of what `make soak-bags` runs twenty thousand times."""

from collections import Counter
import shutil

import bag_cases
import pytest


@pytest.mark.parametrize('begin', range(0, 320, 80))
def test_damage_ends_in_a_partial_result_or_a_sentence(begin):
    found = Counter(bag_cases.run(begin + i) for i in range(80))
    # Something of everything.
    verdicts = {kind.partition(': ')[2] for kind in found}
    assert {'usable', 'partial', 'unusable'} <= verdicts
    assert len({kind.partition(':')[0] for kind in found}) == 4


@pytest.mark.parametrize('form', range(len(bag_cases.FORMS)))
def test_what_is_damaged_was_whole(form, tmp_path):
    bag = bag_cases.original(form)
    assert bag_cases.judge(bag, tmp_path, bag_cases.contents(bag)) == 'usable'
    assert len(bag_cases.contents(bag)) == 89


def test_a_value_that_was_made_up_is_found(tmp_path):
    """The checks themselves can fail."""
    whole = dict(bag_cases.contents(bag_cases.original(0)))
    key = next(iter(whole))
    whole[key] = whole[key] + b'?'
    with pytest.raises(AssertionError, match='1 records are not what was written'):
        bag_cases.judge(bag_cases.original(0), tmp_path, whole)
    with pytest.raises(AssertionError):
        bag_cases.assert_sentence('Traceback: ...')


def test_a_changed_byte_in_a_file_without_an_index_is_not_taken_for_a_value(tmp_path):
    whole = bag_cases.contents(bag_cases.original(0))
    bag = shutil.copytree(bag_cases.original(0), tmp_path / 'bag')
    (file,) = bag.glob('*.mcap')
    data = bytearray(file.read_bytes()[:-40])
    key = next(key for key in whole if key[0] == 'joint_states')
    data[data.index(whole[key]) + 3] ^= 64
    file.write_bytes(data)
    found = bag_cases.contents(bag)
    assert all(whole[key] == value for key, value in found.items())


def test_metadata_that_were_cut_off_and_are_still_yaml_are_a_finding(tmp_path):
    bag = shutil.copytree(bag_cases.original(4), tmp_path / 'bag')
    text = (bag / 'metadata.yaml').read_text()
    (bag / 'metadata.yaml').write_text(text[: text.index('  topics_with_message_count')])
    check = bag_cases.check_bag(bag, bag_cases.ROBOT, bag_cases.VIEW)
    assert check.verdict == 'partial' and 'lacks topics_with_message_count' in check.reasons[0]
