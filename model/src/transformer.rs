// SPDX-License-Identifier: MIT OR Apache-2.0
//! The residual attention block that both towers are made of, under openai/CLIP's names.
//!
//! Shapes: N pictures or texts, L tokens, D width, H heads of width D / H.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};

use super::config::{Activation, Transformer};
use super::cpu::{self, Attended, Curve, Int8Block, Packed, Parts, Then};
use super::gpu_attention::mean_map;
pub use super::gpu_attention::scores;
use super::weights::Weights;
use super::wide::{WideMatrix, wide_product};

/// QuickGELU(x) = x * sigmoid(1.702 x).
const QUICK_GELU: f64 = 1.702;

pub const NOT_ATTENDED: &str = "attention without a result that it was asked for";

/// Takes weights out of a checkpoint, onto a device, in a precision. Short number formats are for the many large products
/// only. What is cheap stays in f32: the residual stream, layer norms, attention maps, and the last block's attention and
/// all after it, where an error goes straight into the cosines. On a GPU, where f32 has no matrix units, products of that
/// kind have inputs in f16 and results in f32 (`wide`).
pub struct Loader<'a> {
    pub weights: &'a mut Weights,
    pub device: Device,
    /// Number format of the linear layers.
    pub kind: Kind,
    /// Whether products that are otherwise in f32 take inputs in f16.
    pub wide: bool,
}

impl Loader<'_> {
    /// One tensor, in f32.
    pub fn tensor(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        Ok(self.weights.take(name, shape)?.f_to_device(self.device)?)
    }

    pub fn layer_norm(&mut self, name: &str, width: i64, eps: f64) -> Result<LayerNorm> {
        let weight = self.tensor(&format!("{name}.weight"), &[width])?;
        let bias = self.tensor(&format!("{name}.bias"), &[width])?;
        Ok(LayerNorm { weight, bias, eps })
    }

    fn linear(&mut self, [weight, bias]: [&str; 2], rows: i64, columns: i64) -> Result<Linear> {
        Ok(Linear::new(self.tensor(weight, &[rows, columns])?, self.tensor(bias, &[rows])?))
    }

    /// What makes queries, keys and values of tokens, each by itself, in f32.
    pub fn in_projections(&mut self, attention: &str, width: i64) -> Result<[Linear; 3]> {
        let weight = self.tensor(&format!("{attention}.in_proj_weight"), &[3 * width, width])?;
        let bias = self.tensor(&format!("{attention}.in_proj_bias"), &[3 * width])?;
        let [query, key, value] = [0, 1, 2].map(|part| -> Result<Linear> {
            let rows =
                |x: &Tensor| -> Result<Tensor> { Ok(x.f_narrow(0, part * width, width)?.f_detach_copy()?) };
            Ok(Linear::new(rows(&weight)?, rows(&bias)?))
        });
        Ok([query?, key?, value?])
    }

    pub fn out_projection(&mut self, attention: &str, width: i64) -> Result<Linear> {
        let names = ["weight", "bias"].map(|kind| format!("{attention}.out_proj.{kind}"));
        self.linear([&names[0], &names[1]], width, width)
    }

    /// An MLP and the norm before it, in f32.
    pub fn mlp(&mut self, norm: &str, mlp: &str, config: &Transformer) -> Result<(LayerNorm, Mlp)> {
        let &Transformer { width, mlp_width, activation, eps, .. } = config;
        let at = |part: &str| format!("{mlp}.{part}");
        let mut norm = self.layer_norm(norm, width, eps)?;
        let mut c_fc = self.linear([&at("c_fc.weight"), &at("c_fc.bias")], mlp_width, width)?;
        let mut c_proj = self.linear([&at("c_proj.weight"), &at("c_proj.bias")], width, mlp_width)?;
        let mut output_scale = Tensor::f_ones([width], (Kind::Float, self.device))?;
        if activation == Activation::QuickGelu {
            // QuickGELU(x) = silu(1.702 x) / 1.702: with the factors around it, the hot path is one fused silu. They go
            // where numbers are f32 anyway, into the layer norm and the sum, so that no weight is rounded twice.
            norm = LayerNorm {
                weight: times(&norm.weight, QUICK_GELU)?,
                bias: times(&norm.bias, QUICK_GELU)?,
                eps,
            };
            c_fc.bias = times(&c_fc.bias, QUICK_GELU)?;
            c_proj.bias = times(&c_proj.bias, QUICK_GELU)?;
            output_scale = times(&output_scale, 1.0 / QUICK_GELU)?;
        }
        Ok((norm, Mlp { c_fc, c_proj, activation, output_scale }))
    }

    /// All blocks of a transformer whose tensors start with `prefix`.
    pub fn blocks(&mut self, prefix: &str, config: &Transformer) -> Result<Vec<Block>> {
        (0..config.layers).map(|index| self.block(&format!("{prefix}{index}"), index, config)).collect()
    }

    fn block(&mut self, name: &str, index: i64, config: &Transformer) -> Result<Block> {
        let &Transformer { width, heads, eps, layers, .. } = config;
        let at = |part: &str| format!("{name}.{part}");
        let in_proj =
            self.linear([&at("attn.in_proj_weight"), &at("attn.in_proj_bias")], 3 * width, width)?;
        let out_proj = self.out_projection(&at("attn"), width)?;
        let (ln_2, mlp) = self.mlp(&at("ln_2"), &at("mlp"), config)?;
        let last_kind = if index + 1 == layers { Kind::Float } else { self.kind };
        // The 8 bits of bf16 would show in the last block's values; the 11 of a GPU's f16 do not.
        let in_kind = if self.kind == Kind::BFloat16 { last_kind } else { self.kind };
        Ok(Block {
            ln_1: self.layer_norm(&at("ln_1"), width, eps)?,
            attn: Attention {
                in_proj: in_proj.to_kind(in_kind)?,
                out_proj: match self.wide && index + 1 == layers {
                    true => out_proj.to_wide()?,
                    false => out_proj.to_kind(last_kind)?,
                },
                heads,
            },
            ln_2,
            mlp: Mlp { c_fc: mlp.c_fc.to_kind(self.kind)?, c_proj: mlp.c_proj.to_kind(self.kind)?, ..mlp },
            int8: None,
        })
    }
}

