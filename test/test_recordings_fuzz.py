"""A quick run of what `make soak-bags` runs twenty thousand times."""

from collections import Counter
import json
import shutil

import bag_cases
from episode_bags import messages
from episode_bags import record
from episode_bags import Recording
from episode_bags import serialize
import numpy as np
import pytest
from test_interchange_import import version2

from eva_ros.cli.main import main
from eva_ros.recordings.recorded_bag import RecordedBag


@pytest.mark.parametrize('begin', range(0, 320, 80))
def test_damage_ends_in_a_partial_result_or_a_sentence(begin):
    found = Counter(bag_cases.run(begin + i) for i in range(80))
    # Something of everything.
    verdicts = {kind.partition(': ')[2] for kind in found}
    assert {'usable', 'partial', 'unusable'} <= verdicts
    assert len({kind.partition(':')[0] for kind in found}) == 4


@pytest.mark.parametrize('number', [361, 2033, 15_398])
def test_what_the_twenty_thousand_cases_found_stays_mended(number):
    assert bag_cases.run(number) == 'flip: unusable'


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
    whole = bag_cases.contents(bag_cases.original(8))
    bag = shutil.copytree(bag_cases.original(8), tmp_path / 'bag')
    (file,) = bag.glob('*.mcap')
    data = bytearray(file.read_bytes()[:-40])
    key = [key for key in whole if key[0] == 'joint_states'][40]
    data[data.index(whole[key]) + 3] ^= 64
    file.write_bytes(data)
    found = bag_cases.contents(bag)
    assert 0 < len(found) < len(whole)
    assert all(whole[key] == value for key, value in found.items())


def misnamed(path, *, first_chunk=True, metadata=True):
    """Copy the recorder's bag with a wrong letter in the index's name of the joint states."""
    bag = shutil.copytree(bag_cases.original(8), path)
    (file,) = bag.glob('*.mcap')
    data = bytearray(file.read_bytes())
    data[data.rindex(b'/joint_states') + 3] ^= 1
    if not first_chunk:
        data[data.index(b'/joint_states') + 300] ^= 1
    file.write_bytes(data)
    if not metadata:
        (bag / 'metadata.yaml').unlink()
    return bag


@pytest.mark.parametrize('metadata', [True, False])
def test_a_damaged_index_gives_no_topic_another_name(tmp_path, metadata):
    whole = bag_cases.contents(bag_cases.original(8))
    bag = misnamed(tmp_path / 'bag', metadata=metadata)
    assert bag_cases.contents(bag) == whole
    check = bag_cases.check_bag(bag, bag_cases.ROBOT, bag_cases.VIEW)
    assert check.verdict == 'partial' and check.lost_messages == 0
    assert 'has a damaged index at its end: 91 messages' in ' '.join(check.reasons)
    bag = misnamed(tmp_path / 'more', first_chunk=False, metadata=metadata)
    found = bag_cases.contents(bag)
    # The names stand in the first chunk and in the index: the metadata confirm those of cameras.
    assert {topic.partition('/')[0] for topic, _ in found} == (
        {'top', 'left_wrist', 'right_wrist'} if metadata else set()
    )
    assert found.items() <= whole.items()


def test_metadata_that_were_cut_off_and_are_still_yaml_are_a_finding(tmp_path):
    bag = shutil.copytree(bag_cases.original(4), tmp_path / 'bag')
    text = (bag / 'metadata.yaml').read_text()
    (bag / 'metadata.yaml').write_text(text[: text.index('  topics_with_message_count')])
    check = bag_cases.check_bag(bag, bag_cases.ROBOT, bag_cases.VIEW)
    assert check.verdict == 'partial' and 'lacks topics_with_message_count' in check.reasons[0]


@pytest.fixture(scope='module')
def data_sets(tmp_path_factory):
    """Return a LeRobot data set of each version."""
    base = tmp_path_factory.mktemp('data_sets')
    bag = record(base / 'bag', duration_s=0.6)
    cache = ['--cache', str(base / 'cache')]
    assert main(['bags', 'export', str(bag), '--out', str(base / 'v3'), *cache]) == 0
    return version2(base / 'v2'), base / 'v3'


@pytest.mark.parametrize('begin', range(0, 60, 20))
def test_a_damaged_data_set_ends_in_findings_or_a_sentence(data_sets, tmp_path, capsys, begin):
    for number in range(begin, begin + 20):
        rng = np.random.default_rng([number, 9])
        source = shutil.copytree(data_sets[number % 2], tmp_path / f'set_{number}')
        files = sorted(path for path in source.rglob('*') if path.is_file())
        file = files[rng.integers(len(files))]
        data, kind = bytearray(file.read_bytes()), ('cut', 'flip', 'number', 'block')[number % 4]
        if kind == 'cut':
            del data[int(rng.integers(len(data))) :]
        for _ in range(0 if kind == 'cut' else int(rng.integers(1, 9))):
            bag_cases.change(data, kind, rng)
        file.write_bytes(data)
        out = tmp_path / f'bags_{number}'
        with bag_cases.bounded():
            code = main(['bags', 'import', str(source), '--out', str(out), '--json'])
        said = capsys.readouterr()
        if code == 2:
            bag_cases.assert_sentence(said.err.strip())
            assert str(source) in said.err
        else:
            assert all(map(len, json.loads(said.out)['findings']))


def test_one_damaged_chunk_does_not_cost_what_is_behind_it(tmp_path):
    content = messages(Recording(duration_s=4.0, marked=False))
    bag = RecordedBag(tmp_path / 'bag', {})
    for topic, kind in {entry[1]: entry[2] for entry in content}.items():
        bag.add_topic(topic, kind)
    for index, (stamp_ns, topic, kind, fields) in enumerate(content):
        bag.write(topic, stamp_ns, serialize(kind, stamp_ns, fields))
        if index % 25 == 24:
            bag.flush()
    bag.close({})
    whole = bag_cases.contents(tmp_path / 'bag')
    (file,) = (tmp_path / 'bag').glob('*.mcap')
    data = bytearray(file.read_bytes())
    key = [key for key in whole if key[0] == 'joint_states'][180]
    data[data.index(whole[key]) + 3] ^= 64
    file.write_bytes(data)
    found = bag_cases.contents(tmp_path / 'bag')
    assert len(whole) - 25 <= len(found) < len(whole) and found.items() <= whole.items()
    check = bag_cases.check_bag(tmp_path / 'bag', bag_cases.ROBOT, bag_cases.VIEW)
    assert check.verdict == 'partial' and sum(e['frames'] for e in check.episodes) >= 30
    assert 'The first damage is at byte' in ' '.join(check.reasons)
    assert check.lost_messages == len(whole) - len(found)


def test_a_definition_with_a_wrong_letter_is_said_and_costs_nothing(tmp_path):
    bag = shutil.copytree(bag_cases.original(0), tmp_path / 'bag')
    (file,) = bag.glob('*.mcap')
    file.write_bytes(file.read_bytes().replace(b'string format', b'string formau'))
    whole = bag_cases.contents(bag_cases.original(0))
    assert bag_cases.judge(bag, tmp_path, whole) == 'partial'
    assert bag_cases.contents(bag) == whole
    check = bag_cases.check_bag(bag, bag_cases.ROBOT, bag_cases.VIEW)
    assert "definition of 'sensor_msgs/msg/CompressedImage' is damaged" in ' '.join(check.reasons)
