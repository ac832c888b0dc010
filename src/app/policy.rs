//! Whether a server that ended by itself is started again. Pure.

use std::time::Duration;

use crate::config::{Engine, RestartPolicy};

/// A life this long clears the count: what comes after it is a new trouble.
pub const GOOD_LIFE: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It stays down; a human starts it.
    Leave,
    Restart {
        after: Duration,
    },
    /// Too many short lives in a row.
    GiveUp,
}

/// `short_lives`: lives in a row, the last one included, that were shorter than [`GOOD_LIFE`].
pub fn decide(config: &Engine, short_lives: u32) -> Decision {
    match config.restart {
        RestartPolicy::Never => Decision::Leave,
        RestartPolicy::OnFailure if short_lives > config.restart_count_max => Decision::GiveUp,
        RestartPolicy::OnFailure => {
            let doubled = 2u64.saturating_pow(short_lives.saturating_sub(1));
            let secs =
                config.restart_backoff_secs.saturating_mul(doubled).min(config.restart_backoff_max_secs);
            Decision::Restart { after: Duration::from_secs(secs) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_is_the_default() {
        assert_eq!(decide(&Engine::default(), 1), Decision::Leave);
    }

    #[test]
    fn the_pause_doubles_up_to_its_cap_and_ends_in_giving_up() {
        let config = Engine {
            restart: RestartPolicy::OnFailure,
            restart_backoff_secs: 2,
            restart_backoff_max_secs: 10,
            restart_count_max: 5,
            ..Engine::default()
        };
        let pauses: Vec<_> = (0..=6).map(|n| decide(&config, n)).collect();
        let after = |secs| Decision::Restart { after: Duration::from_secs(secs) };
        assert_eq!(pauses, [after(2), after(2), after(4), after(8), after(10), after(10), Decision::GiveUp]);
    }
}