fn times(tensor: &Tensor, factor: f64) -> Result<Tensor> {
    Ok(tensor.f_mul_scalar(factor)?)
}

pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// `[..., D] -> [..., D]`, f32
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)?)
    }
}

pub struct Linear {
    /// `[out, in]`
    weight: Weight,
    /// `[out]`
    bias: Tensor,
}

enum Weight {
    Plain(Tensor),
    /// In a layout that only [`Packed`] reads.
    Packed(Packed),
    /// For inputs in f16 and outputs in f32.
    Wide(WideMatrix),
    /// Of a block in 8 bits, which has its own.
    Gone,
}

impl Linear {
    fn new(weight: Tensor, bias: Tensor) -> Linear {
        Linear { weight: Weight::Plain(weight), bias }
    }

    fn weight(&self) -> Result<&Tensor> {
        let Weight::Plain(weight) = &self.weight else {
            bail!("the weights of a linear layer are asked for after they were packed");
        };
        Ok(weight)
    }

    fn to_kind(&self, kind: Kind) -> Result<Linear> {
        Ok(Linear::new(self.weight()?.f_to_kind(kind)?, self.bias.f_to_kind(kind)?))
    }

    fn to_wide(&self) -> Result<Linear> {
        let weight = WideMatrix::new(&self.weight()?.f_transpose(0, 1)?)?;
        Ok(Linear { weight: Weight::Wide(weight), bias: self.bias.f_to_kind(Kind::Float)? })
    }

    /// As f32 weights and bias, for a block in 8 bits.
    fn pair(&self) -> Result<(&Tensor, &Tensor)> {
        Ok((self.weight()?, &self.bias))
    }

    /// Lets go of the weights; the bias, and so the number format, stays.
    fn without_weight(&self, kind: Kind) -> Result<Linear> {
        Ok(Linear { weight: Weight::Gone, bias: self.bias.f_to_kind(kind)? })
    }

    /// Lays the weights out for the processor's kernels, where that can be done. They cannot be read any more.
    pub fn pack(&mut self) {
        if let Weight::Plain(weight) = &self.weight
            && weight.device() == Device::Cpu
            && let Some(packed) = Packed::new(weight)
        {
            self.weight = Weight::Packed(packed);
        }
    }

