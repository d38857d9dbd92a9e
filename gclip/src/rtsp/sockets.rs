// SPDX-License-Identifier: MIT OR Apache-2.0
//! The connections that each `rtspsrc` makes, so that one can be ended from outside. GStreamer 1.22 reads a message to
//! its end whatever happens: a camera whose headers never end would keep the element's thread, and with it whoever
//! wants to stop the element, for ever.
//!
//! `rtspsrc` keeps its connection to itself, but GIO tells about every one that it makes by a signal, on the thread that
//! makes it; the next that `rtspsrc` does on that thread is to announce its first request.

use std::cell::RefCell;
use std::net::TcpStream;
use std::os::fd::AsFd;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::sync::Once;

use gio::prelude::*;
use glib::translate::IntoGlib;

thread_local! {
    /// The newest connection of this thread, as long as nobody has asked for it.
    static MADE: RefCell<Option<gio::Socket>> = const { RefCell::new(None) };
}

/// Begins to note the connections of this process.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let client = gio::SocketClient::static_type();
        // SAFETY: the name is a C string; the type is registered, and its class is kept, as GIO never unloads it.
        let signal = unsafe {
            glib::gobject_ffi::g_type_class_ref(client.into_glib());
            glib::gobject_ffi::g_signal_lookup(c"event".as_ptr(), client.into_glib())
        };
        if signal != 0 {
            // SAFETY: the hook keeps to the signature that GObject asks for, needs no data, and stays for ever.
            unsafe {
                glib::gobject_ffi::g_signal_add_emission_hook(
                    signal,
                    0,
                    Some(note),
                    std::ptr::null_mut(),
                    None,
                )
            };
        }
    });
}

/// The newest connection that this thread has made since the last call, as a second handle: GIO's own is for one thread.
/// It must not be kept longer than the connection is used, which ends with the last handle.
pub fn made_here() -> Option<TcpStream> {
    let made = MADE.with(|made| made.borrow_mut().take())?;
    Some(made.as_fd().try_clone_to_owned().ok()?.into())
}

/// `GSocketClient::event(client, event, connectable, connection)`.
unsafe extern "C" fn note(
    _hint: *mut glib::gobject_ffi::GSignalInvocationHint,
    count: u32,
    values: *const glib::gobject_ffi::GValue,
    _data: glib::ffi::gpointer,
) -> glib::ffi::gboolean {
    // SAFETY: GObject hands over this many values, which live as long as the call; a Value has the layout of a GValue.
    let values: &[glib::Value] = unsafe { std::slice::from_raw_parts(values.cast(), count as usize) };
    let connection = values.get(3).and_then(|value| value.get::<Option<gio::IOStream>>().ok().flatten());
    // What TLS puts around a connection is none of its own.
    if let Some(connection) = connection.and_downcast::<gio::SocketConnection>() {
        // Several events tell of one connection, and some come after it was asked for, to be told once more.
        MADE.with(|made| *made.borrow_mut() = Some(connection.socket()));
    }
    glib::ffi::GTRUE
}

/// Bytes that have come in by a connection over TCP; `None` where the system does not say.
pub fn received(socket: &TcpStream) -> Option<u64> {
    /// Of `tcpi_bytes_received` in Linux's `struct tcp_info`, which only grows at its end.
    const OFFSET: usize = 128;
    let info = tcp_info(socket)?;
    Some(u64::from_ne_bytes(info.get(OFFSET..OFFSET + 8)?.try_into().ok()?))
}

/// Whether the other end has closed a connection; never where the system does not say.
pub fn is_closed(socket: &TcpStream) -> bool {
    /// Of Linux's `TCP_CLOSE` and `TCP_CLOSE_WAIT`, in `tcpi_state`.
    const CLOSED: [u8; 2] = [7, 8];
    tcp_info(socket).is_some_and(|info| info.first().is_some_and(|state| CLOSED.contains(state)))
}

/// Linux's `struct tcp_info`, as much of it as there is.
#[cfg(target_os = "linux")]
fn tcp_info(socket: &TcpStream) -> Option<Vec<u8>> {
    let mut info = vec![0u8; 136];
    let mut length = info.len() as libc::socklen_t;
    let number = socket.as_raw_fd();
    // SAFETY: the kernel writes `length` bytes at most.
    let failed = unsafe {
        libc::getsockopt(number, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length)
    };
    info.truncate(length as usize);
    (failed == 0).then_some(info)
}

#[cfg(not(target_os = "linux"))]
fn tcp_info(_socket: &TcpStream) -> Option<Vec<u8>> {
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_connection_is_known_to_its_thread_and_can_be_ended() {
        watch();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(made_here().is_none());
        let connection =
            gio::SocketClient::new().connect_to_host("127.0.0.1", port, gio::Cancellable::NONE).unwrap();
        assert!(std::thread::spawn(|| made_here().is_none()).join().unwrap(), "not to another thread");
        let made = made_here().unwrap();
        let own = connection.socket().local_address().unwrap().downcast::<gio::InetSocketAddress>().unwrap();
        assert_eq!(made.local_addr().unwrap().port(), own.port());
        assert!(made_here().is_none(), "once");
        let (mut other, _) = listener.accept().unwrap();
        other.write_all(&[0; 1000]).unwrap();
        let start = Instant::now();
        while cfg!(target_os = "linux") && received(&made) != Some(1000) {
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", received(&made));
        }
        assert!(!is_closed(&made));
        other.shutdown(Shutdown::Write).unwrap();
        while cfg!(target_os = "linux") && !is_closed(&made) {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        made.shutdown(Shutdown::Both).unwrap();
        assert!(std::io::Read::read(&mut other, &mut [0; 10]).is_ok_and(|length| length == 0));
    }
}
