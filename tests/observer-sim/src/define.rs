//! CREATE, ALTER, DROP and TRUNCATE of tables, for SQLite.
//!
//! Invariant: a table goes into the database that is named or in use; without one the statement is refused (1046). Text
//! columns compare without regard to case.
//!
//! Simplified: plain indexes are left out, since they change no answer.

use crate::refusal::Refusal;
use crate::token::{Piece, Token};
use crate::translate::{Translated, emit, split_commas, word_of};

pub(crate) fn define(pieces: &[Piece], default_db: Option<&str>) -> Result<Translated, Refusal> {
    let is = |at: usize, word: &str| pieces.get(at).is_some_and(|piece| piece.is_word(word));
    let refuse = || Refusal::syntax(&emit(pieces));
    if is(0, "CREATE") && is(1, "TABLE") {
        return create_table(pieces, default_db);
    }
    if is(0, "TRUNCATE") {
        let at = if is(1, "TABLE") { 2 } else { 1 };
        let (name, _) = table_name(pieces, at, default_db)?;
        return Ok(done(format!("DELETE FROM {}", name.full())));
    }
    if is(0, "DROP") && is(1, "TABLE") {
        let is_quiet = is(2, "IF");
        let (name, _) = table_name(pieces, if is_quiet { 4 } else { 2 }, default_db)?;
        let quiet = if is_quiet { "IF EXISTS " } else { "" };
        return Ok(done(format!("DROP TABLE {quiet}{}", name.full())));
    }
    if is(0, "CREATE") {
        let is_unique = is(1, "UNIQUE");
        let at = if is_unique { 3 } else { 2 };
        let index = pieces.get(at).ok_or_else(refuse)?;
        let (table, rest) = table_name(pieces, at + 2, default_db)?;
        let unique = if is_unique { "UNIQUE " } else { "" };
        let (index, columns) =
            (emit(std::slice::from_ref(index)), emit(pieces.get(rest..).unwrap_or_default()));
        return Ok(done(format!(
            "CREATE {unique}INDEX {}.{index} ON {} {columns}",
            table.database, table.name
        )));
    }
    alter_table(pieces, default_db)
}

fn done(text: String) -> Translated {
    Translated { text, ..Translated::default() }
}

/// Quoted for SQLite.
struct Name {
    database: String,
    name: String,
}

impl Name {
    fn full(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }
}

fn quoted(piece: &Piece) -> Option<String> {
    match &piece.token {
        Token::Word(name) | Token::Name(name) => Some(format!("\"{}\"", name.replace('"', ""))),
        _ => None,
    }
}

/// The name at a place and where it ends.
fn table_name(pieces: &[Piece], at: usize, default_db: Option<&str>) -> Result<(Name, usize), Refusal> {
    let name = |at: usize| pieces.get(at).and_then(quoted).ok_or_else(|| Refusal::syntax(&emit(pieces)));
    if pieces.get(at + 1).is_some_and(|piece| piece.is_mark(".")) {
        return Ok((Name { database: name(at)?, name: name(at + 2)? }, at + 3));
    }
    let database = default_db.ok_or_else(|| Refusal::new(1046, "No database selected"))?;
    Ok((Name { database: format!("\"{database}\""), name: name(at)? }, at + 1))
}

fn create_table(pieces: &[Piece], default_db: Option<&str>) -> Result<Translated, Refusal> {
    let refuse = || Refusal::syntax(&emit(pieces));
    let is_quiet = pieces.get(2).is_some_and(|piece| piece.is_word("IF"));
    let (table, open) = table_name(pieces, if is_quiet { 5 } else { 2 }, default_db)?;
    let body = inside(pieces, open).ok_or_else(refuse)?;
    let items = split_commas(body);
    let has_counter = items.iter().any(|item| item.iter().any(|piece| piece.is_word("AUTO_INCREMENT")));
    let mut columns = Vec::new();
    let mut more = Vec::new();
    for item in items {
        match key(item, has_counter) {
            Key::Column => {
                let (column, touch) = column(item).ok_or_else(refuse)?;
                more.extend(touch.map(|name| touch_trigger(&table, &name)));
                columns.push(column);
            }
            Key::Kept(text) => columns.push(text),
            Key::Left => {}
        }
    }
    let quiet = if is_quiet { "IF NOT EXISTS " } else { "" };
    let text = format!("CREATE TABLE {quiet}{} ({})", table.full(), columns.join(", "));
    Ok(Translated { text, more, ..Translated::default() })
}

/// What stands in the parentheses that open at a place.
fn inside(pieces: &[Piece], open: usize) -> Option<&[Piece]> {
    pieces.get(open).filter(|piece| piece.is_mark("("))?;
    let mut depth = 0usize;
    for (at, piece) in pieces.iter().enumerate().skip(open) {
        if piece.is_mark("(") {
            depth += 1;
        } else if piece.is_mark(")") {
            depth -= 1;
            if depth == 0 {
                return pieces.get(open + 1..at);
            }
        }
    }
    None
}

enum Key {
    Column,
    Kept(String),
    Left,
}

