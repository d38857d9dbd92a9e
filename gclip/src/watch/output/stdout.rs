// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard output; where it is the terminal that shows the status lines, these make room.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use super::sink::Sink;
use crate::watch::console::Console;

pub struct Stdout {
    pub console: Arc<Console>,
}

impl Sink for Stdout {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let write = || {
            let mut stdout = io::stdout().lock();
            stdout.write_all(line)?;
            stdout.flush()
        };
        if self.console.is_terminal() && io::stdout().is_terminal() {
            return self.console.around(write);
        }
        write()
    }
}
