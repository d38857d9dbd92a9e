# SPDX-License-Identifier: MIT OR Apache-2.0
"""Writes a CLIP of a real size with random weights: the arithmetic of the real one, without a download.

usage: random_clip.py FOLDER [b32|b16|l14|l14-336]
"""

import json
import sys
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel

SIZES = {  # vision width, depth, heads, patch, picture; text width, heads; joint width
    "b32": (768, 12, 12, 32, 224, 512, 8, 512),
    "b16": (768, 12, 12, 16, 224, 512, 8, 512),
    "l14": (1024, 24, 16, 14, 224, 768, 12, 768),
    "l14-336": (1024, 24, 16, 14, 336, 768, 12, 768),
}


def main(folder: str, size: str = "b16") -> None:
    width, depth, heads, patch, picture, text_width, text_heads, joint = SIZES[size]
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config=dict(
            hidden_size=width, intermediate_size=4 * width, num_hidden_layers=depth, num_attention_heads=heads,
            patch_size=patch, image_size=picture, hidden_act="quick_gelu", projection_dim=joint,
        ),
        text_config=dict(
            hidden_size=text_width, intermediate_size=4 * text_width, num_hidden_layers=12,
            num_attention_heads=text_heads, hidden_act="quick_gelu", projection_dim=joint,
            bos_token_id=49406, eos_token_id=49407,
        ),
        projection_dim=joint,
    )
    model = CLIPModel(config)
    model.save_pretrained(folder)
    preprocessor = dict(
        size={"shortest_edge": picture}, crop_size={"height": picture, "width": picture},
        image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711],
    )
    Path(folder, "preprocessor_config.json").write_text(json.dumps(preprocessor))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[-1] in ("-h", "--help"):
        sys.exit(__doc__)
    main(*sys.argv[1:])
