# SPDX-License-Identifier: MIT OR Apache-2.0
"""CLIP's byte-pair encoding, both towers and six last-block methods, as plainly as they can be written.

One picture or text at a time, on openai/CLIP's tensor names; from the papers' formulas.
"""
import math
import re

import torch
import torch.nn.functional as F

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
EPS = 1e-5


def tokens(text, vocab, merges, context):
    """Byte-pair encoding of lower-case ASCII words, as slowly as it is written in the textbook."""
    rank = {pair: index for index, pair in enumerate(merges)}
    pattern = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+"
    ids = [vocab["<|startoftext|>"]]
    for word in re.findall(pattern, text.lower()):
        if word in vocab and word.startswith("<|"):
            ids.append(vocab[word])
            continue
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            best = min(zip(parts, parts[1:]), key=lambda pair: rank.get(pair, math.inf))
            if best not in rank:
                break
            at = next(i for i in range(len(parts) - 1) if (parts[i], parts[i + 1]) == best)
            parts[at : at + 2] = ["".join(best)]
        ids += [vocab[part] for part in parts]
    return ids[: context - 1] + [vocab["<|endoftext|>"]]


class Reference:
    def __init__(self, w, c):
        self.w, self.c = w, c

    def ln(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"], EPS)

    def act(self, x):
        return F.gelu(x) if self.c["act"] == "gelu" else x * torch.sigmoid(1.702 * x)

    def qkv(self, x, p, heads):
        y = F.linear(self.ln(x, p + "ln_1"), self.w[p + "attn.in_proj_weight"], self.w[p + "attn.in_proj_bias"])
        return [part.unflatten(-1, (heads, -1)).transpose(0, 1) for part in y.chunk(3, -1)]  # [heads, L, d]

    def out(self, gathered, p):
        x = gathered.transpose(0, 1).flatten(1)
        return F.linear(x, self.w[p + "attn.out_proj.weight"], self.w[p + "attn.out_proj.bias"])

    def mlp(self, x, p):
        y = F.linear(self.ln(x, p + "ln_2"), self.w[p + "mlp.c_fc.weight"], self.w[p + "mlp.c_fc.bias"])
        return x + F.linear(self.act(y), self.w[p + "mlp.c_proj.weight"], self.w[p + "mlp.c_proj.bias"])

    def text(self, ids):
        t = self.c["text"]
        x = self.w["token_embedding.weight"][ids] + self.w["positional_embedding"][: len(ids)]
        mask = torch.full((len(ids), len(ids)), -math.inf).triu(1)
        for i in range(t["layers"]):
            p = f"transformer.resblocks.{i}."
            q, k, v = self.qkv(x, p, t["heads"])
            a = (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5 + mask).softmax(-1)
            x = self.mlp(x + self.out(a @ v, p), p)
        return self.ln(x, "ln_final")[ids.index(max(ids))] @ self.w["text_projection"]

    def positions(self, h, w, plain):
        table, side = self.w["visual.positional_embedding"], self.c["vision"]["image"] // self.c["vision"]["patch"]
        if (h, w) == (side, side):
            return table
        grid = table[1:].view(1, side, side, -1).permute(0, 3, 1, 2)
        if plain:
            grid = F.interpolate(grid, (h, w), mode="bicubic")
        else:
            grid = F.interpolate(grid, scale_factor=((h + 0.1) / side, (w + 0.1) / side), mode="bicubic")
        return torch.cat([table[:1], grid.permute(0, 2, 3, 1).flatten(0, 2)])

    def trunk(self, rgb, plain, until=None):
        v = self.c["vision"]
        x = ((torch.from_numpy(rgb).permute(2, 0, 1) / 255 - MEAN) / STD)[None]
        x = F.conv2d(x, self.w["visual.conv1.weight"], stride=v["patch"])[0]
        h, w = x.shape[1:]
        x = torch.cat([self.w["visual.class_embedding"][None], x.flatten(1).T]) + self.positions(h, w, plain)
        x = self.ln(x, "visual.ln_pre")
        maps = []
        for i in range(until if until is not None else v["layers"]):
            p = f"visual.transformer.resblocks.{i}."
            q, k, value = self.qkv(x, p, v["heads"])
            maps.append((q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1))
            x = self.mlp(x + self.out(maps[-1] @ value, p), p)
        return x, maps, (h, w)

    def image(self, rgb, plain=True):
        x, _, _ = self.trunk(rgb, plain)
        return self.ln(x[0], "visual.ln_post") @ self.w["visual.proj"]

    def dense(self, rgb, method, plain, **o):
        v = self.c["vision"]
        last = v["layers"] - 1
        p = f"visual.transformer.resblocks.{last}."
        if method == "gclip" and o["suppress"]:
            suppressed = dict(self.w)
            for i in o["suppress"]:
                name = f"visual.transformer.resblocks.{i}.mlp.c_proj.weight"
                rows = suppressed[name].clone()
                norms = rows.norm(dim=1)
                worst = norms.argmax()
                rows[worst] *= (norms.sum() - norms[worst]) / (len(norms) - 1) / norms[worst]
                suppressed[name] = rows
            return Reference(suppressed, self.c).dense(rgb, method, plain, **{**o, "suppress": []})
        x, maps, (h, w) = self.trunk(rgb, plain, last)
        q, k, value = self.qkv(x, p, v["heads"])
        s = q.shape[-1] ** -0.5
        attend = lambda a, b, bias=0.0: (a @ b.transpose(1, 2) * s + bias).softmax(-1)
        if method == "clip":
            x = self.mlp(x + self.out(attend(q, k) @ value, p), p)
        elif method == "sclip":
            x = self.mlp(x + self.out((attend(q, q) + attend(k, k)) @ value, p), p)
        elif method == "maskclip":
            x = self.mlp(x + self.out(value, p), p)
        elif method == "clearclip":
            x = self.out(attend(q, q) @ value, p)
        elif method == "naclip":
            place = torch.cartesian_prod(torch.arange(h), torch.arange(w)).float()
            bias = F.pad(torch.exp(-torch.cdist(place, place) ** 2 / 50), (1, 0, 1, 0))
            x = self.out(attend(k, k, bias) @ value, p)
        elif method == "gclip":
            per_head = [maps[i] for i in o["fuse"]] + [attend(q, q)]
            if not o.get("each"):
                per_head = [m.mean(0, keepdim=True) for m in per_head]
            share = [1 / len(per_head)] * len(per_head)
            if o.get("half"):
                share = [0.5 / (len(per_head) - 1)] * (len(per_head) - 1) + [0.5]
            x = self.out(sum(a * m for a, m in zip(share, per_head)) @ value, p)
        x = self.ln(x[1:], "visual.ln_post") @ self.w["visual.proj"]
        return F.normalize(x, dim=-1), (h, w)
