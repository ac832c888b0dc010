//! The agents' own logs: every ERROR is explained here, a panic never is.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

/// What an agent may say as an error in such a run, and why.
const EXPLAINED: [(&str, &str); 1] = [(
    "the database process ended, and no operation had asked for it",
    "servers are killed, and die of faults",
)];

#[derive(Debug)]
pub(crate) struct Logs {
    files: Vec<(PathBuf, u64)>,
    /// How often what was said, as warning or error.
    pub(crate) said: BTreeMap<String, u64>,
}

impl Logs {
    pub(crate) fn of(files: Vec<PathBuf>) -> Self {
        Self { files: files.into_iter().map(|file| (file, 0)).collect(), said: BTreeMap::new() }
    }

    /// The lines since that nobody has explained.
    pub(crate) fn unexplained(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (path, read) in &mut self.files {
            let mut file = std::fs::File::open(&*path).unwrap();
            file.seek(SeekFrom::Start(*read)).unwrap();
            let mut text = Vec::new();
            *read += file.read_to_end(&mut text).unwrap() as u64;
            let host = path.file_stem().unwrap().to_string_lossy().into_owned();
            for line in String::from_utf8_lossy(&text).lines() {
                let is_error = line.contains(" ERROR ");
                if is_error || line.contains(" WARN ") {
                    *self.said.entry(words(line)).or_default() += 1;
                }
                let is_panic = line.contains("panic");
                let is_explained = EXPLAINED.iter().any(|(words, _)| line.contains(words));
                if is_panic || (is_error && !is_explained) {
                    wrong.push(format!("{host}: {line}"));
                }
            }
        }
        wrong
    }
}

/// Level and message, without time and fields.
fn words(line: &str) -> String {
    let words = line.split_whitespace().skip(1);
    words.take_while(|word| !word.contains('=')).collect::<Vec<_>>().join(" ")
}
