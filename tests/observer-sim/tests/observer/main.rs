//! The built executable, driven as an agent would: command line, signals, files, and a stock client of MySQL.
#![cfg(test)]

mod cluster;
mod faults;
mod life;
mod rig;
mod sql;
#[path = "../../../rig/writer.rs"]
#[expect(unreachable_pub, reason = "the agent's tests share it")]
mod writer;
mod writing;
