// SPDX-License-Identifier: MIT OR Apache-2.0
//! Element `gclipsegment`.

pub fn register(_plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    Ok(())
}
