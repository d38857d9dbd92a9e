# SPDX-License-Identifier: MIT OR Apache-2.0
"""GCLIP in PyTorch on the same card and weights: eager, eager with fused attention, and torch.compile of the latter.

Normalised pixels on the device to class ids on the device: less than `infer` of benches/gpu.rs does, which begins with
1080p frames and brings masks back. Writes JSON after each number, so that a run that is cut off leaves what it has.

usage: torch_gpu.py MODEL --out FILE [--cpu] [--quick] [--budget SECONDS]
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import CLIPModel

from torch_reference import masks, suppress_channel

SIZE = (336, 592)
FUSE = (6, 7)


def fused_features(model, pixels):
    """As torch_reference.gclip_features, but with a map only in the blocks that need one. -> [N, h w, E]"""
    vision = model.vision_model
    heads, layers = vision.config.num_attention_heads, vision.encoder.layers
    pre = getattr(vision, "pre_layrnorm")
    x = pre(vision.embeddings(pixels, interpolate_pos_encoding=True))  # [N, L, D]
    n, length, width = x.shape
    split = lambda t: t.view(n, length, heads, width // heads).transpose(1, 2)  # [N, heads, L, D / heads]
    scale = (width // heads) ** -0.5
    mean_map = lambda a, b: (scale * a @ b.transpose(2, 3)).softmax(-1).mean(1)  # [N, L, L]
    fused = 0
    for index, layer in enumerate(layers):
        y = layer.layer_norm1(x)
        attn = layer.self_attn
        q, v = split(attn.q_proj(y)), attn.v_proj(y)
        if index == len(layers) - 1:
            fused = (fused + mean_map(q, q)) / (len(FUSE) + 1)
            features = attn.out_proj(fused @ v)[:, 1:]  # without the class token
            return F.normalize(model.visual_projection(vision.post_layernorm(features)), dim=-1)
        k = split(attn.k_proj(y))
        if index in FUSE:
            fused = fused + mean_map(q, k)
        gathered = F.scaled_dot_product_attention(q, k, split(v))
        x = x + attn.out_proj(gathered.transpose(1, 2).reshape(n, length, width))
        x = x + layer.mlp(layer.layer_norm2(x))
    raise ValueError("the tower has no blocks")


def fused_masks(model, pixels, text):
    """pixels [N, 3, H, W], text [Q, E] -> ids [N, H, W]"""
    patch = model.vision_model.config.patch_size
    rows, columns = pixels.shape[2] // patch, pixels.shape[3] // patch
    cosines = (fused_features(model, pixels) @ text.T).transpose(1, 2).reshape(len(pixels), -1, rows, columns)
    full = F.interpolate(cosines.float(), size=pixels.shape[2:], mode="bilinear", align_corners=False)
    return (40 * full).softmax(1).argmax(1)


def seconds(run, device: str, each: float) -> float:
    """Median of five stretches, after two runs that do not count."""
    finish = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(2):
        run()
    finish()
    start = time.perf_counter()
    run()
    finish()
    runs = max(1, int(each / 5 / max(time.perf_counter() - start, 1e-7)))
    stretches = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(runs):
            run()
        finish()
        stretches.append((time.perf_counter() - start) / runs)
    return statistics.median(stretches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--budget", type=float, default=90)
    args = parser.parse_args()
    end = time.perf_counter() + args.budget
    device = "cpu" if args.cpu else "cuda"
    dtype = torch.bfloat16 if args.cpu else torch.float16
    each = 0.1 if args.quick else 0.6
    size = (224, 400) if args.quick else SIZE
    numbers = dict(
        torch=torch.__version__, device=torch.cuda.get_device_name() if device == "cuda" else "cpu",
        dtype=str(dtype).removeprefix("torch."), size=size, points=[],
    )

    def save() -> None:
        args.out.write_text(json.dumps(numbers, indent=2) + "\n")

    save()
    model = CLIPModel.from_pretrained(args.model, attn_implementation="eager").eval()
    suppress_channel(model.vision_model, range(7, 11))
    model = model.to(device, dtype)
    torch.manual_seed(1)
    text = F.normalize(torch.randn(8, model.config.projection_dim), dim=-1).to(device, dtype)
    ways = [
        ("eager", masks, [1, 8, 32, 64]),
        ("eager, fused attention", fused_masks, [1, 8, 32, 64]),
        ("torch.compile", torch.compile(fused_masks, dynamic=False), [32, 1, 64]),
    ]
    with torch.inference_mode():
        first = torch.randn(1, 3, *size, device=device, dtype=dtype)
        agreement = (masks(model, first, text) == fused_masks(model, first, text)).float().mean().item()
        numbers["eager_ways_agree"] = round(agreement, 5)
        for name, run, batches in ways:
            for batch in batches[:1] if args.quick else batches:
                if time.perf_counter() > end:
                    break
                pixels = torch.randn(batch, 3, *size, device=device, dtype=dtype)
                try:
                    took = seconds(lambda: run(model, pixels, text), device, each)
                    numbers["points"].append(dict(way=name, batch=batch, masks_per_s=batch / took))
                except Exception as error:  # one that does not compile or fit is a result, too
                    numbers["points"].append(dict(way=name, batch=batch, error=str(error).splitlines()[0][:200]))
                save()
    save()


if __name__ == "__main__":
    main()
