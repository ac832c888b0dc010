//! SHOW statements.

use rusqlite::types::Value;

use crate::functions::{self, is_like};
use crate::protocol::{Column, Kind, Rows};
use crate::rows;

fn columns(names: &[&str], numbers: &[&str]) -> Vec<Column> {
    let column = |name: &&str| Column {
        name: (*name).to_owned(),
        kind: if numbers.contains(name) { Kind::Integer } else { Kind::Text },
    };
    names.iter().map(column).collect()
}

pub(crate) fn names(title: &str, names: impl IntoIterator<Item = String>) -> Rows {
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort();
    Rows {
        columns: columns(&[title], &[]),
        rows: names.into_iter().map(|name| vec![Value::Text(name)]).collect(),
    }
}

pub(crate) fn variables(facts: &functions::Facts, like: Option<&str>) -> Rows {
    let all = facts.all_variables().into_iter();
    Rows {
        columns: columns(&["Variable_name", "Value"], &[]),
        rows: all
            .filter(|(name, _)| like.is_none_or(|pattern| is_like(pattern, name)))
            .map(|(name, value)| vec![Value::Text(name), Value::Text(value)])
            .collect(),
    }
}

pub(crate) fn parameters(facts: &rows::Facts<'_>, like: Option<&str>) -> Rows {
    let names = [
        "zone",
        "svr_type",
        "svr_ip",
        "svr_port",
        "name",
        "data_type",
        "value",
        "info",
        "section",
        "scope",
        "source",
        "edit_level",
        "default_value",
        "isdefault",
    ];
    let is_meant = |row: &Vec<Value>| {
        like.is_none_or(|pattern| matches!(row.get(4), Some(Value::Text(name)) if is_like(pattern, name)))
    };
    Rows {
        columns: columns(&names, &["svr_port", "isdefault"]),
        rows: rows::show_parameters(facts).into_iter().filter(is_meant).collect(),
    }
}

pub(crate) fn nothing() -> Rows {
    Rows { columns: columns(&["Name"], &[]), rows: Vec::new() }
}
