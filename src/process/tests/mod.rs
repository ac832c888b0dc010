//! The whole room against the real engine, and against stand-ins where the engine cannot be brought to behave badly.
//!
//! `OBPILOT_TEST_ENGINE` names the executable of seekdb; a test that needs it fails without it.

mod causes;
mod failing;
mod finding;
mod rig;
mod running;
mod standin;
