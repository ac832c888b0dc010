//! Rows whose columns are found by their names: views differ between the versions of the database.
//!
//! Invariant: a column that is not there, or holds something else, is unknown, never an error.

use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, FromRowError, Row, Value};

use super::connect::{Endpoint, limited, number_of};
use crate::error::Result;
use crate::model::{ServerAddr, Timestamp, on_wire};

/// One row, as text.
#[derive(Debug)]
pub(super) struct Named(Row);

impl FromRow for Named {
    fn from_row_opt(row: Row) -> std::result::Result<Self, FromRowError> {
        Ok(Self(row))
    }
}

impl Named {
    /// `None` for NULL and for what this version does not have. Names match in any case.
    pub(super) fn maybe(&self, column: &str) -> Option<String> {
        let at = self.0.columns_ref().iter().position(|c| c.name_str().eq_ignore_ascii_case(column))?;
        match self.0.as_ref(at)? {
            Value::NULL => None,
            Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Value::Int(number) => Some(number.to_string()),
            Value::UInt(number) => Some(number.to_string()),
            Value::Float(number) => Some(number.to_string()),
            Value::Double(number) => Some(number.to_string()),
            // Statements without bound values are answered in text.
            Value::Date(..) | Value::Time(..) => None,
        }
    }

    pub(super) fn text(&self, column: &str) -> String {
        self.maybe(column).unwrap_or_default()
    }

    pub(super) fn number(&self, column: &str) -> i64 {
        self.maybe_number(column).unwrap_or(0)
    }

    pub(super) fn maybe_number(&self, column: &str) -> Option<i64> {
        whole(&self.maybe(column)?)
    }

    pub(super) fn fraction(&self, column: &str) -> f64 {
        let number = self.maybe(column).and_then(|text| text.parse::<f64>().ok());
        number.filter(|number| number.is_finite()).unwrap_or(0.0)
    }

    /// As the wire has it; the session's own zone is UTC ([`UTC`]).
    pub(super) fn time(&self, column: &str) -> Option<String> {
        moment(&self.maybe(column)?)
    }

    /// From columns SVR_IP and SVR_PORT.
    pub(super) fn server(&self) -> Option<ServerAddr> {
        let port = u16::try_from(self.number("SVR_PORT")).ok()?;
        Some(ServerAddr::new(self.text("SVR_IP").parse().ok()?, port))
    }
}

/// A sum comes as a decimal: `200`, `200.00`.
fn whole(text: &str) -> Option<i64> {
    let (digits, fraction) = text.split_once('.').unwrap_or((text, ""));
    fraction.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// Times of a session that has set this are told in UTC, whatever zone the database keeps.
pub(super) const UTC: &str = "time_zone = '+00:00'";

/// `2026-03-01 01:30:00.123456`, told in UTC, as the wire has it.
pub(super) fn moment(told: &str) -> Option<String> {
    let text = format!("{}Z", told.trim().replacen(' ', "T", 1));
    text.parse::<Timestamp>().ok().map(on_wire)
}

/// `Table doesn't exist`, `Unknown column`: this version of the database, or its edition, does not have it.
const NOT_HERE: [u16; 2] = [1146, 1054];

/// The rows of a statement; `None` where the database does not have what it asks for.
pub(super) async fn rows_if_any(
    endpoint: Endpoint,
    connection: &mut Conn,
    limit: Duration,
    (what, sql): (&str, &str),
) -> Result<Option<Vec<Named>>> {
    match limited(endpoint, what, limit, connection.query(sql)).await {
        Ok(rows) => Ok(Some(rows)),
        Err(error) if number_of(&error).is_some_and(|number| NOT_HERE.contains(&number)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sums_are_read_as_the_database_writes_them() {
        let moment = |text: &str| moment(text).and_then(|text| text.parse::<Timestamp>().ok());
        assert_eq!(moment("2026-03-01 01:30:00.123456"), "2026-03-01T01:30:00.123456Z".parse().ok());
        assert_eq!(moment("2026-03-01 01:30:00"), "2026-03-01T01:30:00Z".parse().ok());
        assert_eq!((moment("soon"), moment("")), (None, None));
        assert_eq!(["200", "200.00", "-3"].map(whole), [Some(200), Some(200), Some(-3)]);
        assert_eq!(["", "x", "2e3", "1.x"].map(whole), [None; 4]);
    }
}
