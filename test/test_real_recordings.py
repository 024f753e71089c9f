"""The commands of docs/real_recordings.md, on two attempts of the real two-arm recording."""

import json
import shutil

import pytest

from eva_ros.cli.main import main

TEXT = 'hand the tape from the left arm to the right arm'


@pytest.fixture
def recording(repository, tmp_path):
    """Give two attempts of the recording as a data set of its own, or skip."""
    source = repository.parent / 'shared' / 'recordings' / 'biso101_moving_tape'
    if not source.is_dir():
        pytest.skip(f'{source} is not here')
    copy = tmp_path / 'biso101_moving_tape'
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns('*1.*', '*2.*', '*3.*'))
    for name in ('episodes.jsonl', 'episodes_stats.jsonl'):
        path = copy / 'meta' / name
        path.chmod(0o644)
        lines = path.read_text().splitlines()
        path.write_text(f'{lines[0]}\n{lines[4]}\n')
    return copy


def run(capsys, *arguments, code=0):
    """Run `eva` and return what it prints."""
    assert main([str(argument) for argument in arguments]) == code
    return capsys.readouterr().out


@pytest.mark.slow
def test_a_real_recording_becomes_bags_a_view_and_models_by_commands_alone(
    recording, tmp_path, capsys
):
    bags, view = tmp_path / 'bags', tmp_path / 'view.yaml'
    said = run(capsys, 'bags', 'import', recording, '--out', bags, '--robot', 'so101_dual',
               '--instruction', TEXT, code=1)  # fmt: skip
    assert "'observation.images.top': " in said and 'is the lens covered?' in said
    run(capsys, 'view', 'init', '--robot', 'so101_dual', '--cameras', 'left', 'right', '--height',
        32, '--out', view)  # fmt: skip
    world = ('--robot', 'so101_dual', '--view', view, '--cache', tmp_path / 'cache')
    taught = ('--bags', bags / 'biso101_moving_tape-00000', *world)
    judged = ('--bags', bags / 'biso101_moving_tape-00004', *world)
    idm, model = tmp_path / 'idm', tmp_path / 'world_model'
    run(capsys, 'idm', 'train', *taught, '--held-out', 0, '--steps', 2, '--batch', 2, '--out', idm)
    read = json.loads(run(capsys, 'idm', 'evaluate', *judged, '--all', '--checkpoint', idm,
                          '--training-bags', taught[1], '--json'))  # fmt: skip
    # LeRobot's 200 units are the whole range of a joint, 100 that of a gripper.
    for joint, error in read['nearest_frame_error_as_recorded'].items():
        share = read['nearest_frame_error_of_range'][joint]['mean']
        span = 100 if joint.endswith('gripper') else 178 if 'roll' in joint else 200
        assert error['mean'] == pytest.approx(span * share, rel=0.01)
        assert 0 < share < 0.3
    assert set(read['mean_pose_error']) == set(read['joint_error'])
    small = ('--steps', 2, '--batch', 2, '--width', 64, '--layers', 1, '--processes', 1)
    run(capsys, 'world-model', 'train', *taught, *small, '--out', model)
    one = ('--clips', 1, '--steps', 1, '--training-bags', taught[1], '--json')
    dreamed = json.loads(run(capsys, 'world-model', 'evaluate', *judged, '--world-model', model,
                             '--idm', idm, *one))  # fmt: skip
    assert dreamed['clips'] == 1 and dreamed['nearest_clip_psnr_moving']['mean'] > 5
    assert dreamed['executability']['mean'] > 0
