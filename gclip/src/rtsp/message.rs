// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a request asks for that `rtspsrc` is about to send. The bindings of GStreamer do not read messages.

use glib::translate::{FromGlib, ToGlibPtr};
use gst_rtsp_sys as ffi;

/// The method of the message of the signal `before-send`; `None` if it is no request.
pub fn method(message: &glib::Value) -> Option<ffi::GstRTSPMethod> {
    // SAFETY: it takes nothing and returns a registered type.
    let kind = unsafe { glib::Type::from_glib(ffi::gst_rtsp_msg_get_type()) };
    if message.type_() != kind {
        return None;
    }
    let mut method = ffi::GST_RTSP_INVALID;
    // SAFETY: the value holds a message of this type, which lives as long as `message` is borrowed; the call reads it, and writes
    // to `method` alone, as nobody wants the URL and the version.
    let parsed = unsafe {
        let message = glib::gobject_ffi::g_value_get_boxed(message.to_glib_none().0);
        if message.is_null() {
            return None;
        }
        ffi::gst_rtsp_message_parse_request(
            message.cast(),
            &mut method,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    (parsed == ffi::GST_RTSP_OK).then_some(method)
}
