"""CLIP in plain torch, its modules named as in a Hugging Face `CLIPModel`, so that the state dict is the checkpoint.

Dense features come from the last block in four forms: value only, q-q, k-k with a Gaussian, and the fused maps.
"""

import torch
import torch.nn.functional as F
from torch import nn

PATCH, IMAGE, GRID = 16, 224, 14
WIDTH, HEADS, DEPTH = 192, 3, 6
TEXT_WIDTH, TEXT_HEADS, TEXT_DEPTH = 64, 1, 4
JOINT, VOCAB, CONTEXT, EOT = 128, 49408, 77, 49407
HEAD = 64
FORMS = ("value", "qq", "kk", "fused")


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def split(self, x):
        """[B, L, D] -> [B, heads, L, 64]"""
        return x.unflatten(-1, (self.heads, HEAD)).transpose(1, 2)

    def forward(self, y, causal=False, want_map=False):
        """-> output [B, L, D], head-mean attention [B, L, L] or None"""
        q, k, v = self.split(self.q_proj(y)), self.split(self.k_proj(y)), self.split(self.v_proj(y))
        if not want_map:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
            return self.out_proj(mixed.transpose(1, 2).flatten(2)), None
        weights = soft(q, k)                                        # [B, heads, L, L]
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2)), weights.mean(1)


class Mlp(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.fc2(F.silu(1.702 * self.fc1(x)) * (1 / 1.702))  # QuickGELU


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, x, causal=False, want_map=False):
        out, weights = self.self_attn(self.layer_norm1(x), causal, want_map)
        x = x + out
        return x + self.mlp(self.layer_norm2(x)), weights


def soft(a, b, bias=0.0):
    """softmax(a b^T / 8 + bias) in the inputs' precision."""
    return ((a * HEAD**-0.5) @ b.transpose(-1, -2) + bias).softmax(-1, dtype=a.dtype)


def encoder(width, heads, depth):
    holder = nn.Module()
    holder.layers = nn.ModuleList(Block(width, heads) for _ in range(depth))
    return holder


