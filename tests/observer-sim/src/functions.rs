//! Functions that MySQL has and SQLite has not, or has differently.
//!
//! Invariant: what a function needs to know of its session stands in `Facts`, which the session keeps up to date.
//!
//! Simplified: regular expressions know literals, `.`, classes, anchors and the three repetitions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Result};

use crate::clock;
use crate::settings::hold;
use crate::statement::variable_name;

/// What functions tell of the session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) version: String,
    pub(crate) mysql_version: String,
    pub(crate) database: Option<String>,
    pub(crate) user: String,
    pub(crate) connection: u32,
    pub(crate) last_insert_id: i64,
    pub(crate) socket: PathBuf,
    /// Set in this session, by their bare names.
    pub(crate) variables: BTreeMap<String, String>,
}

pub(crate) const UNKNOWN_VARIABLE: &str = "Unknown system variable";

const VARIABLES: [(&str, &str); 34] = [
    ("auto_increment_increment", "1"),
    ("autocommit", "1"),
    ("character_set_client", "utf8mb4"),
    ("character_set_connection", "utf8mb4"),
    ("character_set_database", "utf8mb4"),
    ("character_set_results", "utf8mb4"),
    ("character_set_server", "utf8mb4"),
    ("collation_connection", "utf8mb4_general_ci"),
    ("collation_server", "utf8mb4_general_ci"),
    ("init_connect", ""),
    ("interactive_timeout", "28800"),
    ("license", ""),
    ("lower_case_table_names", "1"),
    ("max_allowed_packet", "16777216"),
    ("net_buffer_length", "16384"),
    ("net_read_timeout", "30"),
    ("net_write_timeout", "60"),
    ("ob_compatibility_mode", "MYSQL"),
    ("ob_query_timeout", "10000000"),
    ("ob_read_consistency", "STRONG"),
    ("ob_tcp_invited_nodes", "%"),
    ("ob_trx_idle_timeout", "86400000000"),
    ("ob_trx_timeout", "86400000000"),
    ("performance_schema", "0"),
    ("query_cache_size", "1048576"),
    ("query_cache_type", "OFF"),
    ("read_only", "0"),
    ("sql_mode", "STRICT_ALL_TABLES"),
    ("system_time_zone", "UTC"),
    ("time_zone", "SYSTEM"),
    ("transaction_isolation", "READ-COMMITTED"),
    ("tx_isolation", "READ-COMMITTED"),
    ("tx_read_only", "0"),
    ("wait_timeout", "28800"),
];

impl Facts {
    /// By the bare name.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let own = || match name {
            "version" => Some(self.mysql_version.clone()),
            "version_comment" => Some(format!("OceanBase {} (simulated)", self.version)),
            "socket" => Some(self.socket.display().to_string()),
            _ => None,
        };
        let default =
            || VARIABLES.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        self.variables.get(name).cloned().or_else(own).or_else(default)
    }

    pub(crate) fn all_variables(&self) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> =
            VARIABLES.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for name in ["version", "version_comment", "socket"] {
            all.extend(self.variable(name).map(|value| (name.to_owned(), value)));
        }
        all.extend(self.variables.clone().into_iter().filter(|(name, _)| !name.starts_with('@')));
        all
    }
}

