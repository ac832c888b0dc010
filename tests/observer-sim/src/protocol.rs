//! Payloads of the MySQL protocol, version 4.1: greeting, login, answers, rows of both kinds.
//!
//! Invariant: DEPRECATE_EOF is not announced, so every list ends with an EOF packet.
//!
//! Not here: framing (`wire`); what is answered (`session`).

use rusqlite::types::Value;
use sha1::{Digest as _, Sha1};

use crate::clock;
use crate::refusal::Refusal;
use crate::state::Credential;

pub(crate) const NATIVE: &str = "mysql_native_password";

pub(crate) const CONNECT_WITH_DB: u32 = 0x8;
pub(crate) const FOUND_ROWS: u32 = 0x2;
const PLUGIN_AUTH: u32 = 0x0008_0000;
const PLUGIN_AUTH_LENENC: u32 = 0x0020_0000;
const SECURE_CONNECTION: u32 = 0x8000;
/// LONG_PASSWORD, FOUND_ROWS, LONG_FLAG, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH.
const CAPABILITIES: u32 =
    0x1 | FOUND_ROWS | 0x4 | CONNECT_WITH_DB | 0x200 | 0x2000 | SECURE_CONNECTION | PLUGIN_AUTH;

const UTF8: u16 = 45;
const BINARY: u16 = 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Real,
    Text,
    Bytes,
    Time,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Integer => 0x08,
            Self::Real => 0x05,
            Self::Text => 0xfd,
            Self::Bytes => 0xfc,
            Self::Time => 0x07,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rows {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Value>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Done { affected: u64, id: u64 },
    Rows(Rows),
}

impl Answer {
    pub(crate) fn done() -> Self {
        Self::Done { affected: 0, id: 0 }
    }
}

/// Twenty bytes without zeros.
pub(crate) fn salt() -> [u8; 20] {
    use std::io::Read as _;
    let mut salt = [0x2a; 20];
    drop(std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut salt)));
    salt.map(|byte| (byte & 0x7f).max(1))
}

pub(crate) fn greeting(version: &str, connection: u32, salt: &[u8; 20]) -> Vec<u8> {
    let (first, second) = salt.split_at(8);
    let [low_a, low_b, high_a, high_b] = CAPABILITIES.to_le_bytes();
    let mut out = vec![10];
    out.extend(version.as_bytes());
    out.push(0);
    out.extend(connection.to_le_bytes());
    out.extend(first);
    out.extend([0, low_a, low_b, 45, 2, 0, high_a, high_b, 21]);
    out.extend([0; 10]);
    out.extend(second);
    out.push(0);
    out.extend(NATIVE.as_bytes());
    out.push(0);
    out
}

/// What a client says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) capabilities: u32,
    pub(crate) user: String,
    pub(crate) token: Vec<u8>,
    pub(crate) database: Option<String>,
    pub(crate) plugin: String,
}

pub(crate) fn login(payload: &[u8]) -> Option<Login> {
    let mut reader = Reader { bytes: payload };
    let capabilities = u32::from_le_bytes(reader.take(4)?.try_into().ok()?);
    // Packet size, character set, filler.
    reader.take(28)?;
    let user = reader.text()?;
    let token = if capabilities & PLUGIN_AUTH_LENENC != 0 {
        reader.lenenc_bytes()?.to_vec()
    } else {
        let len = usize::from(*reader.take(1)?.first()?);
        reader.take(len)?.to_vec()
    };
    let database = if capabilities & CONNECT_WITH_DB == 0 { None } else { reader.text() };
    let plugin = if capabilities & PLUGIN_AUTH == 0 { Some(NATIVE.to_owned()) } else { reader.text() };
    Some(Login {
        capabilities,
        user,
        token,
        database: database.filter(|name| !name.is_empty()),
        plugin: plugin.filter(|name| !name.is_empty()).unwrap_or_else(|| NATIVE.to_owned()),
    })
}

