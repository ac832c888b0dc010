//! The long operations, one file each.

pub mod ports;