    /// `[..., in] -> [..., out]`, in the number format of the weights.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_then(x, Then::Nothing)
    }

    fn forward_then(&self, x: &Tensor, then: Then) -> Result<Tensor> {
        if let (Weight::Wide(weight), Then::Nothing) = (&self.weight, then) {
            return Ok(weight.forward(x)?.f_add_(&self.bias)?);
        }
        let x = x.f_to_kind(self.bias.kind())?;
        match &self.weight {
            Weight::Packed(packed) => packed.linear(&x, &self.bias, then),
            Weight::Plain(weight) if then == Then::Silu => {
                Ok(x.f_linear(weight, Some(&self.bias))?.f_silu_()?)
            }
            Weight::Plain(weight) => Ok(x.f_linear(weight, Some(&self.bias))?),
            Weight::Wide(weight) => Ok(weight.forward(&x)?.f_add_(&self.bias)?.f_silu_()?),
            Weight::Gone => bail!("a linear layer of a block in 8 bits is asked for by itself"),
        }
    }
}

/// Queries, keys and values of one block, each `[N, H, L, D / H]`.
pub struct Qkv {
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
}

impl Qkv {
    pub fn shallow_clone(&self) -> Qkv {
        Qkv { q: self.q.shallow_clone(), k: self.k.shallow_clone(), v: self.v.shallow_clone() }
    }
}

pub struct Attention {
    in_proj: Linear,
    pub out_proj: Linear,
    pub heads: i64,
}

impl Attention {
    /// Queries, keys and values side by side, as the projection gives them, apart: `[N, L, 3 D] -> 3 x [N, H, L, D / H]`.
    pub fn split(&self, joined: &Tensor) -> Result<Qkv> {
        let (n, l, width) = joined.size3()?;
        let head_width = width / 3 / self.heads;
        let joined = joined.f_reshape([n, l, 3, self.heads, head_width])?.f_permute([2, 0, 3, 1, 4])?; // [3, N, H, L, D / H]
        let [q, k, v] = [0, 1, 2].map(|part| joined.f_select(0, part));
        Ok(Qkv { q: q?, k: k?, v: v? })
    }

    /// What the heads gathered, through the output projection: `[N, H, L, D / H] -> [N, L, D]`.
    pub fn project(&self, gathered: &Tensor) -> Result<Tensor> {
        self.out_proj.forward(&join_heads(gathered)?)
    }
}

/// `[N, H, L, D / H] -> [N, L, D]`
pub fn join_heads(x: &Tensor) -> Result<Tensor> {
    let (n, heads, l, head_width) = x.size4()?;
    Ok(x.f_transpose(1, 2)?.f_reshape([n, l, heads * head_width])?)
}

/// `map v` in f32, for the last block: f32 `[N, H, L, L]` and `[N, H, L, D / H] -> [N, H, L, D / H]`.
/// On a GPU, where values in f16 tell that inputs may be so, both are rounded to f16 and summed in f32.
pub fn gather(map: &Tensor, v: &Tensor) -> Result<Tensor> {
    if v.device().is_cuda() && v.kind() == Kind::Half {
        let flat = |x: &Tensor| -> Result<Tensor> {
            let size = x.size();
            Ok(x.f_reshape([-1, size[size.len() - 2], size[size.len() - 1]])?)
        };
        return Ok(wide_product(&flat(map)?, &flat(v)?)?.f_view(&v.size()[..])?);
    }
    Ok(map.f_matmul(&v.f_to_kind(Kind::Float)?)?)
}

/// Attention map `softmax(a b^T / sqrt(D / H))` in f32: two `[N, H, L, D / H] -> [N, H, L, L]`; `a` may have other rows.
pub fn attention_map(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(scores(a, b)?.f_softmax(-1, Kind::Float)?)
}

/// Mean over the heads of [`attention_map`]: two `[N, H, L, D / H] -> [N, L, L]`.
pub fn mean_attention_map(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if cpu::attention_is_available(a) {
        return cpu::attention(a, b, None, true)?.mean_map.context(NOT_ATTENDED);
    }
    if a.device().is_cuda() {
        return mean_map(a, b);
    }
    // Head by head, a map stays in the processor's cache: about 2.5 times as fast as all heads at once.
    let ((n, heads, rows, _), (_, _, keys, _)) = (a.size4()?, b.size4()?);
    let mut pictures = Vec::with_capacity(n as usize);
    for picture in 0..n {
        let (a, b) = (a.f_narrow(0, picture, 1)?, b.f_narrow(0, picture, 1)?);
        let mut sum = Tensor::f_zeros([1, 1, rows, keys], (Kind::Float, a.device()))?;
        for head in 0..heads {
            sum = sum.f_add_(&attention_map(&a.f_narrow(1, head, 1)?, &b.f_narrow(1, head, 1)?)?)?;
        }
        pictures.push(sum.f_div_scalar_(heads)?.f_squeeze_dim(0)?); // [1, L, L]
    }
    Ok(Tensor::f_cat(&pictures, 0)?)
}

