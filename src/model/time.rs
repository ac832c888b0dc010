//! Moments as the wire shows them: RFC 3339 with up to nine digits and the server's offset (`http-api.md` §2.2).

pub use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Shown for a task time that has not happened yet: Unix time 0.
pub const NEVER: Timestamp = Timestamp::UNIX_EPOCH;

/// `2026-03-01T09:30:00.123456+08:00`; `Z` when the host keeps UTC. Trailing zeros of the fraction are dropped.
pub fn on_wire(moment: Timestamp) -> String {
    in_zone(moment, &TimeZone::system())
}

/// `2026-03-01T09:30:00.123+08:00`: always three digits and an offset in numbers, as OCP writes them (`ocp-v2.md` §1.3).
pub fn in_millis(moment: Timestamp) -> String {
    in_millis_at(moment, &TimeZone::system())
}

fn in_millis_at(moment: Timestamp, zone: &TimeZone) -> String {
    moment.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

fn in_zone(moment: Timestamp, zone: &TimeZone) -> String {
    let offset = zone.to_offset(moment);
    if offset.seconds() == 0 {
        return moment.to_string();
    }
    moment.display_with_offset(offset).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_and_digits() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        let moment: Timestamp = "2026-03-01T01:30:00.1234560Z".parse().unwrap();
        assert_eq!(in_zone(moment, &zone), "2026-03-01T09:30:00.123456+08:00");
        assert_eq!(in_zone(moment, &TimeZone::UTC), "2026-03-01T01:30:00.123456Z");
        assert_eq!(in_zone(NEVER, &zone), "1970-01-01T08:00:00+08:00");
    }

    #[test]
    fn milliseconds_are_always_three_digits() {
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        let moment: Timestamp = "2026-03-01T01:30:00.1299Z".parse().unwrap();
        assert_eq!(in_millis_at(moment, &zone), "2026-03-01T09:30:00.129+08:00");
        assert_eq!(in_millis_at(NEVER, &TimeZone::UTC), "1970-01-01T00:00:00.000+00:00");
    }
}
