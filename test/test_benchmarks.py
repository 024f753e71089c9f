"""The benchmarks measure what they say; how long it takes is not for a test to judge."""

import json
import os
from pathlib import Path
import subprocess
import sys

import pytest
import ros_harness  # noqa: F401

BENCHMARKS = Path(__file__).resolve().parents[1] / 'benchmarks'


def printed(name, *options):
    """Return what a benchmark prints."""
    command = [sys.executable, str(BENCHMARKS / name), *options]
    done = subprocess.run(
        command, env=dict(os.environ), text=True, stdout=subprocess.PIPE, check=True, timeout=500
    )
    return done.stdout


@pytest.mark.slow
def test_the_latency_from_camera_to_trajectory_is_given_as_a_multiple_of_one_hop():
    found = json.loads(printed('latency.py', '--turns', '3', '--json'))
    assert found['turns'] == 3
    for name in ('p50', 'p99'):
        whole, later = found[name], found[f'{name}_from_tick']
        assert 0.0 < whole['hop_s'] < whole['latency_s']
        assert 0.0 < later['latency_s'] <= whole['latency_s']
        assert whole['ratio'] == pytest.approx(whole['latency_s'] / whole['hop_s'])
        assert whole['interval'][0] <= whole['ratio'] <= whole['interval'][1]
    assert min(found['median_s'].values()) > 0.0
