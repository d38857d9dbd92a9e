#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes a small random SigLIP 2 and a small random TIPSv2 beside this file, as transformers saves them, and what transformers makes of them.

Patches by MaskCLIP's values are those of google-deepmind/tips, pytorch/TIPS_zeroshot_segmentation.ipynb: the last block with each token's own
value in the place of what attention gathers. A patch of SigLIP goes through the official pooling head as the only token there is.
Needs torch 2.11, transformers 5.24, numpy and safetensors. Run:  python3 model/tests/data/make_kin_fixtures.py
"""
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import SiglipConfig, SiglipModel, Tipsv2Config, Tipsv2Model
from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer
from transformers.models.tipsv2.tokenization_tipsv2 import Tipsv2Tokenizer

HERE = Path(__file__).parent
TEXTS = ["sky", "the tree", "A Road!", "it's 42", "Grün ☂", "a word too many " * 9]
CONTEXT = 16


def bpe(special, words):
    """A small byte-pair vocabulary with byte fallback: the special tokens, bytes, letters, and every word of TEXTS joined letter by letter."""
    tokens = [*special, *(f"<0x{b:02X}>" for b in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz!'.0123456789"]
    merges = []
    for word in words:
        whole = word[0]
        for letter in word[1:]:
            if (whole, letter) not in merges:
                merges.append((whole, letter))
                tokens.append(whole + letter)
            whole += letter
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}, merges


def randomise(model, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() >= 2 and "embedding" not in name and "token" not in name and "probe" not in name:
                fan_in = p[0].numel()
                p.copy_(torch.randn(p.shape, generator=g) * fan_in**-0.5)
            elif "norm" in name and name.endswith("weight") or "lambda" in name:
                p.copy_(1 + 0.1 * torch.randn(p.shape, generator=g))
            else:
                p.copy_(0.3 * torch.randn(p.shape, generator=g))
            p.copy_(p.half().float())
    return model.eval()


def pictures():
    rng = np.random.default_rng(11)
    for h, w in [(32, 32), (40, 56)]:
        y, x = np.mgrid[0:h, 0:w]
        waves = [127 + 100 * np.sin(x / (3 + c) + y / (5 - c)) for c in range(3)]
        yield np.clip(np.stack(waves, -1) + rng.integers(-27, 28, (h, w, 3)), 0, 255).astype(np.uint8)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def save(folder, model, tokenizer, preprocessor, expected):
    folder.mkdir(exist_ok=True)
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=1) + "\n")
    kept = {key: value.int() if value.dtype == torch.int64 else value for key, value in expected.items()}
    save_file({key: value.contiguous() for key, value in kept.items()}, folder / "expected.safetensors")


def siglip():
    vocab, merges = bpe(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"], ["▁the", "tree", "road", "▁word", "▁too", "▁many", "sky"])
    size = max(vocab.values()) + 1
    tower = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2)
    config = SiglipConfig(
        vision_config=dict(**tower, image_size=32, patch_size=8),
        text_config=dict(**tower | dict(num_hidden_layers=2), vocab_size=size, max_position_embeddings=CONTEXT, pad_token_id=0, bos_token_id=2,
                         eos_token_id=1))
    model = randomise(SiglipModel(config), 3)
    tokenizer = Siglip2Tokenizer(vocab=vocab, merges=merges, padding_side="right", add_eos_token=True, add_bos_token=False)
    ids = tokenizer(TEXTS, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt").input_ids
    vision = model.vision_model
    expected = {"tokens": ids, "text": model.text_model(input_ids=ids).pooler_output}
    alone = lambda tokens: unit(vision.head(tokens.reshape(-1, 1, tokens.shape[-1])))
    for n, rgb in enumerate(pictures()):
        x = (torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
        seen = vision(pixel_values=x, interpolate_pos_encoding=True, output_hidden_states=True)
        layer, before = vision.encoder.layers[-1], seen.hidden_states[-2]
        values = before + layer.self_attn.out_proj(layer.self_attn.v_proj(layer.layer_norm1(before)))
        values = values + layer.mlp(layer.layer_norm2(values))
        expected |= {f"picture/{n}": torch.from_numpy(rgb), f"image/{n}": seen.pooler_output[0], f"clip/{n}": alone(seen.last_hidden_state),
                     f"maskclip/{n}": alone(vision.post_layernorm(values))}
    preprocessor = dict(image_processor_type="SiglipImageProcessor", do_rescale=True, rescale_factor=1 / 255, do_normalize=True,
                        image_mean=[0.5] * 3, image_std=[0.5] * 3, size=dict(height=32, width=32), resample=2)
    save(HERE / "siglip2", model, tokenizer, preprocessor, expected)


def tips():
    vocab, merges = bpe(["<pad>", "<unk>"], ["▁the", "tree", "road", "▁word", "▁too", "▁many", "sky"])
    size = max(vocab.values()) + 1
    config = Tipsv2Config(
        vision_config=dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, mlp_ratio=2, image_size=32, patch_size=8,
                           num_register_tokens=1),
        text_config=dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, vocab_size=size,
                         max_position_embeddings=CONTEXT))
    model = randomise(Tipsv2Model(config), 5)
    with torch.no_grad():
        model.temperature.fill_(0.0625)
    tokenizer = Tipsv2Tokenizer(vocab=vocab, merges=merges, model_max_length=CONTEXT)
    found = tokenizer(TEXTS, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt")
    expected = {"tokens": found.input_ids.masked_fill(found.attention_mask == 0, -1),
                "text": model.text_model(input_ids=found.input_ids, attention_mask=found.attention_mask).pooler_output}
    vision = model.vision_model
    front = 1 + config.vision_config.num_register_tokens
    for n, rgb in enumerate(pictures()):
        x = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None] / 255
        tokens = vision.embeddings(x)
        for layer in vision.encoder.layer[:-1]:
            tokens = layer(tokens)
        layer = vision.encoder.layer[-1]
        values = tokens + layer.layer_scale1(layer.attention.o_proj(layer.attention.v_proj(layer.norm1(tokens))))
        values = vision.layernorm(values + layer.layer_scale2(layer.mlp(layer.norm2(values))))
        seen = vision(pixel_values=x)
        expected |= {f"picture/{n}": torch.from_numpy(rgb), f"image/{n}": seen.pooler_output[0],
                     f"clip/{n}": unit(seen.last_hidden_state[0, front:]), f"maskclip/{n}": unit(values[0, front:])}
    preprocessor = dict(image_processor_type="Tipsv2ImageProcessor", do_rescale=True, rescale_factor=1 / 255, do_normalize=False,
                        size=dict(height=32, width=32), resample=2)
    save(HERE / "tipsv2", model, tokenizer, preprocessor, expected)


with torch.no_grad():
    siglip()
    tips()
