"""Wan checkpoints of every family with tiny random weights, as diffusers writes them."""

from diffusers import AutoencoderKLWan
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers import UniPCMultistepScheduler
from diffusers import WanImageToVideoPipeline
from diffusers import WanTransformer3DModel
import numpy as np
from PIL import Image
from tokenizers import models
from tokenizers import pre_tokenizers
from tokenizers import processors
from tokenizers import Tokenizer
import torch
from transformers import CLIPImageProcessorPil
from transformers import CLIPVisionConfig
from transformers import CLIPVisionModel
from transformers import PreTrainedTokenizerFast
from transformers import UMT5Config
from transformers import UMT5EncoderModel

FAMILIES = ('wan2.1-i2v', 'wan2.2-ti2v', 'wan2.2-a14b')
HEIGHT, WIDTH, FRAMES = 32, 64, 9
INSTRUCTION = 'lift the cube with the left arm'
WORDS = ('<pad>', '</s>', '<unk>', 'lift', 'touch', 'the', 'cube', 'with', 'left', 'right', 'arm')
SHIFT = 3.0


def wan_pipeline(family: str, **transformer) -> WanImageToVideoPipeline:
    """Return the reference: a pipeline with random weights, the same every time.

    Args:
        family: One of FAMILIES.
        transformer: Other sizes of the transformers.
    """
    torch.manual_seed(0)
    channels = 8 if family == 'wan2.2-ti2v' else 4
    sizes = {
        'patch_size': (1, 2, 2),
        'num_attention_heads': 2,
        'attention_head_dim': 12,
        'in_channels': channels if family == 'wan2.2-ti2v' else 2 * channels + 4,
        'out_channels': channels,
        'text_dim': 16,
        'freq_dim': 16,
        'ffn_dim': 32,
        'num_layers': 2,
        'rope_max_seq_len': 32,
    }
    pictures = {}
    if family == 'wan2.1-i2v':
        sizes |= {'image_dim': 16, 'added_kv_proj_dim': 24}
        pictures = {'image_encoder': _image_encoder(), 'image_processor': _image_processor()}
    sizes |= transformer
    second = {}
    if family == 'wan2.2-a14b':
        second = {'transformer_2': WanTransformer3DModel(**sizes), 'boundary_ratio': 0.9}
    text = UMT5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4
    )
    pipeline = WanImageToVideoPipeline(
        tokenizer=_tokenizer(),
        text_encoder=UMT5EncoderModel(text).eval(),
        vae=_vae(family, channels),
        scheduler=scheduler('unipc'),
        transformer=WanTransformer3DModel(**sizes),
        expand_timesteps=family == 'wan2.2-ti2v',
        **pictures,
        **second,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def scheduler(name: str):
    if name == 'euler':
        return FlowMatchEulerDiscreteScheduler(shift=SHIFT)
    return UniPCMultistepScheduler(
        prediction_type='flow_prediction', use_flow_sigmas=True, flow_shift=SHIFT
    )


def picture(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return a view of random pixels [H, W, 3], uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def reference_latents(pipeline, noise, *, sampler, guidance, steps=3):
    """Return what the pipeline dreams from noise [N, C, F, h, w], one dream at a time.

    With an image encoder it cannot make several videos of one prompt.
    """
    pipeline.scheduler = scheduler(sampler)
    call = {
        'image': Image.fromarray(picture()),
        'prompt': INSTRUCTION,
        'height': HEIGHT,
        'width': WIDTH,
        'num_frames': FRAMES,
        'num_inference_steps': steps,
        'guidance_scale': guidance,
        'output_type': 'latent',
    }
    return torch.cat([pipeline(latents=one, **call).frames for one in noise.split(1)])


def _vae(family: str, channels: int) -> AutoencoderKLWan:
    sizes = {
        'base_dim': 4,
        'z_dim': channels,
        'dim_mult': [1, 1, 1, 1],
        'num_res_blocks': 1,
        'latents_mean': [0.1 * c for c in range(channels)],
        'latents_std': [1.0 + 0.1 * c for c in range(channels)],
    }
    if family == 'wan2.2-ti2v':
        sizes |= {
            'is_residual': True,
            'patch_size': 2,
            'in_channels': 12,
            'out_channels': 12,
            'scale_factor_spatial': 16,
        }
    return AutoencoderKLWan(**sizes).eval()


def _image_encoder() -> CLIPVisionModel:
    sizes = {'hidden_size': 16, 'intermediate_size': 16, 'projection_dim': 16}
    return CLIPVisionModel(
        CLIPVisionConfig(
            num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=8, **sizes
        )
    ).eval()


def _image_processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(crop_size=16, size=16)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token='<unk>'))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single='$A </s>', special_tokens=[('</s>', 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token='<pad>', eos_token='</s>', unk_token='<unk>'
    )