/// [`attend`] and [`mean_attention_map`] of the same queries and keys.
pub fn attend_with_mean_map(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
    if cpu::attention_is_available(q) {
        let Attended { gathered, mean_map } = cpu::attention(q, k, Some(v), true)?;
        return gathered.zip(mean_map).context(NOT_ATTENDED);
    }
    Ok((attend(q, k, v, false)?, mean_attention_map(q, k)?))
}

/// `softmax(q k^T / sqrt(D / H)) v` without keeping the map: three `[N, H, L, D / H] -> [N, H, L, D / H]`.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, causal: bool) -> Result<Tensor> {
    if !causal && cpu::attention_is_available(q) {
        return cpu::attention(q, k, Some(v), false)?.gathered.context(NOT_ATTENDED);
    }
    Ok(Tensor::f_scaled_dot_product_attention::<&Tensor>(q, k, v, None, 0.0, causal, None, false)?)
}

/// As [`attend`], with `bias` `[L, L]` added to the scores before the softmax.
pub fn attend_with_bias(q: &Tensor, k: &Tensor, v: &Tensor, bias: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_scaled_dot_product_attention(q, k, v, Some(bias), 0.0, false, None, false)?)
}

pub struct Mlp {
    c_fc: Linear,
    c_proj: Linear,
    activation: Activation,
    /// What each channel of the output is multiplied by as it is added to the residual stream: f32 `[D]`.
    output_scale: Tensor,
}

impl Mlp {
    /// `x + MLP(y)`: twice `[N, L, D] -> [N, L, D]`
    pub fn add_to(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let hidden = match self.activation {
            Activation::QuickGelu => self.c_fc.forward_then(y, Then::Silu)?,
            Activation::Gelu => self.c_fc.forward(y)?.f_gelu_("none")?,
            Activation::GeluTanh => self.c_fc.forward(y)?.f_gelu_("tanh")?,
            Activation::Relu => self.c_fc.forward(y)?.f_relu_()?,
        }; // [N, L, MLP width]
        let output = self.c_proj.forward(&hidden)?; // [N, L, D]
        Ok(x.f_addcmul(&output, &self.output_scale)?)
    }

    /// As [`Linear::pack`].
    pub fn pack(&mut self) {
        self.c_fc.pack();
        self.c_proj.pack();
    }

    /// Norm of the weights behind each output channel, f32 `[D]`.
    pub fn output_norms(&self) -> Result<Tensor> {
        Ok(self.c_proj.weight()?.f_to_kind(Kind::Float)?.f_norm_scalaropt_dim(2, [1], false)?)
    }

    /// Multiplies the weights of one output channel by `factor`, and its bias too if asked for.
    pub fn scale_output(&mut self, channel: i64, factor: f64, with_bias: bool) -> Result<()> {
        let _scale = self.output_scale.f_select(0, channel)?.f_mul_scalar_(factor)?;
        if !with_bias {
            let _bias = self.c_proj.bias.f_select(0, channel)?.f_div_scalar_(factor)?;
        }
        Ok(())
    }
}

pub struct Block {
    pub ln_1: LayerNorm,
    pub attn: Attention,
    pub ln_2: LayerNorm,
    pub mlp: Mlp,
    /// All its linear layers in 8 bits, to be taken instead.
    pub int8: Option<Arc<Int8Block>>,
}

impl Block {
    /// The block in 8 bits, of weights in f32 on the CPU.
    ///
    /// # Errors
    /// A weight is not finite, or this processor cannot.
    pub fn to_int8(&self) -> Result<Int8Block> {
        let Block { ln_1, attn, ln_2, mlp, .. } = self;
        Int8Block::new(&Parts {
            ln_1: (&ln_1.weight, &ln_1.bias),
            ln_2: (&ln_2.weight, &ln_2.bias),
            eps: ln_1.eps,
            in_proj: attn.in_proj.pair()?,
            out_proj: attn.out_proj.pair()?,
            c_fc: mlp.c_fc.pair()?,
            c_proj: mlp.c_proj.pair()?,
            curve: match mlp.activation {
                Activation::QuickGelu => Curve::Silu,
                Activation::Gelu => Curve::Gelu,
                Activation::GeluTanh => Curve::GeluTanh,
                Activation::Relu => bail!("a block with ReLU is not computed in 8 bits"),
            },
            output_scale: &mlp.output_scale,
        })
    }