pub(crate) fn auth_switch(salt: &[u8; 20]) -> Vec<u8> {
    let mut out = vec![0xfe];
    out.extend(NATIVE.as_bytes());
    out.push(0);
    out.extend(salt);
    out.push(0);
    out
}

fn sha1(bytes: &[&[u8]]) -> [u8; 20] {
    let mut digest = Sha1::new();
    for part in bytes {
        digest.update(part);
    }
    digest.finalize().into()
}

/// What is stored of a password.
pub(crate) fn credential(password: &str) -> Credential {
    let stored = sha1(&[&sha1(&[password.as_bytes()])]);
    (!password.is_empty()).then(|| stored.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a token of mysql_native_password belongs to a stored password.
pub(crate) fn is_right(credential: &Credential, salt: &[u8; 20], token: &[u8]) -> bool {
    let Some(stored) = credential else { return token.is_empty() };
    let stored: Option<Vec<u8>> =
        (0..20).map(|at| u8::from_str_radix(stored.get(2 * at..2 * at + 2)?, 16).ok()).collect();
    let Some(stored) = stored.filter(|_| token.len() == 20) else { return false };
    let mask = sha1(&[salt, &stored]);
    let first: Vec<u8> = token.iter().zip(mask).map(|(a, b)| a ^ b).collect();
    sha1(&[&first])[..] == stored[..]
}

pub(crate) fn ok(affected: u64, id: u64, is_in_transaction: bool) -> Vec<u8> {
    let mut out = vec![0];
    put_lenenc(&mut out, affected);
    put_lenenc(&mut out, id);
    out.extend([status(is_in_transaction), 0, 0, 0]);
    out
}

fn status(is_in_transaction: bool) -> u8 {
    2 | u8::from(is_in_transaction)
}

pub(crate) fn eof(is_in_transaction: bool) -> Vec<u8> {
    vec![0xfe, 0, 0, status(is_in_transaction), 0]
}

pub(crate) fn error(why: &Refusal) -> Vec<u8> {
    let mut out = vec![0xff];
    out.extend(why.code.to_le_bytes());
    out.push(b'#');
    out.extend(why.sqlstate().as_bytes());
    out.extend(why.text.as_bytes());
    out
}

pub(crate) fn column(column: &Column) -> Vec<u8> {
    let mut out = Vec::new();
    for text in ["def", "", "", "", &column.name, &column.name] {
        put_text(&mut out, text);
    }
    let is_text = column.kind == Kind::Text;
    out.push(0x0c);
    out.extend(if is_text { UTF8 } else { BINARY }.to_le_bytes());
    out.extend(u32::from(u16::MAX).to_le_bytes());
    out.push(column.kind.code());
    out.extend(if is_text { 0u16 } else { 128 }.to_le_bytes());
    out.push(if column.kind == Kind::Time { 6 } else { 0 });
    out.extend([0, 0]);
    out
}

pub(crate) fn prepared(id: u32, columns: usize, parameters: usize) -> Vec<u8> {
    let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_le_bytes();
    let mut out = vec![0];
    out.extend(id.to_le_bytes());
    out.extend(count(columns));
    out.extend(count(parameters));
    out.extend([0, 0, 0]);
    out
}

pub(crate) fn text_row(row: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in row {
        match value {
            Value::Null => out.push(0xfb),
            Value::Integer(number) => put_text(&mut out, &number.to_string()),
            Value::Real(number) => put_text(&mut out, &number.to_string()),
            Value::Text(text) => put_text(&mut out, text),
            Value::Blob(bytes) => put_bytes(&mut out, bytes),
        }
    }
    out
}

pub(crate) fn binary_row(columns: &[Column], row: &[Value]) -> Vec<u8> {
    let mut nulls = vec![0u8; (row.len() + 9) / 8];
    let mut values = Vec::new();
    for (at, (column, value)) in columns.iter().zip(row).enumerate() {
        match (column.kind, value) {
            (_, Value::Null) => {
                if let Some(byte) = nulls.get_mut((at + 2) / 8) {
                    *byte |= 1 << ((at + 2) % 8);
                }
            }
            (Kind::Integer, Value::Integer(number)) => values.extend(number.to_le_bytes()),
            (Kind::Real, Value::Real(number)) => values.extend(number.to_le_bytes()),
            #[expect(clippy::cast_precision_loss, reason = "as the database does")]
            (Kind::Real, Value::Integer(number)) => values.extend((*number as f64).to_le_bytes()),
            (Kind::Time, Value::Text(text)) => values.extend(binary_time(text)),
            (_, Value::Integer(number)) => put_text(&mut values, &number.to_string()),
            (_, Value::Real(number)) => put_text(&mut values, &number.to_string()),
            (_, Value::Text(text)) => put_text(&mut values, text),
            (_, Value::Blob(bytes)) => put_bytes(&mut values, bytes),
        }
    }
    let mut out = vec![0];
    out.extend(nulls);
    out.extend(values);
    out
}

/// Numbers of a time as text: year, month, day, hour, minute, second, microsecond.
fn time_numbers(text: &str) -> Option<[u32; 7]> {
    let (date, time) = text.trim().split_once(' ').unwrap_or((text.trim(), "00:00:00"));
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let fraction = format!("{fraction:0<6}");
    let mut numbers = [0; 7];
    let parts = date.splitn(3, '-').chain(time.splitn(3, ':')).chain([fraction.as_str()]);
    let mut count = 0;
    for (place, part) in numbers.iter_mut().zip(parts) {
        *place = part.parse().ok()?;
        count += 1;
    }
    (count == 7).then_some(numbers)
}

pub(crate) fn is_time(value: &Value) -> bool {
    matches!(value, Value::Text(text) if time_numbers(text).is_some())
}

fn binary_time(text: &str) -> Vec<u8> {
    let [year, month, day, hour, minute, second, micros] = time_numbers(text).unwrap_or_default();
    let mut out = vec![11];
    out.extend(u16::try_from(year).unwrap_or_default().to_le_bytes());
    out.extend([month, day, hour, minute, second].map(|number| u8::try_from(number).unwrap_or_default()));
    out.extend(micros.to_le_bytes());
    out
}

/// Type codes of parameters, two bytes each.
pub(crate) type Types = Vec<(u8, u8)>;

/// Parameters of an execution. `known` are the types of an earlier one; `long` came in packets of their own.
pub(crate) fn parameters(
    payload: &[u8],
    count: usize,
    known: &mut Types,
    long: &std::collections::BTreeMap<u16, Vec<u8>>,
) -> Option<Vec<Value>> {
    let mut reader = Reader { bytes: payload };
    if count == 0 {
        return Some(Vec::new());
    }
    let nulls = reader.take(count.div_ceil(8))?.to_vec();
    if reader.take(1)?.first() == Some(&1) {
        *known = reader.take(2 * count)?.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    }
    let mut values = Vec::with_capacity(count);
    for at in 0..count {
        if let Some(bytes) = u16::try_from(at).ok().and_then(|at| long.get(&at)) {
            values.push(text_or_bytes(bytes));
        } else if nulls.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1) {
            values.push(Value::Null);
        } else {
            let (kind, flags) = *known.get(at)?;
            values.push(reader.value(kind, flags & 0x80 != 0)?);
        }
    }
    Some(values)
}

fn text_or_bytes(bytes: &[u8]) -> Value {
    String::from_utf8(bytes.to_vec()).map_or_else(|error| Value::Blob(error.into_bytes()), Value::Text)
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(part)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// Up to a zero, or to the end.
    fn text(&mut self) -> Option<String> {
        let len = self.bytes.iter().position(|byte| *byte == 0).unwrap_or(self.bytes.len());
        let text = String::from_utf8_lossy(self.take(len)?).into_owned();
        self.take(1.min(self.bytes.len()))?;
        Some(text)
    }

    fn lenenc(&mut self) -> Option<u64> {
        match self.array::<1>()? {
            [0xfc] => Some(u64::from(u16::from_le_bytes(self.array()?))),
            [0xfd] => self.array::<3>().map(|[a, b, c]| u64::from(u32::from_le_bytes([a, b, c, 0]))),
            [0xfe] => Some(u64::from_le_bytes(self.array()?)),
            [small] => Some(u64::from(small)),
        }
    }

    fn lenenc_bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.lenenc()?).ok()?;
        self.take(len)
    }

    fn value(&mut self, kind: u8, is_unsigned: bool) -> Option<Value> {
        let integer = |signed: i64, unsigned: u64| {
            Value::Integer(if is_unsigned { i64::try_from(unsigned).unwrap_or(i64::MAX) } else { signed })
        };
        Some(match kind {
            0x01 => {
                let [byte] = self.array()?;
                integer(i64::from(byte.cast_signed()), u64::from(byte))
            }
            0x02 | 0x0d => {
                let number = u16::from_le_bytes(self.array()?);
                integer(i64::from(number.cast_signed()), u64::from(number))
            }
            0x03 | 0x09 => {
                let number = u32::from_le_bytes(self.array()?);
                integer(i64::from(number.cast_signed()), u64::from(number))
            }
            0x08 => {
                let number = u64::from_le_bytes(self.array()?);
                integer(number.cast_signed(), number)
            }
            0x04 => Value::Real(f64::from(f32::from_le_bytes(self.array()?))),
            0x05 => Value::Real(f64::from_le_bytes(self.array()?)),
            0x06 => Value::Null,
            0x07 | 0x0a | 0x0c => Value::Text(self.time()?),
            _ => text_or_bytes(self.lenenc_bytes()?),
        })
    }

    fn time(&mut self) -> Option<String> {
        let [len] = self.array()?;
        let mut bytes = self.take(usize::from(len))?.to_vec();
        bytes.resize(11, 0);
        let mut reader = Reader { bytes: &bytes };
        let year = u16::from_le_bytes(reader.array()?);
        let [month, day, hour, minute, second] = reader.array()?;
        let micros = u32::from_le_bytes(reader.array()?);
        Some(format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}"))
    }
}

