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

/// Name, description, default collation, bytes of the longest character.
const CHARSETS: [(&str, &str, &str, i64); 7] = [
    ("binary", "Binary pseudo charset", "binary", 1),
    ("utf8mb4", "UTF-8 Unicode", "utf8mb4_general_ci", 4),
    ("gbk", "GBK Simplified Chinese", "gbk_chinese_ci", 2),
    ("utf16", "UTF-16 Unicode", "utf16_general_ci", 2),
    ("gb18030", "GB18030", "gb18030_chinese_ci", 4),
    ("latin1", "cp1252 West European", "latin1_swedish_ci", 1),
    ("ascii", "US ASCII", "ascii_general_ci", 1),
];

/// Name, character set, id.
const COLLATIONS: [(&str, &str, i64); 13] = [
    ("utf8mb4_general_ci", "utf8mb4", 45),
    ("utf8mb4_bin", "utf8mb4", 46),
    ("binary", "binary", 63),
    ("gbk_chinese_ci", "gbk", 28),
    ("gbk_bin", "gbk", 87),
    ("utf16_general_ci", "utf16", 54),
    ("utf16_bin", "utf16", 55),
    ("gb18030_chinese_ci", "gb18030", 248),
    ("gb18030_bin", "gb18030", 249),
    ("latin1_swedish_ci", "latin1", 8),
    ("latin1_bin", "latin1", 47),
    ("ascii_general_ci", "ascii", 11),
    ("ascii_bin", "ascii", 65),
];

pub(crate) fn charsets(like: Option<&str>) -> Rows {
    let meant = CHARSETS.iter().filter(|charset| like.is_none_or(|pattern| is_like(pattern, charset.0)));
    let text = |text: &str| Value::Text(text.to_owned());
    let row = |(name, about, collation, length): &(&str, &str, &str, i64)| {
        vec![text(name), text(about), text(collation), Value::Integer(*length)]
    };
    Rows {
        columns: columns(&["Charset", "Description", "Default collation", "Maxlen"], &["Maxlen"]),
        rows: meant.map(row).collect(),
    }
}

/// As VALUES for `information_schema.COLLATIONS`.
pub(crate) fn collation_values() -> String {
    let is_default = |name: &str| CHARSETS.iter().any(|charset| charset.2 == name);
    let row = |(name, charset, id): &(&str, &str, i64)| {
        format!("('{name}', '{charset}', {id}, '{}')", if is_default(name) { "Yes" } else { "" })
    };
    COLLATIONS.iter().map(row).collect::<Vec<_>>().join(", ")
}

pub(crate) fn nothing() -> Rows {
    Rows { columns: columns(&["Name"], &[]), rows: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_set_has_its_default_collation() {
        for (charset, _, default, _) in CHARSETS {
            assert!(COLLATIONS.iter().any(|(name, of, _)| *name == default && *of == charset), "{charset}");
        }
        assert_eq!(charsets(Some("utf%")).rows.len(), 2);
        assert!(collation_values().contains("('utf8mb4_bin', 'utf8mb4', 46, '')"));
    }
}
