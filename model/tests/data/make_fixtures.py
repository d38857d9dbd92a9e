#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes the three small random checkpoints beside this file, one a format, and what they compute.

The expected values come from the plain reference in clip_reference.py; for the Hugging Face checkpoint it is checked against transformers' CLIPModel first.
Needs torch 2.11, transformers 5, numpy and safetensors. Run:  python3 tests/data/make_fixtures.py
"""
import gzip
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from clip_reference import EPS, MEAN, STD, Reference, tokens

HERE = Path(__file__).parent
MERGES = HERE.parents[1] / "src/model/assets/clip_merges.txt.gz"
TEXTS = ["sky", "the tree", "A Road!", "it's 42", "<|endoftext|> x", "", "a word too many " * 9]


def vocabulary(merge_count):
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = [chr(b) for b in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    lines = gzip.decompress(MERGES.read_bytes()).decode().splitlines()[1 : merge_count + 1]
    merges = [tuple(line.split()) for line in lines]
    tokens = alphabet + [c + "</w>" for c in alphabet] + ["".join(pair) for pair in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}, merges


def random_weights(c, seed):
    g = torch.Generator().manual_seed(seed)
    w = {}

    def put(name, *shape, scale=1.0, mean=0.0):
        w[name] = (torch.randn(shape, generator=g) * scale + mean).half().float()

    def blocks(prefix, width, layers, mlp):
        for i in range(layers):
            p = f"{prefix}transformer.resblocks.{i}."
            for ln in ["ln_1", "ln_2"]:
                put(p + ln + ".weight", width, scale=0.1, mean=1.0)
                put(p + ln + ".bias", width, scale=0.1)
            put(p + "attn.in_proj_weight", 3 * width, width, scale=1.3 * width**-0.5)
            put(p + "attn.in_proj_bias", 3 * width, scale=0.1)
            put(p + "attn.out_proj.weight", width, width, scale=0.7 * width**-0.5)
            put(p + "attn.out_proj.bias", width, scale=0.05)
            put(p + "mlp.c_fc.weight", mlp, width, scale=width**-0.5)
            put(p + "mlp.c_fc.bias", mlp, scale=0.1)
            put(p + "mlp.c_proj.weight", width, mlp, scale=0.5 * mlp**-0.5)
            put(p + "mlp.c_proj.bias", width, scale=0.05)
            if i >= layers // 2:  # the abnormal channel that GCLIP suppresses
                w[p + "mlp.c_proj.weight"][3 * i % width] *= 4

    v, t, e = c["vision"], c["text"], c["embed_dim"]
    width = v["width"]
    put("visual.conv1.weight", width, 3, v["patch"], v["patch"], scale=(3 * v["patch"] ** 2) ** -0.5)
    put("visual.class_embedding", width, scale=0.5)
    put("visual.positional_embedding", 1 + (v["image"] // v["patch"]) ** 2, width, scale=0.5)
    for ln in ["ln_pre", "ln_post"]:
        put(f"visual.{ln}.weight", width, scale=0.1, mean=1.0)
        put(f"visual.{ln}.bias", width, scale=0.1)
    blocks("visual.", width, v["layers"], v["mlp"])
    put("visual.proj", width, e, scale=width**-0.5)
    put("token_embedding.weight", c["vocab"], t["width"], scale=0.5)
    put("positional_embedding", c["context"], t["width"], scale=0.3)
    blocks("", t["width"], t["layers"], t["mlp"])
    put("ln_final.weight", t["width"], scale=0.1, mean=1.0)
    put("ln_final.bias", t["width"], scale=0.1)
    put("text_projection", t["width"], e, scale=t["width"] ** -0.5)
    w["logit_scale"] = torch.tensor(4.59375)
    return w


def pictures():
    rng = np.random.default_rng(7)
    for h, w in [(32, 32), (40, 56)]:
        coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, h // 8, w // 8)).astype(np.float32))
        smooth = F.interpolate(coarse, (h, w), mode="bilinear")[0].permute(1, 2, 0).numpy()
        yield np.ascontiguousarray(np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8))


def expected(w, c, vocab, merges, gclip):
    reference, found = Reference(w, c), {}
    ids = [tokens(text, vocab, merges, c["context"]) for text in TEXTS]
    found["tokens"] = torch.tensor([row + [-1] * (c["context"] - len(row)) for row in ids], dtype=torch.int32)
    found["text"] = torch.stack([reference.text(row) for row in ids])
    queries = F.normalize(found["text"][:4], dim=-1)
    for n, rgb in enumerate(pictures()):
        found[f"picture/{n}"] = torch.from_numpy(rgb)
        found[f"image/{n}"] = reference.image(rgb)
        for plain in [True, False] if n else [True]:
            for method in ["clip", "clearclip", "sclip", "naclip", "maskclip"]:
                features, (h, w_) = reference.dense(rgb, method, plain)
                key = f"{method}/{n}/{'plain' if plain else 'scale'}"
                found[key] = (queries @ features.T).view(-1, h, w_)
        for name, options in gclip.items():
            features, (h, w_) = reference.dense(rgb, "gclip", True, **options)
            found[f"{name}/{n}/plain"] = (queries @ features.T).view(-1, h, w_)
    return {key: value.contiguous() for key, value in found.items()}


def save_hugging_face(folder, w, c, vocab, merges, images):
    from transformers import CLIPConfig, CLIPModel

    v, t = c["vision"], c["text"]
    tower = lambda d: dict(hidden_size=d["width"], intermediate_size=d["mlp"], num_hidden_layers=d["layers"],
                           num_attention_heads=d["heads"], hidden_act=c["act"], layer_norm_eps=EPS)
    config = CLIPConfig(
        vision_config=dict(**tower(v), patch_size=v["patch"], image_size=v["image"]),
        text_config=dict(**tower(t), vocab_size=c["vocab"], max_position_embeddings=c["context"],
                         eos_token_id=c["vocab"] - 1, bos_token_id=c["vocab"] - 2),
        projection_dim=c["embed_dim"],
    )
    names = {}
    for key, value in w.items():
        if key == "logit_scale":
            names[key] = value
        elif key in ("visual.proj", "text_projection"):
            names[{"visual.proj": "visual_projection", "text_projection": "text_projection"}[key] + ".weight"] = value.T
        else:
            side = "vision_model." if key.startswith("visual.") else "text_model."
            key = key.removeprefix("visual.")
            for a, b in [("conv1.", "embeddings.patch_embedding."), ("class_embedding", "embeddings.class_embedding"),
                         ("token_embedding", "embeddings.token_embedding"), ("ln_pre", "pre_layrnorm"),
                         ("ln_post", "post_layernorm"), ("ln_final", "final_layer_norm"),
                         ("transformer.resblocks", "encoder.layers"), ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"),
                         ("attn.out_proj", "self_attn.out_proj"), ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2")]:
                key = key.replace(a, b)
            if key == "positional_embedding":
                key = "embeddings.position_embedding.weight"
            if "attn.in_proj_" in key:
                for letter, part in zip("qkv", value.chunk(3)):
                    names[side + key.replace("attn.in_proj_", f"self_attn.{letter}_proj.")] = part
            else:
                names[side + key] = value
    model = CLIPModel(config).eval()
    missing, unexpected = model.load_state_dict(names, strict=False)
    assert not unexpected and all("position_ids" in name for name in missing), (missing, unexpected)
    reference = Reference(w, c)
    for rgb in images:
        x = ((torch.from_numpy(rgb).permute(2, 0, 1) / 255 - MEAN) / STD)[None]
        theirs = model.get_image_features(x, interpolate_pos_encoding=True)
        theirs = getattr(theirs, "pooler_output", theirs)[0]
        assert (theirs - reference.image(rgb)).abs().max() < 2e-5
    for text in TEXTS:
        row = tokens(text, vocab, merges, c["context"])
        theirs = model.get_text_features(torch.tensor([row]))
        theirs = getattr(theirs, "pooler_output", theirs)[0]
        assert (theirs - reference.text(row)).abs().max() < 2e-5, text
    folder.mkdir(exist_ok=True)
    save_file({k: x.half().contiguous() for k, x in names.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_diff_dict(), indent=1, sort_keys=True) + "\n")
    tokenizer = {"version": "1.0", "model": {"type": "BPE", "vocab": vocab, "merges": [" ".join(m) for m in merges]}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False) + "\n")


def save_plain_tokenizer(folder, vocab, merges):
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False) + "\n")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


def save_open_clip(folder, w, c, vocab, merges):
    v, t = c["vision"], c["text"]
    config = {"model_cfg": {
        "embed_dim": c["embed_dim"],
        "vision_cfg": {"image_size": v["image"], "layers": v["layers"], "width": v["width"],
                       "head_width": v["width"] // v["heads"], "patch_size": v["patch"]},
        "text_cfg": {"context_length": c["context"], "vocab_size": c["vocab"], "width": t["width"],
                     "heads": t["heads"], "layers": t["layers"]}},
        "preprocess_cfg": {"mean": MEAN.flatten().tolist(), "std": STD.flatten().tolist()}}
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({k: x.bfloat16() for k, x in w.items()}, folder / "open_clip_model.safetensors")
    save_plain_tokenizer(folder, vocab, merges)


def save_torchscript(folder, w, vocab, merges):
    """An archive as OpenAI published it: parameters by name, the sizes as scalar buffers."""
    root = torch.nn.Module()
    for name, value in w.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            if not hasattr(module, part):
                module.add_module(part, torch.nn.Module())
            module = getattr(module, part)
        half = value.dim() > 1
        module.register_parameter(leaf, torch.nn.Parameter(value.half() if half else value, requires_grad=False))
    root.register_buffer("input_resolution", torch.tensor(32))
    root.forward = None
    class Archive(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, module in root.named_children():
                self.add_module(name, module)
            for name, parameter in root.named_parameters(recurse=False):
                self.register_parameter(name, parameter)
            self.register_buffer("input_resolution", root.input_resolution)

        def forward(self, x):
            return x
    folder.mkdir(exist_ok=True)
    torch.jit.script(Archive()).save(str(folder / "model.pt"))
    save_plain_tokenizer(folder, vocab, merges)


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    vocab, merges = vocabulary(26)
    images = list(pictures())
    tower = lambda width, heads, layers, mlp: dict(width=width, heads=heads, layers=layers, mlp=mlp)

    c = dict(embed_dim=24, vocab=len(vocab), context=16, act="quick_gelu",
             vision=dict(**tower(32, 2, 12, 64), patch=8, image=32), text=tower(32, 2, 2, 64))
    w = random_weights(c, 1)
    gclip = {"gclip": dict(fuse=[6, 7], suppress=range(7, 11)),
             "gclip_each": dict(fuse=[6, 7], suppress=range(7, 11), each=True),
             "gclip_half": dict(fuse=[5, 6], suppress=[], half=True)}
    save_hugging_face(HERE / "hugging_face", w, c, vocab, merges, images)
    save_file(expected(w, c, vocab, merges, gclip), HERE / "hugging_face/expected.safetensors")

    c = dict(embed_dim=16, vocab=len(vocab), context=16, act="gelu",
             vision=dict(**tower(48, 3, 3, 96), patch=8, image=32), text=tower(32, 2, 1, 128))
    w = {k: x.bfloat16().float() for k, x in random_weights(c, 2).items()}
    save_open_clip(HERE / "open_clip", w, c, vocab, merges)
    save_file(expected(w, c, vocab, merges, {}), HERE / "open_clip/expected.safetensors")

    c = dict(embed_dim=16, vocab=len(vocab), context=16, act="quick_gelu",
             vision=dict(**tower(64, 1, 2, 64), patch=8, image=32), text=tower(64, 1, 1, 64))
    w = random_weights(c, 3)
    save_torchscript(HERE / "openai", w, vocab, merges)
    save_file(expected(w, c, vocab, merges, {}), HERE / "openai/expected.safetensors")


main()