    /// Brings f32 weights into the format that [`Loader`] would have loaded them in; a block in 8 bits lets go of them.
    pub fn convert(&mut self, kind: Kind, is_last: bool) -> Result<()> {
        let Block { attn, mlp, .. } = self;
        let attention_kind = if is_last { Kind::Float } else { kind };
        let is_int8 = self.int8.is_some();
        for (linear, kind) in [
            (&mut attn.in_proj, attention_kind),
            (&mut attn.out_proj, attention_kind),
            (&mut mlp.c_fc, kind),
            (&mut mlp.c_proj, kind),
        ] {
            *linear = if is_int8 { linear.without_weight(kind)? } else { linear.to_kind(kind)? };
        }
        Ok(())
    }

    /// For when nobody edits or reads the weights any more: see [`Linear`].
    pub fn pack(&mut self) {
        let Block { attn, mlp, .. } = self;
        for linear in [&mut attn.in_proj, &mut attn.out_proj, &mut mlp.c_fc, &mut mlp.c_proj] {
            linear.pack();
        }
    }

    /// Moves a factor from every other channel of the second norm into the weights behind it: the same function.
    #[cfg(test)]
    pub fn make_uneven(&mut self, factor: f64) -> Result<()> {
        let channels = Tensor::f_arange(self.ln_2.weight.size1()?, (Kind::Float, Device::Cpu))?;
        let every_other = channels.f_remainder(2)?.f_gt(0)?;
        let ones = Tensor::f_ones_like(&self.ln_2.weight)?;
        let factors = ones.f_mul_scalar(factor)?.f_where_self(&every_other, &ones)?;
        self.ln_2.weight = self.ln_2.weight.f_div(&factors)?;
        self.ln_2.bias = self.ln_2.bias.f_div(&factors)?;
        self.mlp.c_fc.weight = Weight::Plain(self.mlp.c_fc.weight()?.f_mul(&factors)?);
        Ok(())
    }

    /// `[N, L, D] -> 3 x [N, H, L, D / H]`
    pub fn qkv(&self, x: &Tensor) -> Result<Qkv> {
        self.attn.split(&self.joined_qkv(x)?)
    }

    /// As [`Block::qkv`], side by side: `[N, L, D] -> [N, L, 3 D]`.
    pub fn joined_qkv(&self, x: &Tensor) -> Result<Tensor> {
        if let Some(int8) = &self.int8 {
            return int8.joined_qkv(x, self.attn.in_proj.bias.kind());
        }
        self.attn.in_proj.forward(&self.ln_1.forward(x)?)
    }

    /// Adds what attention gathered and then the MLP: `[N, L, D]`, `[N, H, L, D / H] -> [N, L, D]`.
    pub fn residual(&self, x: &Tensor, gathered: &Tensor) -> Result<Tensor> {
        if let Some(int8) = &self.int8 {
            return int8.residual(x, &join_heads(gathered)?);
        }
        self.add_mlp(&x.f_add(&self.attn.project(gathered)?)?)
    }

    /// `x + MLP(LN2 x)`: `[N, L, D] -> [N, L, D]`
    pub fn add_mlp(&self, x: &Tensor) -> Result<Tensor> {
        self.mlp.add_to(x, &self.ln_2.forward(x)?)
    }

    /// The block as it was trained: `[N, L, D] -> [N, L, D]`.
    pub fn forward(&self, x: &Tensor, causal: bool) -> Result<Tensor> {
        let Qkv { q, k, v } = self.qkv(x)?;
        self.residual(x, &attend(&q, &k, &v, causal)?)
    }
}

/// Rows of unit length in f32: `[..., E] -> [..., E]`.
pub fn unit_rows(x: &Tensor) -> Result<Tensor> {
    let x = x.f_to_kind(Kind::Float)?;
    let norm = x.f_norm_scalaropt_dim(2, [-1], true)?.f_clamp_min(1e-12)?;
    Ok(x.f_div(&norm)?)
}
