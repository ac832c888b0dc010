//! The engine's own log, read for one life of the process and for no earlier one.
//!
//! Purpose: the truth about a failed start stands in there, between thousands of lines that are not about it.
//!
//! Invariant: what is kept is bounded in lines and in length, whatever the log holds.
//!
//! Not here: what the lines mean (`causes`).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;

use camino::{Utf8Path, Utf8PathBuf};

use crate::model::{LogMark, Timestamp};

/// Read from the beginning of the life; a start at the default level writes 6 MB.
const HEAD_BYTES: u64 = 48 << 20;
/// Read from the end of a life that has written more.
const TAIL_BYTES: u64 = 8 << 20;
/// Read to see how far a start has come.
const STEP_BYTES: u64 = 256 << 10;
const FIRST_LINES: usize = 6;
const LAST_LINES: usize = 4;
const LINE_CHARS: usize = 360;

/// Lines of level ERROR or EDIAG that successful starts write too.
const NOISE: [&str; 2] = ["submit log fail(ret=-4109", "[Replay Tx]Tx Redo replay error, rollback to start"];

/// What the log says about one life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LifeLog {
    /// The first and the last fatal lines, in order.
    pub lines: Vec<String>,
    /// Error numbers of all fatal lines, each once, in order.
    pub codes: Vec<i32>,
    /// The last step of the start that was logged, such as `[server_start 13/14] wait schema ready success.`
    pub last_step: Option<String>,
    /// This life has written nothing.
    pub is_empty: bool,
    /// It has logged that it is ready.
    pub was_ready: bool,
}

/// Where the log ends now; the life that starts next begins there.
pub(super) fn mark(log: &Utf8Path) -> LogMark {
    std::fs::metadata(log)
        .map_or_else(|_| LogMark::default(), |found| LogMark { inode: found.ino(), offset: found.len() })
}

/// Reads what was logged since `from`, over rotations. Without a mark (inode 0) what counts is the time in the line,
/// not before `started_at`.
pub(super) fn read(log: &Utf8Path, from: &LogMark, started_at: Timestamp, ready: &[&str]) -> LifeLog {
    let mut reader = Reader::new(ready);
    if from.inode == 0 {
        // Start times come from a clock of whole seconds.
        reader.not_before = Some(local_text(started_at - jiff::SignedDuration::from_secs(2)));
    }
    let mut budget = HEAD_BYTES;
    let pieces = pieces(log, from);
    for (path, offset) in &pieces {
        budget = budget.saturating_sub(reader.take(path, *offset, budget).unwrap_or(0));
    }
    // The budget ended inside the life: its end is still missing, and that is where it says why it died.
    if let Some((path, offset)) = pieces.last().filter(|_| budget == 0) {
        let end = std::fs::metadata(path).map(|m| m.len()).unwrap_or(0);
        let tail = end.saturating_sub(TAIL_BYTES).max(*offset);
        // An unreadable tail leaves what the head said.
        reader.take(path, tail, TAIL_BYTES).unwrap_or(0);
    }
    reader.finish()
}

/// The last step of a start that stands near the end of the log, for a look at something that still runs.
pub(super) fn last_step(log: &Utf8Path) -> Option<String> {
    let end = std::fs::metadata(log).ok()?.len();
    let mut reader = Reader::new(&[]);
    reader.take(log, end.saturating_sub(STEP_BYTES), STEP_BYTES).ok()?;
    reader.finish().last_step
}

/// Files and offsets of a life, oldest first: the marked file wherever rotation has put it, then all younger ones.
fn pieces(log: &Utf8Path, from: &LogMark) -> Vec<(Utf8PathBuf, u64)> {
    let inode = |path: &Utf8Path| std::fs::metadata(path).map(|m| (m.ino(), m.len()));
    let start = |path: &Utf8Path| match inode(path) {
        // A file that has become shorter was emptied: all that is in it is younger.
        Ok((found, len)) if found == from.inode && len >= from.offset => from.offset,
        Ok(_) | Err(_) => 0,
    };
    let is_marked = |path: &Utf8Path| inode(path).is_ok_and(|(found, _)| found == from.inode);
    if from.inode == 0 || is_marked(log) {
        return vec![(log.to_owned(), start(log))];
    }
    let (Some(dir), Some(name)) = (log.parent(), log.file_name()) else { return Vec::new() };
    let mut rotated: Vec<Utf8PathBuf> = dir
        .read_dir_utf8()
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
        .filter(|entry| !entry.file_name().ends_with(".wf"))
        .map(|entry| entry.path().to_owned())
        .collect();
    // The suffix is the time of the rotation.
    rotated.sort();
    let first = rotated.iter().position(|path| is_marked(path)).unwrap_or(rotated.len());
    rotated.into_iter().skip(first).chain([log.to_owned()]).map(|path| (path.clone(), start(&path))).collect()
}

