# SPDX-License-Identifier: MIT OR Apache-2.0
"""The image encoder of a GCLIP model in each of the engines that a user would pick on a CPU.

Each is a function from pixels [N, 3, H, W] to unit patch features [N, patches, E], both NumPy arrays of f32; N, H and W
are those of the example that it is made for. Exported and quantised models are kept in a folder and made once.
"""

import contextlib
import os
import sys

import numpy as np
import torch
from torch_reference import gclip_features, suppress_channel
from transformers import CLIPModel


class ImageEncoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels):
        return gclip_features(self.model, pixels)


class Peers:
    def __init__(self, checkpoint: str, folder: str, example: np.ndarray, threads: int):
        self.model = CLIPModel.from_pretrained(checkpoint, attn_implementation="eager").eval()
        suppress_channel(self.model.vision_model, range(7, 11))
        self.folder, self.example, self.threads = folder, example, threads

    def encoder(self, engine: str):
        return getattr(self, engine.replace("-", "_"))()

    def eager_f32(self):
        return lambda pixels: gclip_features(self.model, torch.from_numpy(pixels)).numpy()

    def eager_bf16(self):
        return self._torch(ImageEncoder(self.model.to(torch.bfloat16)))

    def compile_bf16(self):
        return self._torch(torch.compile(ImageEncoder(self.model.to(torch.bfloat16))))

    def onnx_f32(self):
        return self._onnxruntime(self._exported())

    def onnx_int8(self):
        """Weights once, a scale for each output channel; activations as they come."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        def make(path):
            quantize_dynamic(self._exported(), path, per_channel=True, weight_type=QuantType.QInt8)

        return self._onnxruntime(self._once("int8-dynamic.onnx", make))

    def openvino_f32(self):
        return self._openvino(self._exported(), "f32")

    def openvino_bf16(self):
        return self._openvino(self._exported(), "bf16")

    def openvino_int8(self, calibration=None):
        """By NNCF, calibrated on the pictures that are then segmented, which is the best that can happen to it."""
        import nncf
        import openvino

        def make(path):
            model = openvino.Core().read_model(self._exported())
            pictures = nncf.Dataset(calibration or [self.example])
            # Its bars would come between the results.
            with contextlib.redirect_stdout(sys.stderr):
                quantised = nncf.quantize(model, pictures, model_type=nncf.ModelType.TRANSFORMER)
            openvino.save_model(quantised, path)

        return self._openvino(self._once("int8-nncf.xml", make), "f32")

    def _torch(self, module):
        def encode(pixels):
            features = module(torch.from_numpy(pixels).to(torch.bfloat16))
            return features.to(torch.float32).numpy()

        return encode

    def _exported(self):
        def make(path):
            example = torch.from_numpy(self.example)
            torch.onnx.export(ImageEncoder(self.model), (example,), path, input_names=["pixels"], dynamo=False)

        return self._once("f32.onnx", make)

    def _once(self, name: str, make):
        """A file of this name, made beside its place and then moved there."""
        shape = "x".join(str(side) for side in self.example.shape)
        path = os.path.join(self.folder, f"b16-{shape}-{name}")
        if not os.path.exists(path):
            partial = os.path.join(self.folder, "partial-" + os.path.basename(path))
            make(partial)
            weights = os.path.splitext(partial)[0] + ".bin"
            if os.path.exists(weights):
                os.replace(weights, os.path.splitext(path)[0] + ".bin")
            os.replace(partial, path)
        return path

    def _onnxruntime(self, path: str):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda pixels: session.run(None, {"pixels": pixels})[0]

    def _openvino(self, path: str, precision: str):
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": self.threads}
        model = openvino.Core().compile_model(path, "CPU", settings)
        return lambda pixels: model(pixels)[0]


ENGINES = {
    "eager-f32": "eager PyTorch, f32",
    "eager-bf16": "eager PyTorch, bf16",
    "compile-bf16": "torch.compile, bf16",
    "onnx-f32": "ONNX Runtime, f32",
    "onnx-int8": "ONNX Runtime, int8 (dynamic)",
    "openvino-f32": "OpenVINO, f32",
    "openvino-bf16": "OpenVINO, bf16",
    "openvino-int8": "OpenVINO, int8 (NNCF)",
}
