//! From the SQL that clients of MySQL write to that of SQLite.
//!
//! Invariant: parameters are numbered before anything is moved or doubled. Counts come out as in MySQL: a row that an UPDATE
//! leaves as it was is not affected, unless the client asked for rows found.
//!
//! Simplified: date arithmetic with operators or INTERVAL, `UPDATE … LIMIT` (the limit is dropped), updates of several
//! tables, and the checks of lengths and ranges are missing.
//!
//! Not here: CREATE and ALTER TABLE (`define`).

use crate::define;
use crate::refusal::Refusal;
use crate::token::{Piece, Token};

/// A statement for SQLite.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Translated {
    pub(crate) text: String,
    /// To be run after it, such as triggers.
    pub(crate) more: Vec<String>,
    pub(crate) parameters: usize,
    /// `ON DUPLICATE KEY UPDATE`: an updated row counts twice.
    pub(crate) is_upsert: bool,
}

pub(crate) fn count_parameters(pieces: &[Piece]) -> usize {
    pieces.iter().filter(|piece| piece.token == Token::Parameter).count()
}

pub(crate) fn translate(
    pieces: &[Piece],
    default_db: Option<&str>,
    counts_found: bool,
) -> Result<Translated, Refusal> {
    let parameters = count_parameters(pieces);
    let end = pieces.iter().rposition(|piece| !piece.is_mark(";")).map_or(0, |last| last + 1);
    let pieces = plain(pieces.get(..end).unwrap_or_default());
    let first = pieces.first().map(|piece| word_of(piece).to_ascii_uppercase()).unwrap_or_default();
    let mut translated = match first.as_str() {
        "INSERT" | "REPLACE" => insert(pieces)?,
        "UPDATE" => of(update(pieces, counts_found)?),
        "DELETE" => of(without_limit(pieces)),
        "CREATE" | "ALTER" | "DROP" | "TRUNCATE" => define::define(&pieces, default_db)?,
        _ => of(pieces),
    };
    translated.parameters = parameters;
    Ok(translated)
}

fn of(pieces: Vec<Piece>) -> Translated {
    Translated { text: emit(&pieces), ..Translated::default() }
}

pub(crate) fn word(text: impl Into<String>) -> Piece {
    Piece::new(Token::Word(text.into()))
}

pub(crate) fn word_of(piece: &Piece) -> &str {
    match &piece.token {
        Token::Word(text) => text,
        _ => "",
    }
}

fn glued(token: Token) -> Piece {
    Piece { token, is_spaced: false }
}

/// Words that have another form, or none.
fn plain(pieces: &[Piece]) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::with_capacity(pieces.len());
    let mut parameters = 0;
    let mut at = 0;
    while let Some(piece) = pieces.get(at) {
        let here = at;
        let next =
            |ahead: usize, text: &str| pieces.get(here + ahead).is_some_and(|piece| piece.is_word(text));
        let opens = |ahead: usize| pieces.get(here + ahead).is_some_and(|piece| piece.is_mark("("));
        at += 1;
        let is_spaced = piece.is_spaced;
        let put = |token: Token| Piece { token, is_spaced };
        match &piece.token {
            Token::Hint(_) => {}
            Token::Parameter => {
                parameters += 1;
                out.push(put(Token::Word(format!("?{parameters}"))));
            }
            Token::Variable(name) => {
                out.push(put(Token::Word(format!("ob_variable('{}')", name.replace('\'', "")))));
            }
            Token::Mark("&&") => out.push(word("AND")),
            Token::Mark("||") => out.push(word("OR")),
            Token::Mark("<=>") => out.push(word("IS")),
            Token::Word(_) if piece.is_word("FROM") && next(1, "DUAL") => at += 1,
            Token::Word(_) if piece.is_word("FOR") && next(1, "UPDATE") => return out,
            Token::Word(_) if piece.is_word("LOCK") && next(1, "IN") => return out,
            Token::Word(_) if is_current_time(piece) => {
                out.push(put(Token::Word("now".to_owned())));
                if !opens(1) {
                    out.extend([glued(Token::Mark("(")), glued(Token::Mark(")"))]);
                }
            }
            Token::Word(_) if piece.is_word("TIMESTAMPDIFF") && opens(1) => {
                let unit = pieces.get(at + 1).map(|unit| word_of(unit).to_ascii_lowercase());
                out.extend([put(Token::Word("timestampdiff".to_owned())), glued(Token::Mark("("))]);
                out.push(glued(Token::Text(unit.unwrap_or_default())));
                at += 2;
            }
            other => out.push(put(other.clone())),
        }
    }
    out
}