/// As the engine writes it: local time, seconds.
fn local_text(moment: Timestamp) -> String {
    let zoned = moment.to_zoned(jiff::tz::TimeZone::system());
    format!("[{}", zoned.strftime("%Y-%m-%d %H:%M:%S"))
}

struct Reader<'a> {
    ready: &'a [&'a str],
    not_before: Option<String>,
    first: Vec<String>,
    last: std::collections::VecDeque<String>,
    seen_lines: usize,
    log: LifeLog,
}

impl<'a> Reader<'a> {
    fn new(ready: &'a [&'a str]) -> Self {
        Self {
            ready,
            not_before: None,
            first: Vec::new(),
            last: std::collections::VecDeque::new(),
            seen_lines: 0,
            log: LifeLog::default(),
        }
    }

    /// Reads at most `budget` bytes and says how many.
    fn take(&mut self, path: &Utf8Path, offset: u64, budget: u64) -> io::Result<u64> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut input = BufReader::with_capacity(1 << 20, file.take(budget));
        let mut line = Vec::new();
        let mut taken = 0;
        loop {
            line.clear();
            let len = input.read_until(b'\n', &mut line)?;
            if len == 0 {
                return Ok(taken);
            }
            taken += len as u64;
            self.line(&String::from_utf8_lossy(&line));
        }
    }

    fn line(&mut self, line: &str) {
        let line = line.trim_end();
        let is_older =
            self.not_before.as_deref().is_some_and(|moment| line.starts_with('[') && line < moment);
        if line.is_empty() || is_older {
            return;
        }
        self.seen_lines += 1;
        self.log.was_ready |= self.ready.iter().any(|word| line.contains(word));
        if let Some((_, step)) = line.split_once("[server_start ") {
            self.log.last_step = Some(cut(&format!("[server_start {step}"), 120));
        }
        if !is_fatal(line) || NOISE.iter().any(|noise| line.contains(noise)) {
            return;
        }
        if let Some(code) = code(line).filter(|code| !self.log.codes.contains(code)) {
            self.log.codes.push(code);
        }
        let text = readable(line);
        if self.first.len() < FIRST_LINES {
            self.first.push(text);
            return;
        }
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(text);
    }

    fn finish(mut self) -> LifeLog {
        self.log.is_empty = self.seen_lines == 0;
        self.log.lines = self.first;
        self.log.lines.extend(self.last);
        // The tail of a long life may overlap its head.
        self.log.lines.dedup();
        self.log
    }
}

/// The level stands after the time; the plain words occur in harmless lines too, even as the text of a view. A crash
/// handler writes no time.
fn is_fatal(line: &str) -> bool {
    let after_time = line.split_once("] ").filter(|(time, _)| time.starts_with('[')).map(|(_, rest)| rest);
    after_time.is_some_and(|rest| rest.starts_with("ERROR ") || rest.starts_with("EDIAG ["))
        || line.starts_with("CRASH ERROR")
}

/// The number in `[errcode=-4736]`; 0 says nothing.
fn code(line: &str) -> Option<i32> {
    let (_, rest) = line.split_once("errcode=")?;
    let (number, _) = rest.split_once(']')?;
    number.parse().ok().filter(|number| *number != 0)
}

/// Without the stack of addresses and the sentence that helps nobody, at a length that fits a screen.
fn readable(line: &str) -> String {
    let line = line.split(" BACKTRACE:").next().unwrap_or(line);
    let line = line.split(" you may find solutions in previous error logs").next().unwrap_or(line);
    cut(line, LINE_CHARS)
}

