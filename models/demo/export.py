"""Writes a checkpoint as a Hugging Face `CLIPModel` folder in fp16.

    python export.py --checkpoint RUN/checkpoint.pt --out .
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from clip import (CONTEXT, DEPTH, EOT, HEADS, IMAGE, JOINT, PATCH, TEXT_DEPTH, TEXT_HEADS, TEXT_WIDTH, VOCAB, WIDTH, Clip)

SHORT_SIDE = 336


def tower(kind, width, heads, depth, **more):
    return dict(
        model_type=f"clip_{kind}_model", hidden_size=width, intermediate_size=4 * width, num_attention_heads=heads,
        num_hidden_layers=depth, hidden_act="quick_gelu", layer_norm_eps=1e-5, attention_dropout=0.0,
        projection_dim=JOINT, **more,
    )


def config():
    text = tower("text", TEXT_WIDTH, TEXT_HEADS, TEXT_DEPTH, max_position_embeddings=CONTEXT, vocab_size=VOCAB,
                 bos_token_id=EOT - 1, eos_token_id=EOT, pad_token_id=EOT)
    vision = tower("vision", WIDTH, HEADS, DEPTH, image_size=IMAGE, patch_size=PATCH, num_channels=3)
    return dict(architectures=["CLIPModel"], model_type="clip", dtype="float16", projection_dim=JOINT,
                logit_scale_init_value=2.6592, text_config=text, vision_config=vision)


def preprocessor():
    return dict(
        image_processor_type="CLIPImageProcessor", do_resize=True, size={"shortest_edge": SHORT_SIDE}, resample=3,
        do_center_crop=True, crop_size={"height": IMAGE, "width": IMAGE}, do_rescale=True, rescale_factor=1 / 255,
        do_normalize=True, image_mean=[0.48145466, 0.4578275, 0.40821073],
        image_std=[0.26862954, 0.26130258, 0.27577711], do_convert_rgb=True,
    )


def export(model, folder):
    """Each file is written aside and then renamed, so that a reader never meets half of one."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().half().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / ".model.part", metadata={"format": "pt"})
    (folder / ".model.part").chmod(0o644)
    (folder / ".model.part").rename(folder / "model.safetensors")
    for name, content in (("config.json", config()), ("preprocessor_config.json", preprocessor())):
        part = folder / f".{name}.part"
        part.write_text(json.dumps(content, indent=2) + "\n")
        part.rename(folder / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--out", default=str(Path(__file__).parent))
    args = parser.parse_args()
    model = Clip()
    model.load_state_dict(torch.load(args.checkpoint, map_location="cpu", weights_only=True)["model"])
    export(model, Path(args.out))


if __name__ == "__main__":
    main()
