"""Trains the demo's CLIP from scratch on a pool of generated scenes; run again with the same arguments to resume.

    python pool.py --out POOL --scenes 6000
    python train.py --pool POOL --out RUN --steps 2500 --seed 1
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from batches import Batches
from clip import DEPTH, PATCH, Clip
from evaluate import Judge
from export import export
from optim import make_optimizers, set_rate


def patch_filters(batches, count, samples=6):
    """PCA-whitening filters of 16 x 16 patches: a linear first layer that starts out useful. [count, 3, 16, 16]"""
    patches = torch.cat([
        batches.batch(step)["pixels"].unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # [B, 3, r, c, 16, 16]
        .permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2) for step in range(samples)
    ])
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))            # rising
    filters = vectors[:, -count:] / (values[-count:] + 0.5).sqrt()
    return filters.T.reshape(count, 3, PATCH, PATCH)


def soft_contrast(logits, target):
    return -(target * logits.log_softmax(-1)).sum(-1)


def objective(model, batch, g, forms):
    """The loss and its parts. Texts come in one tensor: classes (and unrelated words), pairs, colours, captions."""
    cls, dense = model.image(batch["pixels"], batch["whole"], batch["corner"], g, forms)
    classes, pairs, colours, captions = model.text(batch["ids"]).split(batch["parts"])
    scale = model.logit_scale.exp().clamp(max=100)
    told = len(captions)

    known = torch.tensor([[a == b for a in batch["captions"]] for b in batch["captions"]], device=cls.device).float()
    match = scale * cls[:told] @ captions.T                         # [B, B]
    positives = known / known.sum(1, keepdim=True)                  # equal captions are all right
    loss = {"caption": 0.5 * (soft_contrast(match, positives) + soft_contrast(match.T, positives)).mean()}

    width = batch["area"].shape[1]
    loss["picture"] = soft_contrast(scale * cls @ classes.T, F.pad(batch["area"], (0, len(classes) - width))).mean()
    share = F.pad(batch["classes"], (0, len(classes) - width))      # [patches, texts]
    weight = batch["weight"] / batch["weight"].sum()
    coloured = (batch["pair"] >= 0).nonzero()[:, 0]
    pair_weight = batch["pair_weight"][coloured]
    pair_weight = pair_weight / pair_weight.sum().clamp(min=1e-6)
    loss["patch"] = loss["pair"] = loss["colour"] = 0.0
    for form in forms:
        z = dense[form].flatten(0, 1)                               # [patches, joint]
        loss["patch"] = loss["patch"] + (weight * soft_contrast(scale * z @ classes.T, share)).sum() / len(forms)
        if len(coloured):
            z = z[coloured]
            pair = F.cross_entropy(scale * z @ pairs.T, batch["pair"][coloured], reduction="none")
            colour = F.cross_entropy(scale * z @ colours.T, batch["colour"][coloured], reduction="none")
            loss["pair"] = loss["pair"] + (pair_weight * pair).sum() / len(forms)
            loss["colour"] = loss["colour"] + (pair_weight * colour).sum() / len(forms)
    total = 2.0 * loss["patch"] + 0.7 * loss["pair"] + 0.3 * loss["colour"] + 0.2 * loss["caption"] + 0.2 * loss["picture"]
    return total, {k: float(torch.as_tensor(v).detach()) for k, v in loss.items()}


def schedule(step, steps):
    """Short warm-up, a plateau for the first fifth, then linear decay to 2 %."""
    return min(1.0, (step + 1) / 60, max(0.02, (steps - step) / (0.8 * steps)))


def save(path, **state):
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--out", required=True, help="folder for the checkpoint and the log")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--check-every", type=int, default=250, help="steps between checkpoints and quick evaluations")
    parser.add_argument("--export-to", help="write the Hugging Face folder here at the end")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    here, out = Path(__file__).parent, Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    batches = Batches(args.pool, here, args.seed, args.steps)
    model = Clip()
    checkpoint, start, spent = out / "checkpoint.pt", 0, 0.0
    if not checkpoint.exists():
        filters = patch_filters(batches, model.vision_model.embeddings.patch_embedding.out_channels)
        model.vision_model.embeddings.patch_embedding.weight.data.copy_(filters)
    model.to(device)
    optimizers = make_optimizers(model)
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        start, spent = state["step"], state["spent"]
    judge = Judge(here, scenes=24)
    log = open(out / "train.log", "a", buffering=1)

    def say(line):
        print(line, flush=True)
        log.write(line + "\n")

    say(f"{'resumed' if start else 'started'} at step {start} of {args.steps}, seed {args.seed}, "
        f"{len(batches.rgb)} scenes, {device}, {args.threads} thread(s)")
    began, means = time.time() - spent, {}
    for step in range(start, args.steps):
        rng = np.random.default_rng([args.seed, step, 5])
        g = int(rng.integers(1, DEPTH - 2))
        forms = ["fused", str(rng.choice(["value", "qq", "kk"]))]
        batch = {k: v.to(device) if torch.is_tensor(v) else v for k, v in batches.batch(step).items()}
        set_rate(optimizers, schedule(step, args.steps))
        with torch.autocast(device, torch.bfloat16):
            loss, parts = objective(model, batch, g, forms)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        for key, value in parts.items():
            means[key] = 0.97 * means.get(key, value) + 0.03 * value
        if (step + 1) % 25 == 0:
            shown = " ".join(f"{k} {v:.3f}" for k, v in means.items())
            spent = time.time() - began
            left = spent / (step + 1) * (args.steps - step - 1)
            say(f"step {step + 1}/{args.steps} {shown} scale {float(model.logit_scale.detach().exp()):.1f} "
                f"{spent / (step + 1):.2f} s/step, {spent / 60:.1f} min, {left / 60:.0f} min left")
        if (step + 1) % args.check_every == 0 or step + 1 == args.steps:
            with torch.no_grad():
                say(f"check at {step + 1}: " + judge.summary(model, device))
            save(checkpoint, model=model.state_dict(), optimizers=[o.state_dict() for o in optimizers],
                 step=step + 1, spent=time.time() - began)
    if args.export_to:
        export(model, Path(args.export_to))
        say(f"wrote {args.export_to}")


if __name__ == "__main__":
    main()
