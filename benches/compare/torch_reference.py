# SPDX-License-Identifier: MIT OR Apache-2.0
"""The yardstick: GCLIP as a user would write it, eager PyTorch on transformers' CLIPModel.

Vision forward of a batch, scored against given text features, upsampled, argmax: the same work `gclip` does for a
frame. Prints one JSON object with the time of the best and the median of the runs.

usage: torch_reference.py MODEL --height 336 --width 592 --batch 4 --classes 8 --runs 10 [--dtype float32|bfloat16]
                          [--device cpu|cuda] [--compile] [--threads N]
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from transformers import CLIPModel


def suppress_channel(vision, blocks) -> None:
    """Channel suppression: in each block the FFN's loudest output row is scaled to the mean norm of the others."""
    with torch.no_grad():
        for index in blocks:
            weight = vision.encoder.layers[index].mlp.fc2.weight  # [D, 4D]
            norms = weight.norm(dim=1)  # [D]
            loudest = norms.argmax()
            others = (norms.sum() - norms[loudest]) / (len(norms) - 1)
            weight[loudest] *= others / norms[loudest]


def gclip_features(model, pixels, fuse: int = 6):
    """Patch features by attention-map fusion. pixels [N, 3, H, W] -> [N, H/p * W/p, E], unit length."""
    vision = model.vision_model
    heads, maps = vision.config.num_attention_heads, []
    x = vision.pre_layrnorm(vision.embeddings(pixels, interpolate_pos_encoding=True))  # [N, L, D]
    n, length, width = x.shape
    split = lambda t: t.view(n, length, heads, width // heads).transpose(1, 2)  # [N, heads, L, D/heads]
    scale = (width // heads) ** -0.5
    for index, layer in enumerate(vision.encoder.layers):
        y = layer.layer_norm1(x)
        attn = layer.self_attn
        q, v = split(attn.q_proj(y)), attn.v_proj(y)
        if index == len(vision.encoder.layers) - 1:
            qq = (scale * q @ q.transpose(2, 3)).softmax(-1).mean(1)  # [N, L, L]
            fused = (maps[0] + maps[1] + qq) / 3
            features = attn.out_proj(fused @ v)[:, 1:]  # CLS dropped
            features = model.visual_projection(vision.post_layernorm(features))
            return F.normalize(features, dim=-1)
        k = split(attn.k_proj(y))
        weights = (scale * q @ k.transpose(2, 3)).softmax(-1)  # [N, heads, L, L]
        if index in (fuse, fuse + 1):
            maps.append(weights.mean(1))
        x = x + attn.out_proj((weights @ split(v)).transpose(1, 2).reshape(n, length, width))
        x = x + layer.mlp(layer.layer_norm2(x))
    raise ValueError("the tower has no blocks")


def masks(model, pixels, text):
    """pixels [N, 3, H, W], text [Q, E] -> ids [N, H, W]."""
    patch = model.vision_model.config.patch_size
    rows, columns = pixels.shape[2] // patch, pixels.shape[3] // patch
    cosines = gclip_features(model, pixels) @ text.T  # [N, rows * columns, Q]
    cosines = cosines.transpose(1, 2).reshape(len(pixels), -1, rows, columns).float()
    full = F.interpolate(cosines, size=pixels.shape[2:], mode="bilinear", align_corners=False)
    return (40 * full).softmax(1).argmax(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--height", type=int, default=336)
    parser.add_argument("--width", type=int, default=592)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    dtype = getattr(torch, args.dtype)
    model = CLIPModel.from_pretrained(args.model, attn_implementation="eager").eval()
    suppress_channel(model.vision_model, range(7, 11))
    model = model.to(args.device, dtype)
    torch.manual_seed(1)
    pixels = torch.randn(args.batch, 3, args.height, args.width).to(args.device, dtype)
    text = F.normalize(torch.randn(args.classes, model.config.projection_dim), dim=-1).to(args.device, dtype)
    run = torch.compile(masks) if args.compile else masks
    times = []
    with torch.inference_mode():
        for _ in range(args.runs + 2):  # the first two warm up
            start = time.perf_counter()
            run(model, pixels, text)
            if args.device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    times = sorted(1000 * t / args.batch for t in times[2:])
    print(json.dumps(dict(
        what="eager PyTorch" if not args.compile else "torch.compile", dtype=args.dtype, device=args.device,
        size=[args.height, args.width], batch=args.batch, threads=torch.get_num_threads(),
        ms_per_picture_min=round(times[0], 2), ms_per_picture_median=round(statistics.median(times), 2),
    )))


if __name__ == "__main__":
    main()