fn is_current_time(piece: &Piece) -> bool {
    ["CURRENT_TIMESTAMP", "LOCALTIMESTAMP", "LOCALTIME"].iter().any(|name| piece.is_word(name))
}

/// As text for SQLite.
pub(crate) fn emit(pieces: &[Piece]) -> String {
    let mut text = String::new();
    for piece in pieces {
        if piece.is_spaced && !text.is_empty() {
            text.push(' ');
        }
        match &piece.token {
            Token::Word(word) | Token::Number(word) => text.push_str(word),
            Token::Name(name) => text.push_str(&format!("\"{}\"", name.replace('"', "\"\""))),
            Token::Text(value) => text.push_str(&format!("'{}'", value.replace('\'', "''"))),
            Token::Hex(digits) => text.push_str(&format!("x'{digits}'")),
            Token::Mark(mark) => text.push_str(mark),
            Token::Parameter | Token::Variable(_) | Token::Hint(_) => {}
        }
    }
    text
}

/// Pieces between commas that stand in no parentheses.
pub(crate) fn split_commas(pieces: &[Piece]) -> Vec<&[Piece]> {
    let mut parts = Vec::new();
    let (mut depth, mut begin) = (0usize, 0);
    for (at, piece) in pieces.iter().enumerate() {
        if piece.is_mark("(") {
            depth += 1;
        } else if piece.is_mark(")") {
            depth = depth.saturating_sub(1);
        } else if piece.is_mark(",") && depth == 0 {
            parts.push(pieces.get(begin..at).unwrap_or_default());
            begin = at + 1;
        }
    }
    parts.push(pieces.get(begin..).unwrap_or_default());
    parts
}

/// Where a word stands outside of parentheses.
fn find_outside(pieces: &[Piece], wanted: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, piece) in pieces.iter().enumerate() {
        if piece.is_mark("(") {
            depth += 1;
        } else if piece.is_mark(")") {
            depth = depth.saturating_sub(1);
        } else if depth == 0 && piece.is_word(wanted) {
            return Some(at);
        }
    }
    None
}

/// SQLite knows neither order nor limit here.
fn without_limit(mut pieces: Vec<Piece>) -> Vec<Piece> {
    for word in ["LIMIT", "ORDER"] {
        if let Some(at) = find_outside(&pieces, word) {
            pieces.truncate(at);
        }
    }
    pieces
}

/// `column = value` pairs, without the table's name before the column.
fn assignments(pieces: &[Piece]) -> Result<Vec<(Piece, Vec<Piece>)>, Refusal> {
    let pair = |part: &[Piece]| {
        let at = part.iter().position(|piece| piece.is_mark("="))?;
        let column = part.get(..at)?.last()?.clone();
        Some((Piece { is_spaced: true, ..column }, part.get(at + 1..)?.to_vec()))
    };
    let pairs: Option<Vec<_>> = split_commas(pieces).into_iter().map(pair).collect();
    pairs.ok_or_else(|| Refusal::syntax(&emit(pieces)))
}

fn set_list(pairs: &[(Piece, Vec<Piece>)]) -> Vec<Piece> {
    let mut out = Vec::new();
    for (number, (column, value)) in pairs.iter().enumerate() {
        if number > 0 {
            out.push(glued(Token::Mark(",")));
        }
        out.extend([column.clone(), Piece::new(Token::Mark("="))]);
        out.extend(value.iter().cloned());
    }
    out
}

