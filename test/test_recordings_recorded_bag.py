"""A bag that is being recorded is there whole, or as far as it came, or not at all."""

import pytest

from eva_ros.errors import UserError
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.recorded_bag import RecordedBag
from eva_ros.recordings.typestore import typestore

TEXT = 'std_msgs/msg/String'


def test_a_topic_of_an_unknown_type_leaves_no_half_made_bag_behind(tmp_path):
    bag = RecordedBag(tmp_path / 'bag', {})
    bag.add_topic('/text', TEXT)
    with pytest.raises(UserError, match="'/force': its type 'gripper_msgs/msg/Force'"):
        bag.add_topic('/force', 'gripper_msgs/msg/Force')
    assert not list(tmp_path.iterdir())
    RecordedBag(tmp_path / 'bag', {}).add_topic('/text', TEXT)


def test_a_topic_of_an_unknown_type_costs_no_message_that_was_written_before(tmp_path):
    bag = RecordedBag(tmp_path / 'bag', {})
    bag.add_topic('/text', TEXT)
    message = typestore().types[TEXT](data='wave')
    bag.write('/text', 10**9, bytes(typestore().serialize_cdr(message, TEXT)))
    with pytest.raises(UserError):
        bag.add_topic('/force', 'gripper_msgs/msg/Force')
    bag.close({})
    with BagReader(tmp_path / 'bag') as reader:
        assert [record.text for record in reader.records()] == ['wave']
