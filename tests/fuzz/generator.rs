//! Inputs from a corpus, each by its number.

use std::path::Path;

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

/// Longest input.
const LEN_MAX: usize = 48 << 10;

/// What mutations put in: what parsers trip over.
const WORDS: [&str; 40] = [
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "9223372036854775807",
    "\u{0}",
    "\u{feff}",
    "\u{202e}",
    "é",
    "=",
    "==",
    "/",
    "+",
    "%00",
    "..",
    "\r\n",
    " ",
    "\t",
    "'",
    "#",
    "[[",
    "]]",
    "\"auth\":",
    "\"AUTH\":",
    "\"keys\":\"\"",
    "\"ts\":",
    "v1 ",
    "2886",
];

/// The inputs that a target begins with.
pub(crate) struct Corpus {
    seeds: Vec<Vec<u8>>,
}

impl Corpus {
    pub(crate) fn of(target: &str) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
        let entries = std::fs::read_dir(&dir).map(|entries| entries.flatten().collect::<Vec<_>>());
        let mut files: Vec<_> = entries.unwrap_or_default().into_iter().map(|entry| entry.path()).collect();
        files.sort();
        let mut seeds: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
        seeds.extend(crate::targets::more_seeds(target));
        assert!(!seeds.is_empty(), "{} is empty", dir.display());
        Self { seeds }
    }

    pub(crate) fn len(&self) -> usize {
        self.seeds.len()
    }

    /// The first are the seeds themselves.
    pub(crate) fn input(&self, number: u64) -> Vec<u8> {
        if let Some(seed) = usize::try_from(number).ok().and_then(|number| self.seeds.get(number)) {
            return seed.clone();
        }
        let mut chance = Chance::of(number);
        let mut input = self.seed(&mut chance).to_vec();
        for _ in 0..=chance.below(6) {
            self.mutate(&mut input, &mut chance);
        }
        input.truncate(LEN_MAX);
        input
    }

    fn seed(&self, chance: &mut Chance) -> &[u8] {
        &self.seeds[chance.below(self.seeds.len())]
    }

    fn mutate(&self, input: &mut Vec<u8>, chance: &mut Chance) {
        let at = chance.below(input.len() + 1);
        let end = (at + 1 + chance.below(input.len() / 2 + 16)).min(input.len());
        match chance.below(9) {
            0 if at < input.len() => input[at] ^= 1 << chance.below(8),
            1 if at < input.len() => input[at] = chance.byte(),
            2 => drop(input.drain(at..end)),
            3 => {
                let piece = input[at..end].to_vec();
                let to = chance.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            4 => drop(input.splice(at..at, WORDS[chance.below(WORDS.len())].bytes())),
            5 => {
                let other = self.seed(chance);
                let from = chance.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            6 => input.truncate(at),
            7 => {
                let piece = input[at..end].to_vec();
                for _ in 0..chance.below(200) {
                    input.extend_from_slice(&piece);
                    if input.len() > LEN_MAX {
                        break;
                    }
                }
            }
            _ => input.insert(at, chance.byte()),
        }
        input.truncate(LEN_MAX);
    }
}

struct Chance(TestRng);

impl Chance {
    fn of(number: u64) -> Self {
        let mut seed = [0x5a; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap();
        usize::try_from(self.0.next_u64() % limit.max(1)).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.0.next_u64().to_le_bytes()[0]
    }
}