pub(crate) fn register(connection: &Connection, facts: &Arc<Mutex<Facts>>) -> Result<()> {
    let plain = FunctionFlags::SQLITE_UTF8;
    type Tell = fn(&Facts) -> Option<String>;
    let tells: [(&str, Tell); 7] = [
        ("version", |facts| Some(facts.mysql_version.clone())),
        ("ob_version", |facts| Some(facts.version.clone())),
        ("database", |facts| facts.database.clone()),
        ("schema", |facts| facts.database.clone()),
        ("user", |facts| Some(format!("{}@%", facts.user))),
        ("current_user", |facts| Some(format!("{}@%", facts.user))),
        ("session_user", |facts| Some(format!("{}@%", facts.user))),
    ];
    for (name, tell) in tells {
        let facts = Arc::clone(facts);
        connection.create_scalar_function(name, 0, plain, move |_| Ok(tell(&hold(&facts))))?;
    }
    let of = Arc::clone(facts);
    connection.create_scalar_function("connection_id", 0, plain, move |_| Ok(hold(&of).connection))?;
    let of = Arc::clone(facts);
    connection.create_scalar_function("last_insert_id", 0, plain, move |_| Ok(hold(&of).last_insert_id))?;
    let of = Arc::clone(facts);
    connection.create_scalar_function("ob_variable", 1, plain, move |context| {
        let written: String = context.get(0)?;
        let name = variable_name(&written);
        let value = hold(&of).variable(&name);
        match value {
            None if written.starts_with("@@") => Err(failure(format!("{UNKNOWN_VARIABLE} '{name}'"))),
            Some(value) => Ok(number_or_text(value)),
            None => Ok(rusqlite::types::Value::Null),
        }
    })?;
    times(connection)?;
    connection.create_scalar_function("regexp", 2, plain, |context| {
        Ok(both_texts(context)?.map(|(pattern, text)| matches(&pattern, &text)))
    })?;
    // Backslash escapes even without ESCAPE.
    connection.create_scalar_function("like", 2, plain, |context| {
        Ok(both_texts(context)?.map(|(pattern, text)| is_like(&pattern, &text)))
    })
}

fn number_or_text(value: String) -> rusqlite::types::Value {
    value.parse().map_or(rusqlite::types::Value::Text(value), rusqlite::types::Value::Integer)
}

fn failure(text: String) -> Error {
    Error::UserFunctionError(text.into())
}

fn times(connection: &Connection) -> Result<()> {
    let plain = FunctionFlags::SQLITE_UTF8;
    for name in ["now", "sysdate"] {
        connection.create_scalar_function(name, -1, plain, |context| {
            let digits = if context.is_empty() { 0 } else { context.get::<u32>(0)? };
            Ok(clock::text(clock::wall_us(), digits as usize))
        })?;
    }
    connection.create_scalar_function("unix_timestamp", -1, plain, |context| {
        let us = if context.is_empty() {
            Some(clock::wall_us())
        } else {
            clock::parse(&context.get::<String>(0)?)
        };
        Ok(us.map(|us| us / 1_000_000))
    })?;
    connection.create_scalar_function("timestampdiff", 3, plain, |context| {
        let unit: String = context.get(0)?;
        let (from, to): (Option<String>, Option<String>) = (context.get(1)?, context.get(2)?);
        let span =
            from.and_then(|t| clock::parse(&t)).zip(to.and_then(|t| clock::parse(&t))).map(|(a, b)| b - a);
        let divisor = match unit.as_str() {
            "microsecond" => 1,
            "second" => 1_000_000,
            "minute" => 60_000_000,
            "hour" => 3_600_000_000,
            "day" => 86_400_000_000_i64,
            _ => return Err(failure(format!("unit {unit} is not simulated"))),
        };
        Ok(span.map(|span| span / divisor))
    })
}

fn both_texts(context: &Context<'_>) -> Result<Option<(String, String)>> {
    let text = |at: usize| {
        Ok::<_, Error>(match context.get_raw(at) {
            ValueRef::Null => None,
            ValueRef::Integer(number) => Some(number.to_string()),
            ValueRef::Real(number) => Some(number.to_string()),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
        })
    };
    Ok(text(0)?.zip(text(1)?))
}

/// LIKE of the default collation: no difference of case.
pub(crate) fn is_like(pattern: &str, text: &str) -> bool {
    fn go(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['%', rest @ ..] => {
                (0..=text.len()).any(|skip| text.get(skip..).is_some_and(|text| go(rest, text)))
            }
            ['_', rest @ ..] => text.split_first().is_some_and(|(_, text)| go(rest, text)),
            ['\\', c, rest @ ..] | [c, rest @ ..] => {
                text.split_first().is_some_and(|(first, text)| first == c && go(rest, text))
            }
        }
    }
    let chars = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    go(&chars(pattern), &chars(text))
}

