"""The benchmarks measure what they say; how long it takes is not for a test to judge."""

import json
import os
from pathlib import Path
import subprocess
import sys

import pytest
import ros_harness  # noqa: F401
import torch

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


@pytest.mark.slow
@pytest.mark.parametrize('family', ['wan2.1-i2v', 'wan2.2-ti2v', 'wan2.2-a14b'])
def test_the_benchmark_of_a_gpu_runs_with_one_narrow_layer(family):
    options = ('--family', family, '--steps', '1', '--rank', '2', '--size', '32', '32', '5')
    first, *rows = printed('gpu.py', '--tiny', *options).splitlines()
    assert first.endswith(f'{family} 32 32 5')
    measured = ('weights', 'dream, 1 steps', 'LoRA step, rank 2, one clip')
    assert [row[:40].strip() for row in rows] == list(measured)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_its_benchmark_says_that_it_was_not_run():
    assert printed('gpu.py') == 'not run: this machine has no GPU\n'
