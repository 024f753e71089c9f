"""Wan checkpoints in a local folder: the reference's latents, adapters, placement, refusals."""

import json
from pathlib import Path
import runpy
import shutil
from types import SimpleNamespace

from diffusers import FlowMatchEulerDiscreteScheduler
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
import pytest
from safetensors.torch import load_file
from safetensors.torch import save_file
import torch
from wan_folders import FAMILIES
from wan_folders import FRAMES
from wan_folders import HEIGHT
from wan_folders import INSTRUCTION
from wan_folders import picture
from wan_folders import reference_latents
from wan_folders import wan_pipeline
from wan_folders import WIDTH

from eva_ros.cli.main import main
from eva_ros.errors import NotFiniteError
from eva_ros.errors import UserError
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import World
from eva_ros.training.manifest import write_manifest
from eva_ros.world_model import load_world_model
from eva_ros.world_model import memory
from eva_ros.world_model.adapters import load_adapter
from eva_ros.world_model.adapters import merge_adapter
from eva_ros.world_model.adapters import scale_adapter
from eva_ros.world_model.adapters import without_adapter
from eva_ros.world_model.folder import read_folder

VIEW = SimpleNamespace(
    name='tiny', height=HEIGHT, width=WIDTH, rate_hz=10.0, frames=FRAMES, cameras=[]
)
SIZES = {'wan2.1-i2v': (4, 8), 'wan2.2-ti2v': (8, 16), 'wan2.2-a14b': (4, 8)}


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Return a pipeline of each family and the folder that it was saved in."""
    place = tmp_path_factory.mktemp('wan')
    pipelines = {family: wan_pipeline(family) for family in FAMILIES}
    for family, pipeline in pipelines.items():
        pipeline.save_pretrained(place / family)
    return {family: (pipeline, place / family) for family, pipeline in pipelines.items()}


def noise(family, count=1):
    channels, size = SIZES[family]
    shape = (count, channels, (FRAMES - 1) // 4 + 1, HEIGHT // size, WIDTH // size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def views(count=1):
    frame = torch.from_numpy(picture()).permute(2, 0, 1)[None] / 255.0
    return frame.repeat(count, 1, 1, 1)


def dreamed(model, family, count=1, **options):
    options = {'steps': 3, **options}
    return model.sample_latents(
        views(count), [INSTRUCTION] * count, noise(family, count), **options
    )


def assert_same(latents, expected):
    scale = float(expected.max() - expected.min())
    assert scale > 0.5
    assert float((latents - expected).abs().max()) < 1e-4 * scale


@pytest.mark.parametrize('family', FAMILIES)
def test_latents_are_those_of_the_pipeline_of_diffusers(folders, family):
    pipeline, folder = folders[family]
    model = load_world_model(folder)
    found = {}
    for sampler in ('euler', 'unipc'):
        for guidance in (1.0, 4.0):
            latents = dreamed(model, family, 2, sampler=sampler, guidance_scale=guidance)
            expected = reference_latents(
                pipeline, noise(family, 2), sampler=sampler, guidance=guidance
            )
            assert_same(latents, expected)
            found[sampler, guidance] = latents
    assert not torch.allclose(found['euler', 1.0], found['euler', 4.0], atol=1e-3)
    assert not torch.allclose(found['euler', 1.0], found['unipc', 1.0], atol=1e-3)


@pytest.mark.parametrize('family', FAMILIES)
def test_views_and_instructions_of_a_batch_may_differ(folders, family):
    model = load_world_model(folders[family][1])
    frames = torch.cat((views(), 1.0 - views()))
    words = [INSTRUCTION, 'touch the cube']
    both = model.sample_latents(frames, words, noise(family, 2), steps=2, guidance_scale=2.0)
    for i in range(2):
        one = model.sample_latents(
            frames[i : i + 1], words[i : i + 1], noise(family, 2)[i : i + 1], steps=2,
            guidance_scale=2.0,
        )  # fmt: skip
        assert_same(both[i : i + 1], one)


def test_a_folder_with_the_euler_scheduler_keeps_its_shift_for_unipc(folders, tmp_path):
    pipeline, folder = folders['wan2.2-ti2v']
    shutil.copytree(folder, tmp_path / 'euler')
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(tmp_path / 'euler' / 'scheduler')
    model = load_world_model(tmp_path / 'euler')
    for sampler in ('euler', 'unipc'):
        expected = reference_latents(pipeline, noise('wan2.2-ti2v'), sampler=sampler, guidance=1.0)
        assert_same(dreamed(model, 'wan2.2-ti2v', sampler=sampler), expected)


def test_the_benchmark_of_candidates_times_the_same_dreams(tmp_path):
    path = Path(__file__).resolve().parents[1] / 'benchmarks' / 'world_models.py'
    bench = runpy.run_path(str(path))
    pipeline = bench['embedded_ti2v']()
    pipeline.save_pretrained(tmp_path)
    medians, apart = bench['compare'](pipeline, tmp_path, candidates=8, steps=2, repeats=1)
    assert set(medians) == {'ours', 'one call', 'a call each'}
    assert max(apart.values()) < 1e-4


def test_weights_in_shards_are_read_whole(folders, tmp_path):
    pipeline, folder = folders['wan2.2-ti2v']
    shutil.copytree(folder, tmp_path / 'wan')
    shutil.rmtree(tmp_path / 'wan' / 'transformer')
    pipeline.transformer.save_pretrained(tmp_path / 'wan' / 'transformer', max_shard_size='20KB')
    assert len(list((tmp_path / 'wan' / 'transformer').glob('*.safetensors'))) > 1
    count = sum(weight.numel() for weight in pipeline.transformer.parameters())
    assert read_folder(tmp_path / 'wan').parts['transformer'].parameters == count
    model = load_world_model(tmp_path / 'wan')
    expected = reference_latents(pipeline, noise('wan2.2-ti2v'), sampler='euler', guidance=1.0)
    assert_same(dreamed(model, 'wan2.2-ti2v'), expected)


def adapter(transformer, seed):
    """Add an adapter with random weights to a transformer and return its weights."""
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=['to_q', 'to_k', 'to_v', 'to_out.0'])
    transformer.add_adapter(config, adapter_name='default')
    weights = get_peft_model_state_dict(transformer, adapter_name='default')
    for name, weight in weights.items():
        if 'lora_B' in name:
            weights[name] = weight.copy_(0.3 * torch.randn_like(weight))
    return weights, config


@pytest.mark.parametrize('family', FAMILIES)
def test_an_adapter_does_what_it_does_in_the_pipeline_on_scaled_merged_and_off(family, tmp_path):
    pipeline = wan_pipeline(family)
    pipeline.save_pretrained(tmp_path / 'base')
    options = {'sampler': 'euler', 'guidance': 1.0}
    off = reference_latents(pipeline, noise(family), **options)
    adapter(pipeline.transformer, 1)
    pipeline.transformer.save_lora_adapter(tmp_path / 'lora', adapter_name='default')
    transformers = [pipeline.transformer]
    if family == 'wan2.2-a14b':
        adapter(pipeline.transformer_2, 2)
        pipeline.transformer_2.save_lora_adapter(
            tmp_path / 'lora',
            adapter_name='default',
            weight_name='pytorch_lora_weights_2.safetensors',
        )
        transformers.append(pipeline.transformer_2)
    on = reference_latents(pipeline, noise(family), **options)
    for transformer in transformers:
        transformer.set_adapters('default', 0.5)
    half = reference_latents(pipeline, noise(family), **options)
    assert not torch.allclose(on, off, atol=1e-2)
    model = load_world_model(tmp_path / 'base', lora=tmp_path / 'lora')
    assert_same(dreamed(model, family), on)
    with without_adapter(model):
        assert_same(dreamed(model, family), off)
    scale_adapter(model, 0.5)
    assert_same(dreamed(model, family), half)
    scale_adapter(model, 1.0)
    merge_adapter(model)
    assert_same(dreamed(model, family), on)
    assert not any('lora' in name for name, _ in model.named_parameters())


def test_an_adapter_saved_by_the_pipeline_is_loaded(folders, tmp_path):
    pipeline = wan_pipeline('wan2.2-ti2v')
    weights, config = adapter(pipeline.transformer, 1)
    about = {
        **config.to_dict(), 'target_modules': sorted(config.target_modules)
    }  # fmt: skip
    pipeline.save_lora_weights(
        tmp_path, transformer_lora_layers=weights, transformer_lora_adapter_metadata=about
    )
    expected = reference_latents(pipeline, noise('wan2.2-ti2v'), sampler='euler', guidance=1.0)
    model = load_world_model(folders['wan2.2-ti2v'][1], lora=tmp_path)
    assert_same(dreamed(model, 'wan2.2-ti2v'), expected)


def test_an_adapter_of_another_base_is_refused(folders, tmp_path):
    model = load_world_model(folders['wan2.2-ti2v'][1])
    wide = wan_pipeline('wan2.2-ti2v', ffn_dim=64, num_attention_heads=3)
    adapter(wide.transformer, 1)
    wide.transformer.save_lora_adapter(tmp_path / 'wide', adapter_name='default')
    with pytest.raises(UserError, match=r'has the shape .* it belongs to another model'):
        load_adapter(model, tmp_path / 'wide')
    own = wan_pipeline('wan2.2-ti2v')
    adapter(own.transformer, 1)
    own.transformer.save_lora_adapter(tmp_path / 'own', adapter_name='default')
    for about, sentence in (
        ({'world_model': 'other'}, 'was trained on the world model other, not on wan2.2-ti2v'),
        ({'world_model': 'wan2.2-ti2v', 'base': 'f' * 16}, 'on other weights of wan2.2-ti2v than'),
    ):
        write_manifest(tmp_path / 'own', Manifest('adapter', World(), about))
        with pytest.raises(UserError, match=sentence):
            load_adapter(model, tmp_path / 'own')
    about = {'world_model': 'wan2.2-ti2v', 'base': model.base}
    write_manifest(tmp_path / 'own', Manifest('adapter', World(), about))
    load_adapter(model, tmp_path / 'own')


@pytest.mark.parametrize('family', FAMILIES)
def test_a_dream_keeps_its_view_and_candidates_are_those_of_their_seeds(folders, family):
    model = load_world_model(folders[family][1], VIEW)
    both = model.candidates(picture(), INSTRUCTION, [3, 4], steps=2)
    assert [rollout.seed for rollout in both] == [3, 4]
    for rollout in both:
        alone = model.dream(picture(), INSTRUCTION, seed=rollout.seed, steps=2)
        assert rollout.frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
        assert (rollout.frames[0] == picture()).all()
        assert abs(rollout.frames.astype(int) - alone.frames).max() <= 1
    assert (both[0].frames != both[1].frames).any()


def test_frames_are_those_of_the_pipeline(folders):
    pipeline, folder = folders['wan2.2-ti2v']
    model = load_world_model(folder, VIEW)
    latents = dreamed(model, 'wan2.2-ti2v')
    condition = model.condition(views(), [INSTRUCTION])
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1, 1)
        for values in (pipeline.vae.config.latents_mean, pipeline.vae.config.latents_std)
    )
    with torch.no_grad():
        video = pipeline.vae.decode(latents * std + mean, return_dict=False)[0]
        frames = model.decode(latents, condition)
    expected = (video.transpose(1, 2) / 2 + 0.5)[:, 1:]
    torch.testing.assert_close(frames[:, 1:], expected, atol=1e-5, rtol=0)
    assert torch.equal(frames[:, 0], views())


def test_a_dream_of_broken_latents_is_not_given_out(folders):
    model = load_world_model(folders['wan2.2-ti2v'][1], VIEW)
    latents = noise('wan2.2-ti2v')
    latents[0, 0, 1, 0, 0] = float('nan')
    with pytest.raises(NotFiniteError, match=r"1 of .* values of 'latents' is not finite"):
        model.decode(latents, model.condition(views(), [INSTRUCTION]))


@pytest.mark.parametrize(
    'placement',
    [
        {'dtype': 'bfloat16', 'tiling': True},
        {'dtype': 'bfloat16', 'offload': True},
        {'dtype': 'bfloat16', 'layerwise_casting': True},
    ],
)
def test_weights_are_held_as_eva_json_says(folders, placement, tmp_path):
    family = 'wan2.2-a14b'
    shutil.copytree(folders[family][1], tmp_path / 'wan')
    settings = {'name': 'wan', 'frames': FRAMES, 'steps': 2}
    world = World(robot='any', view='tiny', height=HEIGHT, width=WIDTH, rate_hz=10.0)
    details = {'settings': settings, 'placement': placement}
    write_manifest(tmp_path / 'wan', Manifest('world_model', world, details))
    model = load_world_model(tmp_path / 'wan')
    stored = model.transformer.blocks[0].ffn.net[2].weight.dtype
    float8 = placement.get('layerwise_casting')
    assert stored == (torch.float8_e4m3fn if float8 else torch.bfloat16)
    assert model.vae.use_tiling == placement.get('tiling', False)
    exact = load_world_model(folders[family][1])
    expected = dreamed(exact, family)
    off = (dreamed(model, family) - expected).abs().mean()
    assert off < (0.2 if float8 else 0.05) * expected.abs().mean()
    assert model.dream(picture(), INSTRUCTION, seed=1).frames.shape[0] == FRAMES
    details['placement'] = {'device': 'moon'}
    write_manifest(tmp_path / 'wan', Manifest('world_model', world, details))
    with pytest.raises(UserError, match=r'placement that this version does not know \(device\)'):
        load_world_model(tmp_path / 'wan')


@pytest.mark.parametrize(
    ('instruction', 'sentence'),
    [
        ('', 'The instruction is empty'),
        (' \n', 'The instruction is empty'),
        ('lift the cube ' * 720, r'10080 characters, which are 2161 tokens: shorten it to 512'),
        (
            'lift the 立方体',
            "has '立方体', which the text encoder of wan2.2-ti2v has no tokens for",
        ),
        ('x' * 10_000, r'^The instruction has 10000 characters: shorten it to 512 tokens\.$'),
    ],
)
def test_an_instruction_that_cannot_be_encoded_is_refused(folders, instruction, sentence):
    model = load_world_model(folders['wan2.2-ti2v'][1], VIEW)
    with pytest.raises(UserError, match=sentence):
        model.check_instruction(instruction)
    with pytest.raises(UserError, match=sentence):
        model.dream(picture(), instruction, seed=0)


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'height': 40}, r'needs a height that is a multiple of 32, not 40: .* height of 32'),
        ({'width': 0}, r'needs a width that is a multiple of 32, not 0'),
        ({'frames': 10}, r'1 frame more than a multiple of 4, not 10: .* with 9 frames'),
        ({'frames': 1}, r'1 frame more than a multiple of 4, not 1: .* with 5 frames'),
    ],
)
def test_a_view_that_does_not_fit_is_refused_before_anything_is_loaded(
    folders, change, sentence, monkeypatch
):
    monkeypatch.setattr(torch.nn.Module, 'load_state_dict', None)
    view = SimpleNamespace(**{**vars(VIEW), **change})
    with pytest.raises(UserError, match=sentence):
        load_world_model(folders['wan2.2-ti2v'][1], view)


def test_arguments_that_do_not_fit_each_other_are_refused(folders):
    model = load_world_model(folders['wan2.2-ti2v'][1])
    frames, start = views(), noise('wan2.2-ti2v')
    for arguments, sentence in (
        ((frames[:, :, :30], [INSTRUCTION], start), 'height that is a multiple of 32, not 30'),
        ((frames, [INSTRUCTION], start[:, :4]), r'takes noise \[B, 8, frames, 2, 4\]'),
        ((frames, [INSTRUCTION] * 2, start), '1 frames, 2 instructions and noise for 1 dreams'),
        ((frames[:, :1], [INSTRUCTION], start), r'takes frames \[B, 3, H, W\]'),
    ):
        with pytest.raises(UserError, match=sentence):
            model.sample_latents(*arguments, steps=1)
    with pytest.raises(UserError, match='was trained without history: leave it out'):
        model.sample_latents(frames, [INSTRUCTION], start, steps=1, history=frames)
    with pytest.raises(UserError, match="no sampler 'heun': use euler or unipc"):
        model.sample_latents(frames, [INSTRUCTION], start, steps=1, sampler='heun')


def tensors_of(path):
    """Return the weights of a file, which may then be written again."""
    return {name: weight.clone() for name, weight in load_file(path).items()}


def broken(folder, tmp_path, what):
    """Return a copy of a folder with one fault."""
    copy = tmp_path / 'broken'
    shutil.copytree(folder, copy)
    weights = copy / 'transformer' / 'diffusion_pytorch_model.safetensors'
    if what == 'no vae':
        shutil.rmtree(copy / 'vae')
    elif what == 'no tokenizer':
        shutil.rmtree(copy / 'tokenizer')
    elif what == 'no tokens':
        (copy / 'tokenizer' / 'tokenizer.json').unlink()
    elif what == 'half a scheduler':
        (copy / 'scheduler' / 'scheduler_config.json').write_text('{')
    elif what == 'pickle':
        torch.save(tensors_of(weights), weights.with_suffix('.bin'))
        weights.unlink()
    elif what == 'pickle by another name':
        torch.save(tensors_of(weights), weights)
    elif what == 'channels':
        tensors = tensors_of(weights)
        tensors['patch_embedding.weight'] = tensors['patch_embedding.weight'][:, :4].contiguous()
        save_file(tensors, weights)
    elif what == 'config':
        path = copy / 'transformer' / 'config.json'
        path.write_text(path.read_text().replace('"in_channels": 8', '"in_channels": 20'))
    elif what == 'not finite':
        tensors = tensors_of(weights)
        tensors['proj_out.bias'][0] = float('nan')
        save_file(tensors, weights)
    elif what == 'a weight less':
        tensors = tensors_of(weights)
        del tensors['proj_out.bias']
        save_file(tensors, weights)
    elif what == 'a shard less':
        index = {'weight_map': {'proj_out.bias': 'part-00002-of-00002.safetensors'}}
        name = 'diffusion_pytorch_model.safetensors.index.json'
        (copy / 'transformer' / name).write_text(json.dumps(index))
    return copy


@pytest.mark.parametrize(
    ('what', 'sentence'),
    [
        ('no vae', r'lacks vae/ \(AutoencoderKLWan\): copy it again'),
        ('no tokenizer', r'lacks tokenizer/tokenizer_config\.json'),
        ('no tokens', r'lacks tokenizer/tokenizer\.json: copy it again'),
        ('half a scheduler', r'scheduler_config\.json cannot be read .*: copy it again'),
        ('pickle', r'transformer holds pickled weights \(.*\.bin\), which can run code'),
        ('pickle by another name', r'model\.safetensors cannot be read as safetensors'),
        ('channels', r"'patch_embedding\.weight' has the shape .* not for the 8 channels"),
        ('config', r'has in_channels 20, but .* a wan2\.2-ti2v model needs 8'),
        ('not finite', r"1 of .* values of 'proj_out\.bias' is not finite"),
        ('a weight less', r"lacks weights \('proj_out\.bias', 1 in all\)"),
        ('a shard less', r'lacks part-00002-of-00002\.safetensors, which its index names'),
    ],
)
def test_a_damaged_folder_is_refused_with_one_sentence(folders, tmp_path, what, sentence):
    copy = broken(folders['wan2.2-ti2v'][1], tmp_path, what)
    with pytest.raises(UserError, match=sentence) as caught:
        load_world_model(copy)
    assert '\n' not in str(caught.value)


def test_a_text_to_video_model_is_refused(folders, tmp_path):
    shutil.copytree(folders['wan2.2-ti2v'][1], tmp_path / 'wan')
    index = tmp_path / 'wan' / 'model_index.json'
    index.write_text(
        index.read_text().replace('"expand_timesteps": true', '"expand_timesteps": 0')
    )
    with pytest.raises(UserError, match='holds a text-to-video model'):
        load_world_model(tmp_path / 'wan')


def test_too_little_memory_is_said_before_anything_is_loaded(folders, monkeypatch, capsys):
    folder = folders['wan2.2-a14b'][1]
    monkeypatch.setattr(memory, 'available_bytes', lambda: 1000)
    monkeypatch.setattr(torch.nn.Module, 'load_state_dict', None)
    sentence = r'GiB of memory for a dream of 9 frames of 32x64.*and 0\.0 GiB are free: use'
    with pytest.raises(UserError, match=sentence):
        load_world_model(folder, VIEW)
    assert main(['world-model', 'info', str(folder), '--json']) == 1
    about = json.loads(capsys.readouterr().out)
    assert about['fits'] is False
    assert 'GiB are free' in about['reasons'][0]


@pytest.mark.parametrize('family', FAMILIES)
def test_info_says_what_a_folder_holds_from_its_headers(folders, family, capsys, monkeypatch):
    pipeline, folder = folders[family]
    monkeypatch.setattr(torch.nn.Module, 'load_state_dict', None)
    monkeypatch.setattr(memory, 'available_bytes', lambda: 2**40)
    assert main(['world-model', 'info', str(folder), '--json']) == 0
    about = json.loads(capsys.readouterr().out)
    assert about['family'] == family
    assert about['fits'] is None
    assert about['reasons'] == []
    for name, part in about['parts'].items():
        module = getattr(pipeline, name)
        assert part['class'] == type(module).__name__
        assert part['parameters'] == sum(p.numel() for p in module.parameters())
        assert part['dtype'] == 'float32'
        assert part['bytes'] == 4 * part['parameters']
    expected = {'transformer', 'vae', 'text_encoder'}
    extra = {'wan2.1-i2v': {'image_encoder'}, 'wan2.2-a14b': {'transformer_2'}}
    assert set(about['parts']) == expected | extra.get(family, set())
    needed = about['memory_bytes']
    held = sum(part['bytes'] for part in about['parts'].values())
    assert held < needed['inference'] < needed['lora']
    assert needed['lora'] < needed['full'] or held < 2**20
    fits = family != 'wan2.2-ti2v'  # its tokens are 32 pixels high
    asked = ['world-model', 'info', str(folder), '--robot', 'aloha_sim']
    assert main([*asked, '--json']) == (0 if fits else 1)
    about = json.loads(capsys.readouterr().out)
    assert (about['frames'], about['height'], about['width']) == (17, 144, 128)
    assert about['fits'] is fits
    assert main(asked) == (0 if fits else 1)
    assert ('It fits.' if fits else 'It does not fit:') in capsys.readouterr().out


def test_without_a_view_the_weights_alone_have_to_fit(folders, monkeypatch):
    family = 'wan2.2-ti2v'
    monkeypatch.setattr(memory, 'available_bytes', lambda: 2 * 2**20)
    dreamed(load_world_model(folders[family][1]), family)
    monkeypatch.setattr(memory, 'available_bytes', lambda: 2**10)
    with pytest.raises(UserError, match=r'and 0\.0 GiB are free'):
        load_world_model(folders[family][1])
