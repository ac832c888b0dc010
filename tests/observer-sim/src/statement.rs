//! What a statement asks for.
//!
//! Invariant: what is not a statement of the database itself (session, users, ALTER SYSTEM, SHOW) is handed on as SQL.
//!
//! Not here: ALTER SYSTEM (`system`).

use crate::refusal::Refusal;
use crate::system::{Listed, System};
use crate::token::{Piece, Token};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    Nothing,
    /// Names in lower case, values as text.
    Set(Vec<(String, String)>),
    Use(String),
    Begin,
    Commit,
    Rollback,
    Show(Show),
    Bootstrap(Vec<Listed>),
    System(System),
    Password {
        user: String,
        password: String,
    },
    CreateUser {
        user: String,
        password: Option<String>,
        is_quiet: bool,
    },
    DropUser(String),
    /// GRANT, REVOKE and such: taken without effect.
    Privilege,
    CreateDatabase {
        name: String,
        is_quiet: bool,
    },
    DropDatabase {
        name: String,
        is_quiet: bool,
    },
    Sql(Kind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Define,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    Databases,
    Tables,
    Parameters {
        like: Option<String>,
    },
    Variables {
        like: Option<String>,
    },
    Charsets {
        like: Option<String>,
    },
    /// Answered with no rows.
    Other,
}

pub(crate) type Parsed<T> = Result<T, Refusal>;

pub(crate) fn parse(pieces: &[Piece]) -> Parsed<Statement> {
    let end = pieces.iter().rposition(|piece| !piece.is_mark(";")).map_or(0, |last| last + 1);
    let mut cursor = Cursor { pieces: pieces.get(..end).unwrap_or_default(), at: 0 };
    let Some(first) = cursor.peek() else { return Ok(Statement::Nothing) };
    let Token::Word(word) = &first.token else { return Ok(Statement::Sql(Kind::Read)) };
    match word.to_ascii_uppercase().as_str() {
        "SET" => cursor.set(),
        "USE" => {
            cursor.at += 1;
            Ok(Statement::Use(cursor.name()?))
        }
        "BEGIN" => Ok(Statement::Begin),
        "START" if cursor.second("TRANSACTION") => Ok(Statement::Begin),
        "COMMIT" => Ok(Statement::Commit),
        "ROLLBACK" => Ok(Statement::Rollback),
        "SHOW" => cursor.show(),
        "ALTER" => cursor.alter(),
        "CREATE" => cursor.create(),
        "DROP" => cursor.drop(),
        "GRANT" | "REVOKE" | "FLUSH" | "KILL" | "LOCK" | "UNLOCK" => Ok(Statement::Privilege),
        "INSERT" | "UPDATE" | "DELETE" | "REPLACE" => Ok(Statement::Sql(Kind::Write)),
        "TRUNCATE" => Ok(Statement::Sql(Kind::Define)),
        "SELECT" | "WITH" | "EXPLAIN" | "VALUES" => Ok(Statement::Sql(Kind::Read)),
        _ => Err(cursor.error()),
    }
}

pub(crate) struct Cursor<'a> {
    pieces: &'a [Piece],
    pub(crate) at: usize,
}

