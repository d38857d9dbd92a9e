// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip cameras`: which cameras there are in the network (ONVIF), as lines for `gclip watch`.
//!
//! ```text
//! probe     who is there: WS-Discovery over UDP     device  what one tells of its streams
//! soap      one question to a device, and its user  xml     the answers, as far as they are honest
//! listing   what is printed                         random  nonces and message ids
//! ```
//!
//! By hand, as the crates for ONVIF bring a second HTTP client with an asynchronous runtime's TLS and types generated from
//! all of the schemas, for five questions; HTTP, XML and SHA-1 are in the tree anyway. All that is read comes from strangers:
//! each answer, their number and the time for them have a limit.

mod device;
mod listing;
mod probe;
mod soap;
mod xml;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;

use crate::say::complain;
use listing::{Camera, Form};
use probe::Question;
use soap::Login;

/// WS-Discovery's group and port.
const EVERYBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)), 3702);
/// Devices that are asked at a time.
const AT_ONCE: usize = 8;
/// Holds the password, so that it is not among the arguments, which everybody on the machine can see.
const PASSWORD: &str = "GCLIP_CAMERA_PASSWORD";

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Find the ONVIF cameras of the network, and print their streams as [[camera]] lines for `gclip watch`.
    Discover(DiscoverArgs),
}

#[derive(clap::Args)]
struct DiscoverArgs {
    /// How long to wait for answers, and for each answer of a camera that was found.
    #[arg(long, value_name = "SECONDS", default_value = "4", value_parser = seconds)]
    timeout: Duration,
    /// Ask in the networks of this interface (name or IPv4 address) only; may be repeated. Otherwise in all.
    #[arg(long, value_name = "NAME")]
    interface: Vec<String>,
    /// User of the cameras.
    #[arg(long)]
    user: Option<String>,
    /// Password of the user. Others on this machine can see arguments: the variable GCLIP_CAMERA_PASSWORD takes it too.
    #[arg(long, requires = "user")]
    password: Option<String>,
    /// Ask there instead of everybody; for a camera in another network, which the question to all does not reach.
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = EVERYBODY)]
    to: SocketAddr,
    /// Print one JSON object per camera instead.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Discover(args) => discover(args),
    }
}

fn discover(args: &DiscoverArgs) -> Result<()> {
    let login = login(args)?;
    let everywhere = args.to.ip().is_multicast() || !args.interface.is_empty();
    let from = if everywhere { probe::interfaces(&args.interface)? } else { vec![] };
    let devices = Question { to: args.to, from, wait: args.timeout }.ask()?;
    let seconds = args.timeout.as_secs_f64();
    ensure!(
        !devices.is_empty(),
        "no camera has answered within {seconds} s: the question reaches this machine's own networks only, and ONVIF \
         may have to be switched on in the cameras"
    );
    let (next, cameras) = (Mutex::new(devices.into_iter().enumerate()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((index, device)) = next.lock().next() else { return };
                    let streams = device::streams(&device, login.as_ref(), args.timeout);
                    cameras.lock().push((index, Camera { device, streams }));
                }
            });
        }
    });
    let mut cameras = cameras.into_inner();
    cameras.sort_by_key(|(index, _)| *index);
    let cameras: Vec<Camera> = cameras.into_iter().map(|(_, camera)| camera).collect();
    let form = if args.json { Form::Json } else { Form::Config };
    listing::print(&cameras, login.as_ref(), form)?;
    let failed = cameras.iter().filter(|camera| camera.streams.is_err()).count();
    ensure!(failed < cameras.len(), "{}", none_told(&cameras));
    if failed > 0 {
        complain!("gclip: {failed} of {} cameras have not told their streams", cameras.len());
    }
    Ok(())
}

fn none_told(cameras: &[Camera]) -> String {
    match cameras {
        [only] => listing::failure(only).unwrap_or_default(),
        all => format!("none of the {} cameras has told its streams", all.len()),
    }
}

fn login(args: &DiscoverArgs) -> Result<Option<Login>> {
    let Some(user) = args.user.clone() else { return Ok(None) };
    let password = args.password.clone().or_else(|| std::env::var(PASSWORD).ok());
    let password = password
        .with_context(|| format!("--user needs a password: in the variable {PASSWORD}, or --password"))?;
    Ok(Some(Login { user, password }))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "it must be from 0.1 to 600 seconds".to_string())
}
