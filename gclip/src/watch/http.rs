// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thread that listens and takes a limited number of clients at a time; what is said with each is another's business.

use std::future::Future;
use std::io::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Before the next try to take a client after one that failed, as when this process has too many files open.
const PAUSE: Duration = Duration::from_millis(200);

/// Listens from now on, on a thread of this name; returns where. At most so many `clients` are there at a time;
/// more wait.
///
/// # Errors
/// The address is not free.
pub fn serve<C, F>(name: &'static str, address: SocketAddr, clients: usize, converse: C) -> Result<SocketAddr>
where
    C: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let place = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name.into()).spawn(move || {
        runtime.block_on(async move {
            // It was one a moment ago.
            if let Ok(listener) = TcpListener::from_std(listener) {
                accept(listener, clients, converse).await;
            }
        });
    })?;
    Ok(place)
}

async fn accept<C, F>(listener: TcpListener, clients: usize, converse: C)
where
    C: Fn(TcpStream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let clients = Arc::new(Semaphore::new(clients));
    loop {
        // The semaphore is never closed.
        let Ok(place) = clients.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let conversation = converse(stream);
        tokio::spawn(async move {
            conversation.await;
            drop(place);
        });
    }
}
