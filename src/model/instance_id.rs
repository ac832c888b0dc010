//! Numbers under which clients of the v2 API know tasks and their steps: of the server beside the agent that owns the row, and
//! of the row in that agent's store, in one number.
//!
//! Invariant: below 2^53, so that no client rounds it; unique over all agents of a cluster, because the database never gives
//! the number of a server twice.

use super::{DagId, SubTaskId};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId {
    /// `DBA_OB_SERVERS.ID` of the owner's server: 1 to 2^21 - 1.
    pub server: i64,
    /// Of the DAG, or of the sub-task: 1 to 2^32 - 1.
    pub number: i64,
}

const NUMBER_BITS: u32 = 32;
const NUMBER_MAX: i64 = (1 << NUMBER_BITS) - 1;
const SERVER_MAX: i64 = (1 << (53 - NUMBER_BITS)) - 1;

impl InstanceId {
    /// `None` for what does not fit.
    fn new(server: i64, number: i64) -> Option<Self> {
        let fits = (1..=SERVER_MAX).contains(&server) && (1..=NUMBER_MAX).contains(&number);
        fits.then_some(Self { server, number })
    }

    /// A task of the agent beside this server.
    pub fn of_dag(server: i64, dag: DagId) -> Option<Self> {
        Self::new(server, dag.0)
    }

    /// A step of a task.
    pub fn of_sub_task(server: i64, sub_task: SubTaskId) -> Option<Self> {
        Self::new(server, sub_task.0)
    }

    /// As clients see it.
    pub fn get(self) -> i64 {
        (self.server << NUMBER_BITS) | self.number
    }

    /// Of a number that a client gave; `None` for what no agent has ever given out.
    pub fn read(number: i64) -> Option<Self> {
        Self::new(number >> NUMBER_BITS, number & NUMBER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_fit_has_no_number() {
        for (server, number) in [(0, 1), (1, 0), (-1, 5), (1, -1), (SERVER_MAX + 1, 1), (1, NUMBER_MAX + 1)] {
            assert_eq!(InstanceId::new(server, number), None, "{server} {number}");
        }
        for number in [0, 1, -1, NUMBER_MAX, 1 << 32, i64::MAX, i64::MIN] {
            assert_eq!(InstanceId::read(number), None, "{number}");
        }
        assert_eq!(InstanceId::of_dag(1, DagId(5)).unwrap().get(), 4_294_967_301);
        assert!(InstanceId::new(SERVER_MAX, NUMBER_MAX).unwrap().get() < 1 << 53);
    }

    proptest! {
        #[test]
        fn reads_back(server in 1..=SERVER_MAX, number in 1..=NUMBER_MAX) {
            let id = InstanceId::new(server, number).unwrap();
            prop_assert_eq!(InstanceId::read(id.get()), Some(id));
        }
    }
}
