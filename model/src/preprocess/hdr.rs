// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures of high dynamic range as pictures of standard range. Read as if they were such, they look grey and dark, and a model
//! that was trained on pictures of standard range sees something else in them.
//!
//! Light from the values (ITU-R BT.2100), relative to the white of paper and text (203 cd/m2, ITU-R BT.2408); what is brighter
//! is brought in by a shoulder (extended Reinhard) that leaves three quarters of the range as it is; the primaries of BT.2020
//! become those of BT.709 (ITU-R BT.2087), and light becomes values for a screen of BT.1886.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::{Normalisation, Transfer};
use crate::constants::constant;

/// White of paper and text, cd/m2.
const WHITE: f64 = 203.0;
/// Full scale of PQ, cd/m2.
const PQ_PEAK: f64 = 10_000.0;
/// Of the display that HLG is shown on, cd/m2; its gamma follows from it.
const HLG_PEAK: f64 = 1_000.0;
const HLG_GAMMA: f64 = 1.2;
/// What becomes full scale, relative to `WHITE`; and where the shoulder begins.
const BRIGHTEST: f64 = HLG_PEAK / WHITE;
const KNEE: f64 = 0.75;
/// Of a screen (BT.1886).
const SCREEN_GAMMA: f64 = 2.4;
/// Luminance of BT.2020's primaries.
const LUMINANCE: [f32; 3] = [0.2627, 0.6780, 0.0593];
/// Linear light from BT.2020's primaries to BT.709's.
const TO_BT709: [[f32; 3]; 3] =
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]];

/// `[N, 3, H, W]` of normalised R'G'B' as they are stored to those that a picture of standard range has.
pub fn to_sdr(values: Tensor, transfer: Transfer, normalisation: &Normalisation) -> Result<Tensor> {
    if transfer == Transfer::Sdr {
        return Ok(values);
    }
    let device = values.device();
    let row = |values: [f64; 3]| -> Result<Tensor> {
        Ok(constant(&values.map(|value| value as f32), device)?.f_view([1, 3, 1, 1])?)
    };
    let (mean, std) = (row(normalisation.mean)?, row(normalisation.std)?);
    let stored = values.f_mul(&std)?.f_add(&mean)?.f_clamp(0.0, 1.0)?; // R'G'B' in 0..1
    let light = match transfer {
        Transfer::Hlg => hlg(&stored, device)?,
        _ => pq(&stored)?,
    };
    let light = mix(&shoulder(&light)?, TO_BT709, device)?.f_clamp(0.0, 1.0)?;
    let shown = light.f_pow_tensor_scalar(1.0 / SCREEN_GAMMA)?;
    Ok(shown.f_sub(&mean)?.f_div(&std)?)
}

/// Relative to `WHITE` (SMPTE ST 2084).
fn pq(stored: &Tensor) -> Result<Tensor> {
    let (m1, m2) = (2610.0 / 16384.0, 2523.0 / 4096.0 * 128.0);
    let (c1, c2, c3) = (3424.0 / 4096.0, 2413.0 / 4096.0 * 32.0, 2392.0 / 4096.0 * 32.0);
    let root = stored.f_pow_tensor_scalar(1.0 / m2)?;
    let above = root.f_sub_scalar(c1)?.f_clamp_min(0.0)?;
    let below = root.f_mul_scalar(-c3)?.f_add_scalar(c2)?;
    let light = above.f_div(&below)?.f_pow_tensor_scalar(1.0 / m1)?; // of full scale
    Ok(light.f_mul_scalar(PQ_PEAK / WHITE)?)
}

/// Relative to `WHITE` (ITU-R BT.2100: the inverse OETF, then the OOTF of the display).
fn hlg(stored: &Tensor, device: Device) -> Result<Tensor> {
    let (a, b, c) = (0.178_832_77, 0.284_668_92, 0.559_910_73);
    let low = stored.f_square()?.f_div_scalar(3.0)?;
    let high = stored.f_sub_scalar(c)?.f_div_scalar(a)?.f_exp()?.f_add_scalar(b)?.f_div_scalar(12.0)?;
    let scene = low.f_where_self(&stored.f_le(0.5)?, &high)?;
    let luminance = scene.f_mul(&constant(&LUMINANCE, device)?.f_view([1, 3, 1, 1])?)?;
    let luminance = luminance.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?; // [N, 1, H, W]
    let gain = luminance.f_clamp_min(1e-6)?.f_pow_tensor_scalar(HLG_GAMMA - 1.0)?;
    Ok(scene.f_mul(&gain)?.f_mul_scalar(HLG_PEAK / WHITE)?)
}