/// True for rows that would be different.
fn differs(pairs: &[(Piece, Vec<Piece>)]) -> Vec<Piece> {
    let mut out = vec![Piece::new(Token::Mark("("))];
    for (number, (column, value)) in pairs.iter().enumerate() {
        if number > 0 {
            out.push(word("OR"));
        }
        out.extend([column.clone(), word("IS NOT"), Piece::new(Token::Mark("("))]);
        out.extend(value.iter().cloned());
        out.push(Piece::new(Token::Mark(")")));
    }
    out.push(Piece::new(Token::Mark(")")));
    out
}

fn update(pieces: Vec<Piece>, counts_found: bool) -> Result<Vec<Piece>, Refusal> {
    let pieces = without_limit(pieces);
    let set = find_outside(&pieces, "SET").ok_or_else(|| Refusal::syntax(&emit(&pieces)))?;
    let end = find_outside(&pieces, "WHERE").unwrap_or(pieces.len());
    let pairs = assignments(pieces.get(set + 1..end).unwrap_or_default())?;
    let mut out = pieces.get(..=set).unwrap_or_default().to_vec();
    out.extend(set_list(&pairs));
    let condition = pieces.get(end + 1..).unwrap_or_default();
    if condition.is_empty() && counts_found {
        return Ok(out);
    }
    out.push(word("WHERE"));
    if !condition.is_empty() {
        out.push(Piece::new(Token::Mark("(")));
        out.extend(condition.iter().cloned());
        out.push(Piece::new(Token::Mark(")")));
    }
    if !counts_found {
        if !condition.is_empty() {
            out.push(word("AND"));
        }
        out.extend(differs(&pairs));
    }
    Ok(out)
}

fn insert(mut pieces: Vec<Piece>) -> Result<Translated, Refusal> {
    if pieces.get(1).is_some_and(|piece| piece.is_word("IGNORE")) {
        pieces.splice(1..2, [word("OR"), word("IGNORE")]);
    }
    let verb = if pieces.get(1).is_some_and(|piece| piece.is_word("OR")) { 3 } else { 1 };
    if !pieces.get(verb).is_some_and(|piece| piece.is_word("INTO")) {
        pieces.insert(verb, word("INTO"));
    }
    let upsert = pieces.windows(2).position(
        |pair| matches!(pair, [on, duplicate] if on.is_word("ON") && duplicate.is_word("DUPLICATE")),
    );
    let tail = upsert.map(|at| pieces.split_off(at));
    // INSERT INTO t SET a = 1, b = 2
    if find_outside(&pieces, "VALUES").is_none()
        && find_outside(&pieces, "VALUE").is_none()
        && let Some(set) = find_outside(&pieces, "SET")
    {
        let pairs = assignments(pieces.get(set + 1..).unwrap_or_default())?;
        let columns: Vec<String> =
            pairs.iter().map(|(column, _)| emit(std::slice::from_ref(column))).collect();
        let values: Vec<String> = pairs.iter().map(|(_, value)| emit(value)).collect();
        pieces.truncate(set);
        pieces.push(word(format!("({}) VALUES ({})", columns.join(", "), values.join(", "))));
    }
    if let Some(value) = find_outside(&pieces, "VALUE") {
        pieces.splice(value..=value, [word("VALUES")]);
    }
    let is_upsert = tail.is_some();
    if let Some(tail) = tail {
        let pairs = assignments(&excluded(tail.get(4..).unwrap_or_default()))?;
        pieces.push(word("ON CONFLICT DO UPDATE SET"));
        pieces.extend(set_list(&pairs));
        pieces.push(word("WHERE"));
        pieces.extend(differs(&pairs));
    }
    Ok(Translated { is_upsert, ..of(pieces) })
}

/// `VALUES(column)` is what would have been inserted.
fn excluded(pieces: &[Piece]) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(piece) = pieces.get(at) {
        if piece.is_word("VALUES")
            && let Some([open, column, close]) = pieces.get(at + 1..at + 4)
            && open.is_mark("(")
            && close.is_mark(")")
        {
            out.push(word(format!("excluded.{}", emit(&[Piece { is_spaced: false, ..column.clone() }]))));
            at += 4;
        } else {
            out.push(piece.clone());
            at += 1;
        }
    }
    out
}

#[cfg(test)]
#[path = "translate_tests.rs"]
mod tests;
