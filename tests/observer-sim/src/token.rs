//! SQL as words and marks.
//!
//! Invariant: literals are read as MySQL reads them (backslash escapes, either quote); what they held is kept, not how it was
//! written. Comments are gone, optimizer hints are not.

/// One word or mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Word(String),
    /// In backquotes.
    Name(String),
    Text(String),
    Number(String),
    /// `0x…` and `x'…'`.
    Hex(String),
    /// `@@name` or `@name`, with the signs.
    Variable(String),
    Parameter,
    Hint(String),
    Mark(&'static str),
}

/// A token, and whether space stood before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) token: Token,
    pub(crate) is_spaced: bool,
}

impl Piece {
    pub(crate) fn new(token: Token) -> Self {
        Self { token, is_spaced: true }
    }

    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Word(found) if found.eq_ignore_ascii_case(word))
    }

    pub(crate) fn is_mark(&self, mark: &str) -> bool {
        self.token == Token::Mark(MARKS.iter().find(|known| **known == mark).copied().unwrap_or(""))
    }
}

/// Longest first.
const MARKS: [&str; 33] = [
    "<=>", "->>", "<=", ">=", "<>", "!=", "||", "&&", ":=", "<<", ">>", "->", "(", ")", ",", ".", ";", "=",
    "<", ">", "+", "-", "*", "/", "%", "!", "|", "&", "^", "~", ":", "{", "}",
];

/// The tokens of a statement; `Err` holds what could not be read.
pub(crate) fn read(sql: &str) -> Result<Vec<Piece>, String> {
    let mut reader = Reader { chars: sql.chars().collect(), at: 0 };
    let mut pieces = Vec::new();
    loop {
        let is_spaced = reader.skip_space();
        let begin = reader.at;
        match reader.token() {
            Ok(Some(token)) => pieces.push(Piece { token, is_spaced }),
            Ok(None) => return Ok(pieces),
            Err(()) => return Err(reader.chars.iter().skip(begin).take(80).collect()),
        }
    }
}

struct Reader {
    chars: Vec<char>,
    at: usize,
}

impl Reader {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.peek(i) == Some(c))
    }

    fn take_while(&mut self, is_in: impl Fn(char) -> bool) -> String {
        let mut text = String::new();
        while let Some(c) = self.peek(0).filter(|c| is_in(*c)) {
            text.push(c);
            self.at += 1;
        }
        text
    }

    /// Space and comments.
    fn skip_space(&mut self) -> bool {
        let begin = self.at;
        loop {
            if self.peek(0).is_some_and(char::is_whitespace) {
                self.at += 1;
            } else if self.starts_with("#") || self.starts_with("-- ") {
                self.take_while(|c| c != '\n');
            } else if self.starts_with("/*") && !self.starts_with("/*+") {
                self.comment();
            } else {
                return self.at > begin;
            }
        }
    }

    fn comment(&mut self) -> String {
        self.at += 2;
        let mut text = String::new();
        while let Some(c) = self.peek(0) {
            if self.starts_with("*/") {
                self.at += 2;
                break;
            }
            text.push(c);
            self.at += 1;
        }
        text
    }

    fn token(&mut self) -> Result<Option<Token>, ()> {
        let Some(c) = self.peek(0) else { return Ok(None) };
        let token = match c {
            '/' if self.starts_with("/*+") => Token::Hint(self.comment()),
            '\'' | '"' => Token::Text(self.text(c)?),
            '`' => Token::Name(self.name()?),
            '?' => {
                self.at += 1;
                Token::Parameter
            }
            '@' => {
                let sign = self.take_while(|c| c == '@');
                Token::Variable(sign + &self.take_while(|c| is_word(c) || c == '.'))
            }
            'x' | 'X' if self.peek(1) == Some('\'') => {
                self.at += 1;
                Token::Hex(self.text('\'')?)
            }
            '0' if self.peek(1) == Some('x') => {
                self.at += 2;
                Token::Hex(self.take_while(|c| c.is_ascii_hexdigit()))
            }
            '0'..='9' => Token::Number(self.number()),
            '.' if self.peek(1).is_some_and(|c| c.is_ascii_digit()) => Token::Number(self.number()),
            c if is_word(c) => Token::Word(self.take_while(is_word)),
            _ => {
                let mark = MARKS.iter().find(|mark| self.starts_with(mark)).ok_or(())?;
                self.at += mark.len();
                Token::Mark(mark)
            }
        };
        Ok(Some(token))
    }

    fn text(&mut self, quote: char) -> Result<String, ()> {
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.peek(0) {
            self.at += 1;
            if c == quote {
                if self.peek(0) != Some(quote) {
                    return Ok(text);
                }
                self.at += 1;
            }
            if c == '\\' {
                let escaped = self.peek(0).ok_or(())?;
                self.at += 1;
                match escaped {
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    'b' => text.push('\x08'),
                    '0' => text.push('\0'),
                    'Z' => text.push('\x1a'),
                    // For LIKE.
                    '%' | '_' => text.extend(['\\', escaped]),
                    other => text.push(other),
                }
            } else {
                text.push(c);
            }
        }
        Err(())
    }

    fn name(&mut self) -> Result<String, ()> {
        self.at += 1;
        let name = self.take_while(|c| c != '`');
        self.peek(0).ok_or(())?;
        self.at += 1;
        Ok(name)
    }

    fn number(&mut self) -> String {
        let mut text = self.take_while(|c| c.is_ascii_digit() || c == '.');
        let has_exponent = matches!(self.peek(0), Some('e' | 'E'))
            && self.peek(1).is_some_and(|c| c.is_ascii_digit() || matches!(c, '+' | '-'));
        if has_exponent {
            text.push('e');
            self.at += 1;
            text += &self.take_while(|c| c.is_ascii_digit() || matches!(c, '+' | '-'));
        }
        text
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(sql: &str) -> Vec<Token> {
        read(sql).unwrap().into_iter().map(|piece| piece.token).collect()
    }

    #[test]
    fn literals_are_read_as_mysql_does() {
        assert_eq!(tokens(r"'it\'s' 'it''s'"), [Token::Text("it's".into()), Token::Text("it's".into())]);
        assert_eq!(tokens(r#""a\\b\n" '\_%'"#), [Token::Text("a\\b\n".into()), Token::Text(r"\_%".into())]);
        assert_eq!(
            tokens("0x41 x'42' `k y`"),
            [Token::Hex("41".into()), Token::Hex("42".into()), Token::Name("k y".into())]
        );
        assert!(read("'open").is_err());
        assert_eq!(read("select §").unwrap_err(), "§");
    }

    #[test]
    fn words_marks_and_comments() {
        assert_eq!(
            tokens("a.GV$OB -- x\n<=> @@s.v ? /* c */ 1.5"),
            [
                Token::Word("a".into()),
                Token::Mark("."),
                Token::Word("GV$OB".into()),
                Token::Mark("<=>"),
                Token::Variable("@@s.v".into()),
                Token::Parameter,
                Token::Number("1.5".into()),
            ]
        );
        let pieces = read("select /*+ QUERY_TIMEOUT(5) */ count(*)").unwrap();
        assert_eq!(pieces[1].token, Token::Hint("+ QUERY_TIMEOUT(5) ".into()));
        assert!(pieces[2].is_spaced && !pieces[3].is_spaced);
    }
}