/// Brings what is above the knee below 1, the three colours of a pixel by one factor, so that its hue stays.
fn shoulder(light: &Tensor) -> Result<Tensor> {
    let brightest = light.f_amax([1i64].as_slice(), true)?.f_clamp_min(1e-6)?; // [N, 1, H, W]
    let over = brightest.f_sub_scalar(KNEE)?.f_clamp_min(0.0)?.f_div_scalar(1.0 - KNEE)?;
    let end = (BRIGHTEST - KNEE) / (1.0 - KNEE);
    let rise =
        over.f_div_scalar(end * end)?.f_add_scalar(1.0)?.f_mul(&over)?.f_div(&over.f_add_scalar(1.0)?)?;
    let target = brightest.f_clamp_max(KNEE)?.f_add(&rise.f_mul_scalar(1.0 - KNEE)?)?;
    Ok(light.f_mul(&target.f_div(&brightest)?)?)
}

/// A matrix over the colours.
fn mix(colours: &Tensor, matrix: [[f32; 3]; 3], device: Device) -> Result<Tensor> {
    let matrix = constant(matrix.as_flattened(), device)?.f_view([3, 3])?;
    let mixed = colours.f_permute([0, 2, 3, 1])?.f_matmul(&matrix.f_transpose(0, 1)?)?; // [N, H, W, 3]
    Ok(mixed.f_permute([0, 3, 1, 2])?.f_contiguous()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NORMALISATION: Normalisation = Normalisation { mean: [0.5; 3], std: [0.25; 3] };

    /// What a pixel becomes, all in 0..1.
    fn pixel(stored: [f32; 3], transfer: Transfer) -> [f32; 3] {
        let values = stored.map(|value| (value - 0.5) / 0.25);
        let values = Tensor::from_slice(&values).view([1, 3, 1, 1]);
        let shown = to_sdr(values, transfer, &NORMALISATION).unwrap();
        let shown: Vec<f32> = Vec::try_from(shown.view([3])).unwrap();
        [0, 1, 2].map(|channel| shown[channel] * 0.25 + 0.5)
    }

    fn near(found: [f32; 3], expected: f32) -> bool {
        found.iter().all(|value| (value - expected).abs() < 0.012)
    }

    #[test]
    fn standard_range_stays_as_it_is() {
        let stored = [0.1, 0.5, 0.9];
        let shown = pixel(stored, Transfer::Sdr);
        assert!(shown.iter().zip(stored).all(|(a, b)| (a - b).abs() < 1e-6), "{shown:?}");
    }

    /// BT.2408, table 1: grey of 18 % is 38 % of PQ's and of HLG's range and 26 cd/m2, white is 58 % of PQ's, 75 % of HLG's and
    /// 203 cd/m2.
    #[test]
    fn grey_and_white_of_bt2408() {
        let screen = |light: f32| light.powf(1.0 / 2.4);
        for (transfer, grey, white) in [(Transfer::Pq, 0.38, 0.58), (Transfer::Hlg, 0.38, 0.75)] {
            let shown = pixel([grey; 3], transfer);
            assert!(near(shown, screen(26.0 / 203.0)), "{transfer:?}: {shown:?}");
            // White is on the shoulder: half way from the knee to full scale.
            let shown = pixel([white; 3], transfer);
            assert!(near(shown, screen(0.876)), "{transfer:?}: {shown:?}");
            assert!(near(pixel([0.0; 3], transfer), 0.0));
            assert!(near(pixel([1.0; 3], transfer), 1.0));
        }
    }

    /// 1,000 cd/m2 is 75 % of PQ's range, and the brightest that is told from what is brighter still.
    #[test]
    fn more_light_is_never_less_bright() {
        for transfer in [Transfer::Pq, Transfer::Hlg] {
            let ramp: Vec<f32> = (0..=100).map(|step| pixel([step as f32 / 100.0; 3], transfer)[0]).collect();
            assert!(ramp.is_sorted(), "{transfer:?}: {ramp:?}");
        }
        assert!(near(pixel([0.7518; 3], Transfer::Pq), 1.0));
    }

    #[test]
    fn colours_keep_their_hue_and_leave_no_range() {
        for transfer in [Transfer::Pq, Transfer::Hlg] {
            let [r, g, b] = pixel([0.6, 0.3, 0.3], transfer);
            assert!(r > g && r > b && (0.0..=1.0).contains(&r), "{transfer:?}: {r} {g} {b}");
            let [r, g, b] = pixel([0.2, 0.2, 0.9], transfer);
            assert!(b > r && b > g && [r, g, b].iter().all(|v| v.is_finite()), "{transfer:?}: {r} {g} {b}");
        }
    }
}