class Clip(nn.Module):
    def __init__(self):
        super().__init__()
        vision = self.vision_model = nn.Module()
        vision.embeddings = nn.Module()
        vision.embeddings.class_embedding = nn.Parameter(torch.randn(WIDTH) * 0.1)
        vision.embeddings.patch_embedding = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        vision.embeddings.position_embedding = nn.Embedding(GRID * GRID + 1, WIDTH)
        vision.pre_layrnorm = nn.LayerNorm(WIDTH)
        vision.encoder = encoder(WIDTH, HEADS, DEPTH)
        vision.post_layernorm = nn.LayerNorm(WIDTH)
        self.visual_projection = nn.Linear(WIDTH, JOINT, bias=False)
        text = self.text_model = nn.Module()
        text.embeddings = nn.Module()
        text.embeddings.token_embedding = nn.Embedding(VOCAB, TEXT_WIDTH)
        text.embeddings.position_embedding = nn.Embedding(CONTEXT, TEXT_WIDTH)
        text.encoder = encoder(TEXT_WIDTH, TEXT_HEADS, TEXT_DEPTH)
        text.final_layer_norm = nn.LayerNorm(TEXT_WIDTH)
        self.text_projection = nn.Linear(TEXT_WIDTH, JOINT, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))
        for name, p in self.named_parameters():
            if p.ndim == 2 and "layers" in name:
                gain = 0.3 if "out_proj" in name or "fc2" in name else 1.0
                nn.init.normal_(p, std=gain * p.shape[1] ** -0.5)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
        nn.init.normal_(text.embeddings.token_embedding.weight, std=0.05)
        nn.init.normal_(text.embeddings.position_embedding.weight, std=0.02)
        vision.embeddings.position_embedding.weight.data[1:] = sincos(GRID, WIDTH)

    def text(self, ids):
        """ids [T, n] padded with EOT -> unit vectors [T, joint]"""
        emb = self.text_model.embeddings
        x = emb.token_embedding(ids) + emb.position_embedding.weight[: ids.shape[1]]
        for block in self.text_model.encoder.layers:
            x, _ = block(x, causal=True)
        first_end = (ids == EOT).int().argmax(-1)                   # the rest is padding
        x = self.text_model.final_layer_norm(x[torch.arange(len(ids), device=ids.device), first_end])
        return F.normalize(self.text_projection(x).float(), dim=-1)

    def positions(self, rows, cols):
        """Position embeddings of a rows x cols grid: CLS row [D], patch rows [rows, cols, D]"""
        weight = self.vision_model.embeddings.position_embedding.weight
        if (rows, cols) == (GRID, GRID):
            return weight[0], weight[1:].unflatten(0, (GRID, GRID))
        square = weight[1:].T.reshape(1, WIDTH, GRID, GRID)
        return weight[0], F.interpolate(square, (rows, cols), mode="bicubic", align_corners=False)[0].permute(1, 2, 0)

    def image(self, pixels, whole=None, corner=None, g=2, forms=("fused",), with_last=False):
        """pixels [B, 3, h, w] -> CLS unit vectors [B, joint], {form: unit patch vectors [B, n, joint]}

        whole: grid (rows, cols) of the picture that the pixels are cut from; corner: (rows [B], cols [B]) of the cuts in it.
        g: the fused maps are those of blocks g and g + 1. with_last adds the unchanged last block as form "clip".
        """
        vision = self.vision_model
        x = vision.embeddings.patch_embedding(pixels)               # [B, D, h/16, w/16]
        rows, cols = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)                            # [B, n, D]
        cls_pos, grid_pos = self.positions(*(whole or (rows, cols)))
        if corner is not None:
            r = corner[0][:, None] + torch.arange(rows, device=x.device)                    # [B, rows]
            c = corner[1][:, None] + torch.arange(cols, device=x.device)                    # [B, cols]
            grid_pos = grid_pos[r[:, :, None], c[:, None, :]].flatten(1, 2)                 # [B, n, D]
        else:
            grid_pos = grid_pos.flatten(0, 1)                       # [n, D]
        first = (vision.embeddings.class_embedding + cls_pos).expand(len(x), 1, -1)
        x = vision.pre_layrnorm(torch.cat([first, x + grid_pos], 1))  # [B, 1+n, D]
        maps = []
        for i, block in enumerate(vision.encoder.layers[:-1]):
            x, weights = block(x, want_map=i in (g, g + 1) and "fused" in forms)
            if weights is not None:
                maps.append(weights)
        return self.last_block(x, rows, cols, maps, forms, with_last)

    def last_block(self, x, rows, cols, maps, forms, with_last):
        block = self.vision_model.encoder.layers[-1]
        attn, y = block.self_attn, block.layer_norm1(x)
        flat_v = attn.v_proj(y)                                     # [B, L, D]
        q, k, v = attn.split(attn.q_proj(y)), attn.split(attn.k_proj(y)), attn.split(flat_v)

        def join(heads):
            return attn.out_proj(heads.transpose(1, 2).flatten(2))

        def embed(z):
            return F.normalize(self.visual_projection(self.vision_model.post_layernorm(z)).float(), dim=-1)

        asked = q if with_last else q[:, :, :1]                     # CLS asks; all ask for the "clip" form
        z = x[:, : asked.shape[2]] + join(F.scaled_dot_product_attention(asked, k, v))
        z = embed(z + block.mlp(block.layer_norm2(z)))
        dense = {"clip": z[:, 1:]} if with_last else {}
        for form in forms:
            if form == "value":
                out = attn.out_proj(flat_v)
            elif form == "qq":
                out = join(F.scaled_dot_product_attention(q, q, v))
            elif form == "kk":
                out = join(soft(k, k, gaussian(rows, cols, x.device).to(k.dtype)) @ v)
            else:
                own = soft(q, q).mean(1)                            # [B, L, L]
                out = attn.out_proj(((maps[0] + maps[1] + own) / 3).to(flat_v.dtype) @ flat_v)
            dense[form] = embed(out[:, 1:])
        return z[:, 0], dense


def sincos(grid, width):
    """Two-dimensional sine and cosine position table [grid^2, width]."""
    freq = 1.0 / 100 ** (torch.arange(width // 4) / (width // 4))
    angle = torch.arange(grid)[:, None] * freq                      # [grid, width/4]
    wave = torch.cat([angle.sin(), angle.cos()], 1)                 # [grid, width/2]
    down, right = wave[:, None].expand(-1, grid, -1), wave[None].expand(grid, -1, -1)
    return 0.5 * torch.cat([down, right], -1).flatten(0, 1)


def gaussian(rows, cols, device, std=5.0):
    """NACLIP's window added to k-k: exp(-d^2 / 2 std^2) between patches, 0 at the CLS. [L, L]"""
    r, c = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    place = torch.stack([r.flatten(), c.flatten()], 1).float()
    window = torch.exp(-torch.cdist(place, place) ** 2 / (2 * std**2))
    return F.pad(window, (1, 0, 1, 0)).to(device)


def suppress_channel(model, g):
    """GCLIP's channel suppression: in blocks g+1 .. depth-2 the largest row of fc2 is scaled to the others' mean."""
    for block in model.vision_model.encoder.layers[g + 1 : -1]:
        norms = block.mlp.fc2.weight.data.norm(dim=1)
        d = norms.argmax()
        block.mlp.fc2.weight.data[d] *= (norms.sum() - norms[d]) / (len(norms) - 1) / norms[d]
