# SPDX-License-Identifier: MIT OR Apache-2.0
"""What a user would write: OpenCV reads a video or pictures (%02d.png), PyTorch or ONNX Runtime segments it, a batch at a time.

Decoding, resizing, normalising, the model and the masks count; loading and the first batch do not. Prints one JSON object.

usage: capture.py MODEL VIDEO --height 336 --width 592 --batch 4 --classes 8 [--onnx FILE] [--threads N]
       With --onnx the image encoder runs in ONNX Runtime, from FILE, which is exported first if it is missing.
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
from torch_reference import gclip_features, suppress_channel
from transformers import CLIPModel

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


class ImageEncoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels):
        return gclip_features(self.model, pixels)


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


def encoder(args):
    """A function from pixels [N, 3, H, W] to unit patch features [N, patches, E], both NumPy arrays."""
    model = CLIPModel.from_pretrained(args.model, attn_implementation="eager").eval()
    suppress_channel(model.vision_model, range(7, 11))
    if not args.onnx:
        return lambda pixels: gclip_features(model, torch.from_numpy(pixels)).numpy()
    import onnxruntime

    if not os.path.exists(args.onnx):
        example = torch.zeros(args.batch, 3, args.height, args.width)
        partial = args.onnx + ".partial"
        torch.onnx.export(ImageEncoder(model), (example,), partial, input_names=["pixels"], dynamo=False)
        os.replace(partial, args.onnx)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads or os.cpu_count()
    session = onnxruntime.InferenceSession(args.onnx, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("video")
    parser.add_argument("--height", type=int, default=336)
    parser.add_argument("--width", type=int, default=592)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--classes", type=int, default=8)
    parser.add_argument("--onnx")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--what", default="", help="put before the name of the run")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    patch = json.load(open(os.path.join(args.model, "config.json")))["vision_config"]["patch_size"]
    rows, columns = args.height // patch, args.width // patch
    torch.manual_seed(1)
    seen = 0
    with torch.inference_mode():
        encode = encoder(args)
        text = F.normalize(torch.randn(args.classes, encode(np.zeros((args.batch, 3, args.height, args.width), np.float32)).shape[2]), dim=-1)
        wall, cpu = time.perf_counter(), cpu_seconds()
        for pixels in batches(args.video, (args.width, args.height), args.batch):
            cosines = torch.from_numpy(encode(pixels)) @ text.T  # [N, rows * columns, Q]
            cosines = cosines.transpose(1, 2).reshape(len(pixels), -1, rows, columns)
            full = F.interpolate(cosines, size=pixels.shape[2:], mode="bilinear", align_corners=False)
            (40 * full).softmax(1).argmax(1)
            seen += len(pixels)
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    print(json.dumps(dict(
        what=args.what + "OpenCV + " + ("ONNX Runtime" if args.onnx else "eager PyTorch") + ", f32", frames=seen,
        ms_per_frame=round(1000 * wall / seen, 1), cpu_ms_per_frame=round(1000 * cpu / seen, 1),
    )))


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