impl Cursor<'_> {
    pub(crate) fn peek(&self) -> Option<&Piece> {
        self.pieces.get(self.at)
    }

    fn second(&self, word: &str) -> bool {
        self.pieces.get(self.at + 1).is_some_and(|piece| piece.is_word(word))
    }

    pub(crate) fn error(&self) -> Refusal {
        let near: Vec<String> =
            self.pieces.iter().skip(self.at).take(10).map(|piece| plain(&piece.token)).collect();
        Refusal::syntax(&near.join(" "))
    }

    pub(crate) fn word(&mut self, word: &str) -> bool {
        let is_it = self.peek().is_some_and(|piece| piece.is_word(word));
        self.at += usize::from(is_it);
        is_it
    }

    /// All of them or none.
    pub(crate) fn words(&mut self, words: &[&str]) -> bool {
        let begin = self.at;
        let is_it = words.iter().all(|word| self.word(word));
        if !is_it {
            self.at = begin;
        }
        is_it
    }

    pub(crate) fn mark(&mut self, mark: &str) -> bool {
        let is_it = self.peek().is_some_and(|piece| piece.is_mark(mark));
        self.at += usize::from(is_it);
        is_it
    }

    pub(crate) fn need(&mut self, word: &str) -> Parsed<()> {
        if self.word(word) { Ok(()) } else { Err(self.error()) }
    }

    /// A name or literal of any kind.
    pub(crate) fn name(&mut self) -> Parsed<String> {
        let text = match self.peek().map(|piece| &piece.token) {
            Some(Token::Word(text) | Token::Name(text) | Token::Text(text) | Token::Number(text)) => {
                text.clone()
            }
            _ => return Err(self.error()),
        };
        self.at += 1;
        Ok(text)
    }

    pub(crate) fn text(&mut self) -> Parsed<String> {
        match self.peek().map(|piece| &piece.token) {
            Some(Token::Text(_)) => self.name(),
            _ => Err(self.error()),
        }
    }

    pub(crate) fn end(&self) -> Parsed<()> {
        if self.at >= self.pieces.len() { Ok(()) } else { Err(self.error()) }
    }

    pub(crate) fn done(&self, statement: Statement) -> Parsed<Statement> {
        self.end().map(|()| statement)
    }

    fn set(&mut self) -> Parsed<Statement> {
        self.at += 1;
        if self.word("PASSWORD") {
            let user = if self.word("FOR") { self.user()? } else { "root".to_owned() };
            self.mark("=");
            let is_function = self.word("PASSWORD") && self.mark("(");
            let password = self.text()?;
            if is_function {
                self.mark(")");
            }
            return self.done(Statement::Password { user, password });
        }
        if self.word("NAMES") || self.words(&["CHARACTER", "SET"]) {
            return Ok(Statement::Set(vec![("character_set_client".to_owned(), self.name()?)]));
        }
        let mut all = Vec::new();
        loop {
            let _is_scoped = ["GLOBAL", "SESSION", "LOCAL"].iter().any(|scope| self.word(scope));
            if self.word("TRANSACTION") {
                return Ok(Statement::Nothing);
            }
            let name = match self.peek().map(|piece| &piece.token) {
                Some(Token::Variable(name)) => {
                    let name = name.clone();
                    self.at += 1;
                    name
                }
                _ => self.name()?,
            };
            if !self.mark("=") && !self.mark(":=") {
                return Err(self.error());
            }
            let begin = self.at;
            while self.peek().is_some_and(|piece| !piece.is_mark(",")) {
                self.at += 1;
            }
            let value = self.pieces.get(begin..self.at).unwrap_or_default();
            if value.is_empty() {
                return Err(self.error());
            }
            all.push((variable_name(&name), value.iter().map(|piece| plain(&piece.token)).collect()));
            if !self.mark(",") {
                return self.done(Statement::Set(all));
            }
        }
    }

    fn show(&mut self) -> Parsed<Statement> {
        self.at += 1;
        while ["GLOBAL", "SESSION", "FULL"].iter().any(|word| self.word(word)) {}
        let what = self.name()?.to_ascii_uppercase();
        let is_charset = what == "CHARSET" || (what == "CHARACTER" && self.word("SET"));
        let like = if self.word("LIKE") { Some(self.text()?) } else { None };
        let show = match what.as_str() {
            "DATABASES" | "SCHEMAS" => Show::Databases,
            "TABLES" => Show::Tables,
            "PARAMETERS" => Show::Parameters { like },
            "VARIABLES" => Show::Variables { like },
            _ if is_charset => Show::Charsets { like },
            _ => Show::Other,
        };
        Ok(Statement::Show(show))
    }

    fn user(&mut self) -> Parsed<String> {
        let name = self.name()?;
        // A host may follow: root@'%'.
        if matches!(self.peek().map(|piece| &piece.token), Some(Token::Variable(_))) {
            let is_bare = self.peek().is_some_and(|piece| piece.token == Token::Variable("@".to_owned()));
            self.at += 1;
            if is_bare && !self.mark("%") {
                self.name()?;
            }
        }
        Ok(name)
    }

    fn create(&mut self) -> Parsed<Statement> {
        self.at += 1;
        if self.word("USER") {
            let is_quiet = self.words(&["IF", "NOT", "EXISTS"]);
            let user = self.user()?;
            let password = if self.words(&["IDENTIFIED", "BY"]) { Some(self.text()?) } else { None };
            return self.done(Statement::CreateUser { user, password, is_quiet });
        }
        if self.word("DATABASE") || self.word("SCHEMA") {
            let is_quiet = self.words(&["IF", "NOT", "EXISTS"]);
            // Options such as READ WRITE or a character set follow.
            return Ok(Statement::CreateDatabase { name: self.name()?, is_quiet });
        }
        Ok(Statement::Sql(Kind::Define))
    }

    fn drop(&mut self) -> Parsed<Statement> {
        self.at += 1;
        if self.word("USER") {
            self.words(&["IF", "EXISTS"]);
            return Ok(Statement::DropUser(self.user()?));
        }
        if self.word("DATABASE") || self.word("SCHEMA") {
            let is_quiet = self.words(&["IF", "EXISTS"]);
            return Ok(Statement::DropDatabase { name: self.name()?, is_quiet });
        }
        Ok(Statement::Sql(Kind::Define))
    }

    fn alter(&mut self) -> Parsed<Statement> {
        self.at += 1;
        if self.word("USER") {
            let user = self.user()?;
            if !self.words(&["IDENTIFIED", "BY"]) {
                return Ok(Statement::Privilege);
            }
            let password = self.text()?;
            return self.done(Statement::Password { user, password });
        }
        if self.word("TABLE") {
            return Ok(Statement::Sql(Kind::Define));
        }
        if !self.word("SYSTEM") {
            return Ok(Statement::Privilege);
        }
        if self.word("BOOTSTRAP") {
            return self.bootstrap();
        }
        let system = self.system()?;
        Ok(Statement::System(system))
    }
}

/// `@@session.x` and `X` are `x`; user variables keep their sign.
pub(crate) fn variable_name(written: &str) -> String {
    let lower = written.to_ascii_lowercase();
    let name = lower.strip_prefix("@@").unwrap_or(&lower);
    let bare = ["session.", "global.", "local."].iter().find_map(|scope| name.strip_prefix(scope));
    bare.unwrap_or(name).to_owned()
}

fn plain(token: &Token) -> String {
    match token {
        Token::Word(text)
        | Token::Name(text)
        | Token::Text(text)
        | Token::Number(text)
        | Token::Hex(text) => text.clone(),
        Token::Variable(text) => text.clone(),
        Token::Parameter => "?".to_owned(),
        Token::Hint(_) => String::new(),
        Token::Mark(mark) => (*mark).to_owned(),
    }
}

/// The limit of a hint, in microseconds.
pub(crate) fn hinted_limit(pieces: &[Piece]) -> Option<u64> {
    pieces.iter().find_map(|piece| {
        let Token::Hint(text) = &piece.token else { return None };
        let lower = text.to_ascii_lowercase();
        let (_, rest) = lower.split_once("query_timeout")?;
        let (_, rest) = rest.split_once('(')?;
        rest.split_once(')')?.0.trim().parse().ok()
    })
}

#[cfg(test)]
#[path = "statement_tests.rs"]
mod tests;
