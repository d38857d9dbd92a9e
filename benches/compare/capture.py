# SPDX-License-Identifier: MIT OR Apache-2.0
"""What a user would write: OpenCV reads a video or pictures (%02d.png), an engine segments it, a batch at a time.

Decoding, resizing, normalising, the model and the masks count; loading and the first batch do not. Prints one JSON object,
with how far the engine agrees with eager PyTorch in f32 on the first batch: the mean cosine between the features of a patch,
and the share of the patches with the same class among random ones.

usage: capture.py MODEL VIDEO --engine NAME --height 336 --width 592 --batch 4 --classes 8 [--threads N]
       NAME: see peers.py; what has to be exported or quantised for it is kept in --folder.
"""

import argparse
import json
import os
import resource
import time

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from peers import ENGINES, Peers

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


def frames(video: str, size: tuple[int, int]):
    """Normalised pictures [3, H, W]."""
    capture = cv2.VideoCapture(video)
    while True:
        there, frame = capture.read()
        if not there:
            return
        frame = cv2.cvtColor(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        yield ((frame.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)


def batches(video: str, size: tuple[int, int], batch: int):
    pictures = []
    for picture in frames(video, size):
        pictures.append(picture)
        if len(pictures) == batch:
            yield np.stack(pictures)
            pictures = []


def agreement(found: torch.Tensor, expected: torch.Tensor, text: torch.Tensor) -> dict:
    same = (found @ text.T).argmax(-1) == (expected @ text.T).argmax(-1)
    return dict(
        cosine=round(F.cosine_similarity(found, expected, dim=-1).mean().item(), 4),
        same_class=round(same.float().mean().item(), 4),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("video")
    parser.add_argument("--engine", choices=ENGINES, default="eager-f32")
    parser.add_argument("--folder", default=".")
    parser.add_argument("--height", type=int, default=336)
    parser.add_argument("--width", type=int, default=592)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--what", default="", help="put before the name of the run")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    patch = json.load(open(os.path.join(args.model, "config.json")))["vision_config"]["patch_size"]
    rows, columns = args.height // patch, args.width // patch
    torch.manual_seed(1)
    size, seen = (args.width, args.height), 0
    with torch.inference_mode():
        first = next(batches(args.video, size, args.batch))
        peers = Peers(args.model, args.folder, first, args.threads)
        expected = torch.from_numpy(peers.eager_f32()(first))
        if args.engine == "openvino-int8":
            encode = peers.openvino_int8(list(batches(args.video, size, args.batch)))
        else:
            encode = peers.encoder(args.engine)
        text = F.normalize(torch.randn(args.classes, expected.shape[2]), dim=-1)
        agrees = agreement(torch.from_numpy(encode(first)), expected, text)
        wall, cpu = time.perf_counter(), cpu_seconds()
        for pixels in batches(args.video, size, args.batch):
            cosines = torch.from_numpy(encode(pixels)) @ text.T  # [N, rows * columns, Q]
            cosines = cosines.transpose(1, 2).reshape(len(pixels), -1, rows, columns)
            full = F.interpolate(cosines, size=pixels.shape[2:], mode="bilinear", align_corners=False)
            (40 * full).softmax(1).argmax(1)
            seen += len(pixels)
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    print(json.dumps(dict(
        what=f"{args.what}OpenCV + {ENGINES[args.engine]}", frames=seen, ms_per_frame=round(1000 * wall / seen, 1),
        cpu_ms_per_frame=round(1000 * cpu / seen, 1), **agrees,
    )))


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
