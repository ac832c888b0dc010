//! The host as the agent sees it: files, ports, disks, memory, limits, addresses, the kernel's log.
//!
//! Purpose: every fact about the machine and every change of a file of ours goes through here, so that "how do we
//! know" and "is it crash safe" have one answer each.
//!
//! Invariant: nothing here decides. A function says what it saw, or that it could not see it; a value that the
//! kernel hides from us is `None`, never a default that looks like a measurement.
//!
//! Not here: the database process (`process`), the agent's records (`store`), JSON shapes (`wire`).

pub mod code;
pub mod descriptors;
pub mod disk;
pub mod events;
pub mod facts;
pub mod files;
pub mod heap;
pub mod kernel_log;
pub mod limits;
pub mod lock;
pub mod memory;
pub mod net;
pub mod ports;
mod sock_diag;
pub mod unit;
