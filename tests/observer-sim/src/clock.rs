//! The two clocks, and times as text.
//!
//! Purpose: spans are measured by a clock that all processes of the host share and nobody sets; what tables show is wall time.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since the host was started.
pub(crate) fn boot_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(|time| Duration::from(time).as_nanos())
        .map_or(0, |ns| u64::try_from(ns).unwrap_or(u64::MAX))
}

/// Microseconds since 1970, the unit of the base tables.
pub(crate) fn wall_us() -> i64 {
    Timestamp::now().as_microsecond()
}

/// An SCN of this moment: nanoseconds since 1970.
pub(crate) fn scn(wall_us: i64) -> i64 {
    wall_us.saturating_mul(1000)
}

/// As clients see it: local time, with `digits` digits after the point.
pub(crate) fn text(us: i64, digits: usize) -> String {
    let moment = Timestamp::from_microsecond(us).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut text = moment.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S.%6f").to_string();
    let cut = if digits == 0 { 7 } else { 6usize.saturating_sub(digits) };
    text.truncate(text.len().saturating_sub(cut));
    text
}

/// The other way; `None` for what is no time.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let moment: jiff::civil::DateTime = text.trim().replacen(' ', "T", 1).parse().ok()?;
    Some(moment.to_zoned(TimeZone::system()).ok()?.timestamp().as_microsecond())
}

/// A local time in another zone; `None` when the zone is no offset, or the time no time.
pub(crate) fn in_zone(text: &str, zone: &str) -> Option<String> {
    let (hours, minutes) = zone.split_once(':')?;
    let (hours, minutes) = (hours.parse::<i32>().ok()?, minutes.parse::<i32>().ok()?);
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let offset = jiff::tz::Offset::from_seconds(hours * 3600 + sign * minutes * 60).ok()?;
    let moment = Timestamp::from_microsecond(parse(text)?).ok()?;
    let told = offset.to_datetime(moment).strftime("%Y-%m-%d %H:%M:%S.%6f").to_string();
    Some(told.get(..text.len().min(told.len()))?.to_owned())
}

/// With date and zone, for the journal.
pub(crate) fn stamp(us: i64) -> String {
    Timestamp::from_microsecond(us).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_back() {
        let us = 1_767_323_045_123_456;
        assert_eq!(parse(&text(us, 6)), Some(us));
        assert_eq!(text(us, 0).len(), 19);
        assert_eq!(text(us, 3).len(), 23);
        assert_eq!(parse("soon"), None);
        let local = text(us, 6);
        assert_eq!(in_zone(&local, "+00:00").as_deref(), Some("2026-01-02 03:04:05.123456"));
        assert_eq!(in_zone(&local, "+05:30").as_deref(), Some("2026-01-02 08:34:05.123456"));
        assert_eq!(in_zone(&local, "SYSTEM"), None);
    }
}
