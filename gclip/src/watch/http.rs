// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thread that listens and takes a limited number of clients at a time; what is said with each is another's business.

use std::future::Future;
use std::io::{Result, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Before the next try to take a client after one that failed, as when this process has too many files open.
const PAUSE: Duration = Duration::from_millis(200);
/// Threads for what takes a while, such as encoding a picture or reading from a disk; more wait.
const WORKERS: usize = 8;
/// A client that takes nothing of what is sent to it for so long has left.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients that are being told that there are too many, and heard to the end of their question; more are told in passing.
const TURNED_AWAY: usize = 256;
/// They have so long for it.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is told to clients for whom there is no room.
#[derive(Clone, Copy)]
pub enum Full {
    /// An answer of 503.
    Answer,
    /// Nothing: it would have to be said in another way than as it is.
    Close,
    /// Nothing yet: they wait their turn, in the order in which they came.
    Wait,
}

/// Listens from now on, on a thread of this name; returns where. At most so many `clients` are there at a time.
///
/// # Errors
/// The address is not free.
pub fn serve<C, F>(
    name: &'static str,
    address: SocketAddr,
    (clients, full): (usize, Full),
    converse: C,
) -> Result<SocketAddr>
where
    C: Fn(TcpStream, SocketAddr) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let place = listener.local_addr()?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().max_blocking_threads(WORKERS).enable_all().build()?;
    std::thread::Builder::new().name(name.into()).spawn(move || {
        runtime.block_on(async move {
            // It was one a moment ago.
            if let Ok(listener) = TcpListener::from_std(listener) {
                accept(listener, clients, full, converse).await;
            }
        });
    })?;
    Ok(place)
}

async fn accept<C, F>(listener: TcpListener, clients: usize, full: Full, converse: C)
where
    C: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let clients = Arc::new(Semaphore::new(clients));
    let leaving = Arc::new(Semaphore::new(TURNED_AWAY));
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        limit(&stream, PATIENCE);
        let place = match full {
            // The semaphore is never closed. Who comes meanwhile waits with the system.
            Full::Wait => clients.clone().acquire_owned().await.ok(),
            Full::Answer | Full::Close => clients.clone().try_acquire_owned().ok(),
        };
        match (place, full) {
            (Some(place), _) => {
                let conversation = converse(stream, from);
                tokio::spawn(async move {
                    conversation.await;
                    drop(place);
                });
            }
            (None, Full::Answer) => match leaving.clone().try_acquire_owned() {
                Ok(place) => {
                    tokio::spawn(async move {
                        // Who does not listen is not told.
                        let _ = tokio::time::timeout(FAREWELL, turn_away(stream)).await;
                        drop(place);
                    });
                }
                Err(_) => {
                    // As above; one that has asked already may miss it.
                    let _ = stream.into_std().and_then(|mut stream| stream.write_all(&refusal()));
                }
            },
            (None, Full::Close | Full::Wait) => {}
        }
    }
}

/// The system closes a connection whose other end takes nothing (TCP_USER_TIMEOUT, RFC 5482).
fn limit(stream: &TcpStream, patience: Duration) {
    // Without it such a client keeps its place until it leaves.
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(patience));
}

fn refusal() -> Vec<u8> {
    let body = "{\"error\":\"too many ask at once: try again in a moment\"}";
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\nRetry-After: 5\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn turn_away(mut stream: TcpStream) -> Result<()> {
    stream.write_all(&refusal()).await?;
    stream.shutdown().await?;
    // What it has asked has to be read, or the system breaks off before it has heard the answer.
    let mut unheard = [0; 1024];
    while stream.read(&mut unheard).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::time::Instant;

    #[test]
    fn who_takes_nothing_is_left_and_who_finds_no_room_is_told() {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (left, has_left) = std::sync::mpsc::channel();
        serve("test", address, (1, Full::Answer), move |mut stream, _| {
            let left = left.clone();
            async move {
                limit(&stream, Duration::from_secs(1));
                while stream.write_all(&[0; 1 << 16]).await.is_ok() {}
                let _ = left.send(());
            }
        })
        .unwrap();
        let start = Instant::now();
        let silent = std::net::TcpStream::connect(address).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let mut second = std::net::TcpStream::connect(address).unwrap();
        second.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut told = String::new();
        second.read_to_string(&mut told).unwrap();
        assert!(told.starts_with("HTTP/1.1 503 ") && told.ends_with("moment\"}"), "{told}");
        has_left.recv_timeout(Duration::from_secs(20)).expect("the connection ends by itself");
        assert!(start.elapsed() >= Duration::from_secs(1));
        drop(silent);
    }
}
