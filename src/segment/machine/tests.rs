// SPDX-License-Identifier: MIT OR Apache-2.0

mod schedules;
mod starts;
mod tables;
