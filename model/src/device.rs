// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where and in which number format the model runs.
//!
//! The crate links libtorch's CPU half only. Its CUDA half is loaded with the first model, where a driver is installed, so
//! one binary serves machines with and without a GPU, and inspecting the plugin needs neither. A model on the CPU loads
//! it too: the first convolution asks libtorch once for all whether it has CUDA, and the answer must not be no for a
//! model on the GPU that comes later.

use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::sync::LazyLock;

use anyhow::{Error, Result, bail};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Cuda, Device, Kind};

use super::{cuda, libtorch};

/// The device a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA when there is a usable GPU, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// The GPU of this index.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => match text.strip_prefix("cuda:").and_then(|index| index.parse().ok()) {
                Some(index) => Ok(DeviceChoice::Cuda(index)),
                None => bail!("unknown device {text:?}: use auto, cpu, cuda or cuda:N"),
            },
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(0) => f.write_str("cuda"),
            DeviceChoice::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// The number format a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrecisionChoice {
    /// f16 on CUDA; bf16 on a CPU that multiplies faster in it: with AMX, or AMD's with AVX512-BF16; else f32.
    #[default]
    Auto,
    F32,
    Bf16,
    F16,
    /// Linear layers in 8 bits, on a CPU with AVX512-VNNI; the rest in bf16 where the CPU has it, else in f32.
    Int8,
}

impl FromStr for PrecisionChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(PrecisionChoice::Auto),
            "f32" => Ok(PrecisionChoice::F32),
            "bf16" => Ok(PrecisionChoice::Bf16),
            "f16" => Ok(PrecisionChoice::F16),
            "int8" => Ok(PrecisionChoice::Int8),
            _ => bail!("unknown precision {text:?}: use auto, f32, bf16, f16 or int8"),
        }
    }
}

impl fmt::Display for PrecisionChoice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            PrecisionChoice::Auto => "auto",
            PrecisionChoice::F32 => "f32",
            PrecisionChoice::Bf16 => "bf16",
            PrecisionChoice::F16 => "f16",
            PrecisionChoice::Int8 => "int8",
        })
    }
}

/// The libtorch that this crate is built against.
const LIBTORCH: (u64, u64) = (2, 11);

/// All libtorches have the same names, so whoever loads one first, such as Python's `import torch`, decides which all of a
/// process get, but a copy with names of its own.
///
/// # Errors
/// It is another version than this crate is built against.
pub(super) fn check_libtorch() -> Result<()> {
    let (major, minor) = LIBTORCH;
    match libtorch::version() {
        LIBTORCH => Ok(()),
        (other, its_minor) => bail!(
            "this process has loaded libtorch {other}.{its_minor} before (another plugin, or Python's torch), which does not go \
             together with libtorch {major}.{minor} of this one: use torch {major}.{minor} there, another process, or a copy of \
             the plugin that scripts/private-libtorch.py makes"
        ),
    }
}

/// What the driver puts into /dev: on Linux, and on Linux inside Windows.
const DRIVER_FILES: [&str; 2] = ["/dev/nvidiactl", "/dev/dxg"];

/// The device that a choice comes to on this machine. To be asked before libtorch computes anything.
pub fn device(choice: DeviceChoice) -> Result<Device> {
    // Without the driver's device files no GPU can be used: spare everyone else the load of libtorch's CUDA half.
    let driver = DRIVER_FILES.iter().any(|file| Path::new(file).exists());
    match choice {
        DeviceChoice::Cpu => {
            if driver {
                // What it answers is for those who ask for a GPU.
                let _ = usable_gpus();
            }
            Ok(Device::Cpu)
        }
        DeviceChoice::Auto if !driver => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(if usable_gpus().is_ok() { Device::Cuda(0) } else { Device::Cpu }),
        DeviceChoice::Cuda(index) => match usable_gpus() {
            Ok(count) if index < count => Ok(Device::Cuda(index)),
            Ok(count) => {
                bail!("device {choice} does not exist: this machine has {count} CUDA GPU(s), counted from 0")
            }
            Err(reason) => bail!("device {choice} cannot be used: {reason} (device cpu works everywhere)"),
        },
    }
}