fn key(item: &[Piece], has_counter: bool) -> Key {
    let first = item.first().map(|piece| word_of(piece).to_ascii_uppercase()).unwrap_or_default();
    let columns = item.iter().position(|piece| piece.is_mark("(")).and_then(|at| inside(item, at)).map(emit);
    let unique = |columns: Option<String>| {
        columns.map_or(Key::Left, |columns| Key::Kept(format!("UNIQUE ({columns})")))
    };
    match first.as_str() {
        // The counter is the key of the table already.
        "PRIMARY" if has_counter => unique(columns),
        "PRIMARY" => columns.map_or(Key::Left, |columns| Key::Kept(format!("PRIMARY KEY ({columns})"))),
        "UNIQUE" => unique(columns),
        "CONSTRAINT" if item.iter().any(|piece| piece.is_word("UNIQUE") || piece.is_word("PRIMARY")) => {
            unique(columns)
        }
        "KEY" | "INDEX" | "FULLTEXT" | "CONSTRAINT" | "FOREIGN" | "CHECK" => Key::Left,
        _ => Key::Column,
    }
}

/// A column for SQLite, and its name if it shows the time of the last change.
fn column(item: &[Piece]) -> Option<(String, Option<String>)> {
    let name = quoted(item.first()?)?;
    let kind = word_of(item.get(1)?).to_ascii_uppercase();
    let has = |word: &str| item.iter().any(|piece| piece.is_word(word));
    if has("AUTO_INCREMENT") {
        return Some((format!("{name} INTEGER PRIMARY KEY AUTOINCREMENT"), None));
    }
    let size = inside(item, 2).map(|size| format!("({})", emit(size)));
    let rest =
        item.get(2 + item.get(2..).map_or(0, |rest| inside(rest, 0).map_or(0, |size| size.len() + 2))..)?;
    let mut text = match kind.as_str() {
        "ENUM" | "SET" | "JSON" => format!("{name} VARCHAR(255)"),
        _ => format!("{name} {kind}{}", size.unwrap_or_default()),
    };
    let (attributes, touches) = attributes(rest);
    text.push_str(&attributes);
    let is_text = ["CHAR", "TEXT", "ENUM", "SET", "JSON"].iter().any(|word| kind.contains(word));
    if is_text && !has("BINARY") && !text.contains("COLLATE") {
        text.push_str(" COLLATE NOCASE");
    }
    Some((text, touches.then_some(name)))
}

/// NULL, NOT NULL, DEFAULT, PRIMARY KEY and UNIQUE stay.
fn attributes(rest: &[Piece]) -> (String, bool) {
    let mut text = String::new();
    let mut touches = false;
    let mut at = 0;
    let is = |at: usize, word: &str| rest.get(at).is_some_and(|piece| piece.is_word(word));
    // A word with an optional argument in parentheses.
    let term = |at: usize| {
        let size = inside(rest, at + 1).map_or(0, |inner| inner.len() + 2);
        rest.get(at..=at + size).unwrap_or_default()
    };
    while at < rest.len() {
        if is(at, "NOT") || is(at, "PRIMARY") {
            text.push_str(if is(at, "NOT") { " NOT NULL" } else { " PRIMARY KEY" });
            at += 2;
        } else if is(at, "DEFAULT") {
            let sign = usize::from(rest.get(at + 1).is_some_and(|piece| piece.is_mark("-")));
            let value = rest.get(at + 1..=at + sign).unwrap_or_default().iter().chain(term(at + 1 + sign));
            let value: Vec<Piece> = value.cloned().collect();
            text.push_str(&format!(" DEFAULT ({})", emit(&value)));
            at += 1 + value.len();
        } else if is(at, "ON") {
            touches = true;
            at += 2 + term(at + 2).len();
        } else if is(at, "UNIQUE") {
            text.push_str(" UNIQUE");
            at += 1 + usize::from(is(at + 1, "KEY"));
        } else if is(at, "CHARACTER") {
            at += 3;
        } else if is(at, "CHARSET") || is(at, "COLLATE") || is(at, "COMMENT") {
            at += 2;
        } else {
            at += 1;
        }
    }
    (text, touches)
}

fn touch_trigger(table: &Name, column: &str) -> String {
    let trigger = format!("touch_{}_{}", table.name.trim_matches('"'), column.trim_matches('"'));
    let (database, name) = (&table.database, &table.name);
    format!(
        "CREATE TRIGGER IF NOT EXISTS {database}.\"{trigger}\" AFTER UPDATE ON {name} WHEN NEW.{column} IS OLD.{column} \
         BEGIN UPDATE {name} SET {column} = now(6) WHERE rowid = NEW.rowid; END"
    )
}

fn alter_table(pieces: &[Piece], default_db: Option<&str>) -> Result<Translated, Refusal> {
    let refuse = || Refusal::syntax(&emit(pieces));
    let (table, at) = table_name(pieces, 2, default_db)?;
    let mut texts = Vec::new();
    for action in split_commas(pieces.get(at..).unwrap_or_default()) {
        let is = |at: usize, word: &str| action.get(at).is_some_and(|piece| piece.is_word(word));
        let is_column = is(1, "COLUMN");
        let item = action.get(if is_column { 2 } else { 1 }..).unwrap_or_default();
        if is(0, "ADD") && matches!(key(item, false), Key::Column) {
            let (column, _) = column(item).ok_or_else(refuse)?;
            texts.push(format!("ALTER TABLE {} ADD COLUMN {column}", table.full()));
        } else if is(0, "DROP") && is_column {
            texts.push(format!("ALTER TABLE {} DROP COLUMN {}", table.full(), emit(item)));
        }
    }
    // An index or a type changes no answer.
    let text = if texts.is_empty() { "SELECT 1 WHERE 0".to_owned() } else { texts.remove(0) };
    Ok(Translated { text, more: texts, ..Translated::default() })
}