pub(super) fn cut(text: &str, chars_max: usize) -> String {
    let mut short: String = text.chars().take(chars_max).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files;

    const TOO_SMALL: &str = "[2026-11-20 23:19:56.469689] ERROR [STORAGE] start (ob_server.cpp:1254) [21439][seekdb][Y0] \
        [lt=6][errcode=-4736] [server_start 9/14] observer instance start fail. you may find solutions in previous \
        error logs or seek help from official technicians.";
    const STEP: &str = "[2026-11-20 23:19:56.4] INFO  [STORAGE] x (y.cpp:1) [1][seekdb][Y0] [lt=1] [server_start 7/14] \
        block manager start begin.";

    fn home() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("seekdb.log")).unwrap();
        (dir, path)
    }

    fn read_all(path: &Utf8Path, from: &LogMark) -> LifeLog {
        read(path, from, Timestamp::UNIX_EPOCH, &["start success"])
    }

    fn append(path: &Utf8Path, text: &str) {
        use std::io::Write as _;
        let mut file = File::options().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn only_this_life_is_quoted() {
        let (_guard, path) = home();
        append(&path, "[2026-01-01 00:00:00.0] ERROR [X] old [errcode=-1] old trouble\n");
        let mark = mark(&path);
        assert!(read_all(&path, &mark).is_empty);
        append(&path, &format!("{STEP}\n{TOO_SMALL}\n"));
        let log = read_all(&path, &mark);
        assert_eq!(log.codes, [-4736]);
        assert_eq!(log.lines.len(), 1);
        assert!(log.lines[0].ends_with("observer instance start fail."), "{}", log.lines[0]);
        assert!(log.last_step.unwrap().starts_with("[server_start 9/14]"));
        assert!(!log.is_empty && !log.was_ready);
    }

    #[test]
    fn a_rotated_log_is_followed() {
        let (_guard, path) = home();
        append(&path, "before\n");
        let mark = mark(&path);
        append(&path, "[t] ERROR [X] f [errcode=-1] one\n");
        let rotated = path.with_file_name("seekdb.log.20261120231956");
        #[expect(clippy::disallowed_methods, reason = "as the engine rotates")]
        std::fs::rename(&path, &rotated).unwrap();
        append(&path.with_file_name("seekdb.log.20200101000000"), "[t] ERROR [X] ancient\n");
        append(&path.with_file_name("seekdb.log.wf"), "[t] ERROR [X] twin\n");
        append(&path, "[t] ERROR [X] f [errcode=-2] two\n");
        let log = read_all(&path, &mark);
        assert_eq!(log.codes, [-1, -2]);
        assert_eq!(log.lines.len(), 2);
    }

    #[test]
    fn an_emptied_log_is_read_from_its_start() {
        let (_guard, path) = home();
        append(&path, "a long line that was there before\n");
        let mark = mark(&path);
        File::options().write(true).truncate(true).open(&path).unwrap();
        append(&path, "[t] ERROR [X] new\n");
        assert_eq!(read_all(&path, &mark).lines.len(), 1);
    }

    #[test]
    fn without_a_mark_the_time_in_the_line_decides() {
        let (_guard, path) = home();
        append(&path, "[1999-12-31 23:59:59.9] ERROR [X] old\n[2090-01-01 00:00:00.0] ERROR [X] new\n");
        let log = read(&path, &LogMark::default(), "2026-11-20T00:00:00Z".parse().unwrap(), &[]);
        assert_eq!(log.lines.len(), 1);
        assert!(log.lines[0].contains("new"));
    }

    #[test]
    fn a_missing_log_is_empty() {
        let (_guard, path) = home();
        assert_eq!(mark(&path), LogMark::default());
        assert!(read_all(&path, &LogMark::default()).is_empty);
    }

    #[test]
    fn noise_and_harmless_mentions_are_left_out() {
        let (_guard, path) = home();
        append(&path, "[t] INFO [X] level EDIAG and ERRORS are words\n");
        append(&path, "[t] EDIAG [STORAGE.TRANS] f [errcode=-4109] submit log fail(ret=-4109, x=1)\n");
        append(&path, "[t] INFO [X] observer start success\n");
        append(&path, "[t] INFO [X] a view: select ' ERROR ', 'EDIAG [' [errcode=-1]\n");
        append(
            &path,
            "[t] EDIAG [STORAGE.TRANS] f [errcode=-4023] [Replay Tx]Tx Redo replay error, rollback to start(\n",
        );
        append(&path, "[t] EDIAG [X] f [errcode=-4016] real BACKTRACE:0x1 0x2\n");
        let log = read_all(&path, &LogMark::default());
        assert_eq!(log.codes, [-4016]);
        assert!(log.lines[0].ends_with("real"), "{}", log.lines[0]);
        assert!(log.was_ready);
    }

    #[test]
    fn many_and_long_lines_are_bounded() {
        let (_guard, path) = home();
        for n in 0..100 {
            append(&path, &format!("[t] ERROR [X] {n} {}\n", "x".repeat(2000)));
        }
        let log = read_all(&path, &LogMark::default());
        assert_eq!(log.lines.len(), FIRST_LINES + LAST_LINES);
        assert!(log.lines.iter().all(|line| line.chars().count() <= LINE_CHARS + 1));
        assert!(log.lines[0].contains(" 0 ") && log.lines[9].contains(" 99 "), "{:?}", log.lines);
    }

    #[test]
    fn the_end_of_a_huge_life_is_read_too() {
        let (_guard, path) = home();
        append(&path, "[t] ERROR [X] f [errcode=-1] first\n");
        let filler =
            "[t] INFO [X] nothing to see here, a line of some length that fills the file\n".repeat(14_000);
        for _ in 0..(HEAD_BYTES / filler.len() as u64 + 12) {
            append(&path, &filler);
        }
        append(&path, "[t] ERROR [X] f [errcode=-2] last\n");
        assert_eq!(read_all(&path, &LogMark::default()).codes, [-1, -2]);
    }

    #[test]
    fn the_mark_survives_being_stored() {
        let (_guard, path) = home();
        files::write_atomic(&path, b"x\n", 0o644).unwrap();
        let mark = mark(&path);
        let stored = serde_json::to_string(&mark).unwrap();
        assert_eq!(serde_json::from_str::<LogMark>(&stored).unwrap(), mark);
    }
}