/// How a model computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// Number format of the large products.
    pub kind: Kind,
    /// Whether the linear layers that can bear it are in 8 bits instead.
    pub int8: bool,
}

/// What a choice comes to on this device, with a CPU that `has_int8` products or not.
///
/// # Errors
/// The device has no products in 8 bits, and they were asked for.
pub fn precision(choice: PrecisionChoice, device: Device, has_int8: bool) -> Result<Precision> {
    let of_cpu = |bf16: fn(&str) -> bool| if bf16(&cpu()) { Kind::BFloat16 } else { Kind::Float };
    let kind = match choice {
        PrecisionChoice::F32 => Kind::Float,
        PrecisionChoice::Bf16 => Kind::BFloat16,
        PrecisionChoice::F16 => Kind::Half,
        PrecisionChoice::Auto if device.is_cuda() => Kind::Half,
        PrecisionChoice::Auto => of_cpu(multiplies_faster_in_bf16),
        PrecisionChoice::Int8 if device.is_cuda() => {
            bail!("precision int8 is for CPUs: use precision f16 on {}, or device cpu", device_name(device))
        }
        PrecisionChoice::Int8 if !has_int8 => {
            bail!("precision int8 needs a CPU with AVX512-VNNI, which this one lacks: use precision auto")
        }
        PrecisionChoice::Int8 => of_cpu(has_bf16),
    };
    Ok(Precision { kind, int8: choice == PrecisionChoice::Int8 })
}

/// `cpu`, `cuda:0` ...
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".into(),
    }
}

impl Precision {
    /// `f32`, `bf16`, `f16` or `int8`
    pub fn name(self) -> String {
        if self.int8 { PrecisionChoice::Int8.to_string() } else { kind_name(self.kind) }
    }
}

/// `f32`, `bf16`, `f16`
pub fn kind_name(kind: Kind) -> String {
    let choice = match kind {
        Kind::BFloat16 => PrecisionChoice::Bf16,
        Kind::Half => PrecisionChoice::F16,
        _ => PrecisionChoice::F32,
    };
    choice.to_string()
}

/// What the system says of the CPU.
fn cpu() -> String {
    fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
}

fn has_bf16(cpu: &str) -> bool {
    has(cpu, "avx512_bf16") || has(cpu, "amx_bf16")
}

/// AMD's AVX512-BF16 multiplies twice as fast as its f32 (measured: 2.1 times), Intel's does not: there, without AMX, a forward
/// in bf16 takes 1.5 times as long as in f32.
fn multiplies_faster_in_bf16(cpu: &str) -> bool {
    has(cpu, "amx_bf16") || (has(cpu, "avx512_bf16") && has(cpu, "AuthenticAMD"))
}

fn has(cpu: &str, word: &str) -> bool {
    cpu.split_whitespace().any(|known| known == word)
}

/// How many GPUs libtorch can use, or why none.
fn usable_gpus() -> Result<usize, &'static str> {
    static ANSWER: LazyLock<Result<usize, String>> = LazyLock::new(|| {
        load_libtorch_cuda()?;
        // libtorch keeps the first answer: asked before its CUDA half was there, it says no for good.
        if !tch::utils::has_cudart() {
            return Err("this process has computed with libtorch before a CUDA driver was there, and libtorch asks for its \
                        CUDA half only once: start the program anew"
                .into());
        }
        match Cuda::device_count() {
            count if count > 0 && Cuda::is_available() => {
                cuda::allow_cudnn_attention(false).map_err(|error| format!("{error:#}"))?;
                Ok(count as usize)
            }
            _ => Err(no_gpu()),
        }
    });
    ANSWER.as_ref().copied().map_err(String::as_str)
}

/// Why libtorch, with both of its halves, has no GPU.
fn no_gpu() -> String {
    let hidden = std::env::var_os("CUDA_VISIBLE_DEVICES");
    match hidden.map(|value| value.to_string_lossy().into_owned()) {
        Some(value) => format!("libtorch finds no CUDA GPU, with CUDA_VISIBLE_DEVICES={value:?}"),
        None => "libtorch finds no CUDA GPU with a driver that is new enough for it (nvidia-smi tells the driver's version; \
                 libtorch 2.11 needs one for CUDA 13, or 12 where it is built for that)"
            .into(),
    }
}