fn put_lenenc(out: &mut Vec<u8>, number: u64) {
    let bytes = number.to_le_bytes();
    let [a, b, c, ..] = bytes;
    match number {
        0..=250 => out.push(a),
        251..=0xffff => out.extend([0xfc, a, b]),
        0x1_0000..=0xff_ffff => out.extend([0xfd, a, b, c]),
        _ => {
            out.push(0xfe);
            out.extend(bytes);
        }
    }
}

pub(crate) fn lenenc(number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_lenenc(&mut out, number);
    out
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_lenenc(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// For a journal: when something was.
pub(crate) fn moment() -> String {
    clock::stamp(clock::wall_us())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_passwords() {
        let salt = salt();
        let stored = credential("secret");
        let stage = sha1(&[b"secret"]);
        let mask = sha1(&[&salt, &sha1(&[&stage])]);
        let token: Vec<u8> = stage.iter().zip(mask).map(|(a, b)| a ^ b).collect();
        assert!(is_right(&stored, &salt, &token));
        assert!(!is_right(&stored, &salt, &[]) && !is_right(&credential("other"), &salt, &token));
        assert!(is_right(&None, &salt, &[]) && !is_right(&None, &salt, &token));
        assert_eq!(credential(""), None);
    }

    #[test]
    fn times_in_binary() {
        let bytes = binary_time("2026-01-02 03:04:05.000006");
        assert_eq!(bytes, [11, 0xea, 0x07, 1, 2, 3, 4, 5, 6, 0, 0, 0]);
        let mut reader = Reader { bytes: &bytes };
        assert_eq!(reader.time().as_deref(), Some("2026-01-02 03:04:05.000006"));
        assert!(is_time(&Value::Text("2026-01-02 03:04:05".to_owned())));
        assert!(!is_time(&Value::Text("soon".to_owned())));
    }

    #[test]
    fn lengths() {
        for number in [0, 250, 251, 0xffff, 0x1_0000, 0x100_0000] {
            let bytes = lenenc(number);
            assert_eq!(Reader { bytes: &bytes }.lenenc(), Some(number));
        }
    }
}
