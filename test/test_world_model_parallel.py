"""Several processes that train together end together, with one sentence."""

import pytest

from eva_ros.errors import UserError
from eva_ros.world_model import parallel


def refuse_in_one_process():
    if parallel.process_rank() == 1:
        raise UserError('One sentence.')
    parallel.wait_for_all()


def test_what_one_of_several_processes_refuses_is_said_as_one_sentence():
    with pytest.raises(UserError, match=r'^One sentence\.$'):
        parallel.run_processes(2, refuse_in_one_process)
