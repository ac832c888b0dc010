//! The configuration that a server keeps: `etc/observer.config.bin` and its copies (`observer-model.md` §1).
//!
//! Invariant: a binary head, then `key=value` lines. A file that is shorter than its head says, or has other content, is as
//! good as none, and the next copy is taken.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Items by name.
pub(crate) type Config = BTreeMap<String, String>;

/// Newest first.
const FILES: [&str; 3] = ["etc/observer.config.bin", "etc2/observer.conf.bin", "etc3/observer.conf.bin"];

const MAGIC: [u8; 4] = [0xBE, 0xDE, 0x00, 0x01];
/// Magic, length, checksum, zeros.
const HEAD: usize = 32;

pub(crate) fn load(home: &Path) -> Option<Config> {
    FILES.iter().find_map(|file| decode(&std::fs::read(home.join(file)).ok()?))
}

pub(crate) fn save(home: &Path, config: &Config) -> io::Result<()> {
    let bytes = encode(config);
    for file in FILES {
        let path = home.join(file);
        let Some(dir) = path.parent() else { continue };
        std::fs::create_dir_all(dir)?;
        let beside = |end: &str| path.with_file_name(format!("{}{end}", name(file)));
        let (new, old) = (beside(".tmp"), beside(".history"));
        std::fs::write(&new, &bytes)?;
        std::fs::set_permissions(&new, Permissions::from_mode(0o640))?;
        if path.exists() {
            std::fs::rename(&path, &old)?;
        }
        std::fs::rename(&new, &path)?;
    }
    Ok(())
}

fn name(file: &str) -> &str {
    file.rsplit('/').next().unwrap_or(file)
}

fn encode(config: &Config) -> Vec<u8> {
    let lines: String = config.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    let mut bytes = MAGIC.to_vec();
    bytes.extend((lines.len() as u64).to_be_bytes());
    bytes.extend(checksum(lines.as_bytes()).to_be_bytes());
    bytes.resize(HEAD, 0);
    bytes.extend(lines.as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Config> {
    let (head, lines) = bytes.split_at_checked(HEAD)?;
    let number =
        |range| Some(u64::from_be_bytes(head.get::<std::ops::Range<usize>>(range)?.try_into().ok()?));
    let is_whole = head.starts_with(&MAGIC)
        && number(4..12) == u64::try_from(lines.len()).ok()
        && number(12..20) == Some(checksum(lines));
    let lines = std::str::from_utf8(lines).ok().filter(|_| is_whole)?;
    Some(
        lines
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect(),
    )
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// `2G`, `512M`; a plain number is bytes, as far as this matters here.
pub(crate) fn size(text: &str) -> Option<u64> {
    let text = text.trim().trim_end_matches(['B', 'b']);
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.strip_prefix(digits)?.to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    Some(digits.parse::<u64>().ok()? << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: &str) -> Config {
        Config::from([("zone".to_owned(), "z1".to_owned()), ("k".to_owned(), value.to_owned())])
    }

    #[test]
    fn it_is_read_back_from_the_first_whole_file() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(load(home.path()), None);
        save(home.path(), &config("1")).unwrap();
        save(home.path(), &config("2=3")).unwrap();
        assert_eq!(load(home.path()), Some(config("2=3")));
        let first = home.path().join(FILES[0]);
        assert_eq!(std::fs::metadata(&first).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(home.path().join("etc/observer.config.bin.history").exists());
        assert!(std::fs::read(&first).unwrap().contains(&0));
        std::fs::write(&first, &std::fs::read(&first).unwrap()[..40]).unwrap();
        assert_eq!(load(home.path()), Some(config("2=3")));
        for dir in ["etc2", "etc3"] {
            std::fs::remove_dir_all(home.path().join(dir)).unwrap();
        }
        assert_eq!(load(home.path()), None);
    }

    #[test]
    fn sizes() {
        assert_eq!(size("2G"), Some(2 << 30));
        assert_eq!(size("512MB"), Some(512 << 20));
        assert_eq!(size("7"), Some(7));
        assert_eq!(size("big"), None);
    }
}
