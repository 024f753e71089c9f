"""Text encoders of transformers with tiny random weights, as transformers writes them."""

from tokenizers import models
from tokenizers import normalizers
from tokenizers import pre_tokenizers
from tokenizers import processors
from tokenizers import Tokenizer
import torch
from transformers import BertConfig
from transformers import BertModel
from transformers import PreTrainedTokenizerFast
from transformers import UMT5Config
from transformers import UMT5EncoderModel

WORDS = ('<pad>', '</s>', '<unk>', 'move', 'the', 'square', 'cube', 'with', 'left', 'right', 'arm')
ENCODERS = ('bert', 'umt5')
WIDTH = 24


def encoder_folder(folder, kind, beside=False):
    """Write an encoder of one of ENCODERS and its tokenizer, and return its folder.

    Args:
        beside: whether the tokenizer goes into tokenizer/ beside it, as diffusers does.
    """
    torch.manual_seed(0)
    if kind == 'bert':
        sizes = {'hidden_size': WIDTH, 'intermediate_size': 32, 'num_attention_heads': 2}
        config = BertConfig(vocab_size=len(WORDS), num_hidden_layers=1, **sizes)
        encoder = BertModel(config, add_pooling_layer=False)
    else:
        sizes = {'d_model': WIDTH, 'd_kv': 4, 'd_ff': 32, 'num_layers': 1, 'num_heads': 4}
        encoder = UMT5EncoderModel(UMT5Config(vocab_size=len(WORDS), **sizes))
    encoder.save_pretrained(folder)
    tokenizer().save_pretrained(folder.parent / 'tokenizer' if beside else folder)
    return folder


def tokenizer():
    """Return a tokenizer that knows WORDS, and puts an end after a text."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token='<unk>'))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single='$A </s>', special_tokens=[('</s>', 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token='<pad>', eos_token='</s>', unk_token='<unk>'
    )