/// Waits until the device has done everything: what a model's loading began on one stream is then there for all.
pub(super) fn settle(device: Device) -> Result<()> {
    match device {
        Device::Cuda(index) => cuda::runtime()?.settle(index),
        _ => Ok(()),
    }
}

/// Loads libtorch's CUDA half, from the folder of the half that is linked. libtorch asks once which back ends there
/// are: this has to happen before the first question about CUDA.
fn load_libtorch_cuda() -> Result<(), String> {
    let folder = libtorch::folder().map_err(|error| format!("{error:#}"))?;
    let file = folder.join("libtorch_cuda.so");
    if !file.exists() {
        return Err(format!("this libtorch has no CUDA half ({} is missing)", file.display()));
    }
    // SAFETY: loading runs the library's initialisers. It is libtorch's own second half, from the folder of the first,
    // and registers its kernels with it; RTLD_GLOBAL because those refer to one another across libraries.
    let library = unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_GLOBAL) };
    // Kernels stay registered until the process ends, so the library must stay too.
    library.map(std::mem::forget).map_err(|error| format!("{} does not load: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_survive_printing_and_parsing() {
        for text in ["auto", "cpu", "cuda", "cuda:3"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["auto", "f32", "bf16", "f16", "int8"] {
            assert_eq!(text.parse::<PrecisionChoice>().unwrap().to_string(), text);
        }
        assert_eq!("cuda:0".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(0));
    }

    #[test]
    fn unknown_choices_list_the_known_ones() {
        assert_eq!(
            "gpu".parse::<DeviceChoice>().unwrap_err().to_string(),
            "unknown device \"gpu\": use auto, cpu, cuda or cuda:N"
        );
        assert!("cuda:x".parse::<DeviceChoice>().is_err());
        let error = "int4".parse::<PrecisionChoice>().unwrap_err().to_string();
        assert!(error.contains("auto, f32, bf16, f16 or int8"), "{error}");
    }

    #[test]
    fn int8_is_never_chosen_by_itself_and_refused_on_a_gpu() {
        assert!(!precision(PrecisionChoice::Auto, Device::Cpu, true).unwrap().int8);
        let error = |device, has| precision(PrecisionChoice::Int8, device, has).unwrap_err().to_string();
        let on_gpu = "precision int8 is for CPUs: use precision f16 on cuda:0, or device cpu";
        assert_eq!(error(Device::Cuda(0), true), on_gpu);
        let without = "precision int8 needs a CPU with AVX512-VNNI, which this one lacks: use precision auto";
        assert_eq!(error(Device::Cpu, false), without);
        assert_eq!(precision(PrecisionChoice::Int8, Device::Cpu, true).unwrap().name(), "int8");
    }

    #[test]
    fn bf16_is_chosen_where_it_is_faster() {
        let cpu =
            |vendor: &str, flags: &str| format!("vendor_id\t: {vendor}\nflags\t\t: fpu sse2 {flags} clwb\n");
        for (vendor, flags, has, faster) in [
            ("AuthenticAMD", "avx512f avx512_bf16", true, true),
            ("GenuineIntel", "avx512f avx512_bf16", true, false),
            ("GenuineIntel", "avx512_bf16 amx_bf16 amx_tile", true, true),
            ("AuthenticAMD", "avx2", false, false),
        ] {
            let cpu = cpu(vendor, flags);
            assert_eq!((has_bf16(&cpu), multiplies_faster_in_bf16(&cpu)), (has, faster), "{cpu}");
        }
        assert!(!has_bf16("") && !multiplies_faster_in_bf16(""));
    }

    #[test]
    fn the_libtorch_of_this_process_is_the_one_of_the_build() {
        let _ = tch::get_num_threads(); // libtorch is there
        assert_eq!(libtorch::version(), LIBTORCH);
        check_libtorch().unwrap();
    }

    #[test]
    fn a_missing_gpu_is_one_sentence() {
        if let Err(error) = device(DeviceChoice::Cuda(4096)) {
            let text = error.to_string();
            assert!(text.starts_with("device cuda:4096") && !text.contains('\n'), "{text}");
        } else {
            panic!("a machine with 4097 GPUs");
        }
    }
}
