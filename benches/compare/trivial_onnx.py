# SPDX-License-Identifier: MIT OR Apache-2.0
"""Writes ONNX models that do next to nothing: they take one value out of a picture. What remains is what it costs to
hand frames to a model.

usage: trivial_onnx.py FOLDER WIDTH HEIGHT     writes float.onnx ([1, 3, H, W] f32) and bytes.onnx ([1, H, W, 3] u8)
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MODELINFO = """[modelinfo]
version=1.0
group-id=overhead

[picture]
id=overhead-picture
type={type}
dims={dims}
dir=input
ranges={ranges}

[value]
id=overhead-value
type=float32
dims=1,1,1,1
dir=output
"""


def model(kind: int, shape: list[int]) -> onnx.ModelProto:
    number = lambda name, values: numpy_helper.from_array(np.array(values, np.int64), name)
    nodes = [
        helper.make_node("Slice", ["picture", "starts", "ends"], ["first"]),
        helper.make_node("Cast", ["first"], ["value"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes, "overhead", [helper.make_tensor_value_info("picture", kind, shape)],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [1, 1, 1, 1])],
        [number("starts", [0, 0, 0, 0]), number("ends", [1, 1, 1, 1])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def main(folder: str, width: str, height: str) -> None:
    width, height, folder = int(width), int(height), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    variants = [
        ("float", TensorProto.FLOAT, [1, 3, height, width], "float32", "0.0,1.0;0.0,1.0;0.0,1.0"),
        ("bytes", TensorProto.UINT8, [1, height, width, 3], "uint8", "0.0,255.0"),
    ]
    for name, kind, shape, type_name, ranges in variants:
        onnx.save(model(kind, shape), folder / f"{name}.onnx")
        info = MODELINFO.format(type=type_name, dims=",".join(map(str, shape)), ranges=ranges)
        (folder / f"{name}.onnx.modelinfo").write_text(info)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