#[derive(Debug)]
enum Atom {
    Any,
    One(char),
    Class(Vec<char>, bool),
}

impl Atom {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Any => true,
            Self::One(one) => *one == c,
            Self::Class(members, is_negated) => members.contains(&c) != *is_negated,
        }
    }
}

/// Least and most often.
type Part = (Atom, usize, usize);

fn matches(pattern: &str, text: &str) -> bool {
    let lower = pattern.to_lowercase();
    let starts = lower.starts_with('^');
    let ends = lower.ends_with('$');
    let parts = parts(lower.trim_start_matches('^').trim_end_matches('$'));
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let last = if starts { 0 } else { text.len() };
    (0..=last).any(|begin| text.get(begin..).is_some_and(|text| fits(&parts, text, ends)))
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        let atom = match c {
            '.' => Atom::Any,
            '\\' => Atom::One(chars.next().unwrap_or('\\')),
            '[' => {
                let is_negated = chars.next_if_eq(&'^').is_some();
                let mut members: Vec<char> = Vec::new();
                for c in chars.by_ref().take_while(|c| *c != ']') {
                    let is_range = members.last() == Some(&'-') && members.len() > 1;
                    if is_range {
                        members.pop();
                        let first = members.pop().unwrap_or(c);
                        members.extend(first..=c);
                    } else {
                        members.push(c);
                    }
                }
                Atom::Class(members, is_negated)
            }
            c => Atom::One(c),
        };
        let (least, most) = match chars.peek() {
            Some('*') => (0, usize::MAX),
            Some('+') => (1, usize::MAX),
            Some('?') => (0, 1),
            _ => (1, 1),
        };
        if (least, most) != (1, 1) {
            chars.next();
        }
        parts.push((atom, least, most));
    }
    parts
}

fn fits(parts: &[Part], text: &[char], ends: bool) -> bool {
    let Some(((atom, least, most), rest)) = parts.split_first() else { return !ends || text.is_empty() };
    let run = text.iter().take_while(|c| atom.fits(**c)).count().min(*most);
    (*least..=run).rev().any(|taken| text.get(taken..).is_some_and(|text| fits(rest, text, ends)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert!(is_like(r"\_%", "_lcl_op_interval") && !is_like(r"\_%", "zone"));
        assert!(is_like("%10.0.0.1:2882%", "10.0.0.1:2882:1") && is_like("A_C", "abc"));
        assert!(matches("OceanBase[s_]CE", "5.7.25-OceanBase_CE-v4.3.5.1"));
        assert!(!matches("OceanBase[s_]CE", "5.7.25-OceanBase-v4.3.5.1"));
        assert!(matches("^a+b?c$", "aac") && !matches("^a+b?c$", "xaac") && matches("[0-9]+", "v12"));
    }

    #[test]
    fn functions_answer() {
        let connection = Connection::open_in_memory().unwrap();
        let facts = Arc::new(Mutex::new(Facts { version: "4.3.5.1".to_owned(), ..Facts::default() }));
        register(&connection, &facts).unwrap();
        let ask = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<String>>(0)).unwrap();
        assert_eq!(ask("select ob_version()").as_deref(), Some("4.3.5.1"));
        assert_eq!(ask("select database()"), None);
        assert_eq!(ask("select length(now(6)) || ''").as_deref(), Some("26"));
        assert_eq!(ask("select cast(ob_variable('@@autocommit') as text)").as_deref(), Some("1"));
        assert_eq!(
            ask("select timestampdiff('second', '2026-01-01 00:00:00', '2026-01-01 00:01:00.5') || ''")
                .as_deref(),
            Some("60")
        );
        assert!(connection.query_row("select ob_variable('@@nope')", [], |_| Ok(())).is_err());
    }
}
