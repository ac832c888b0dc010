//! A client that goes on writing through one server, whatever happens to the others.
//!
//! It is a process of its own, `observer-sim-client`, which ends with whoever started it: by the end of its stdin. What it
//! says of each row is an event here; nothing is asked again and again.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

const LIMIT: Duration = Duration::from_secs(120);

/// Counts, errors and rows at the end.
#[derive(Clone, Debug)]
pub struct Written {
    /// Acknowledged or not.
    pub attempts: u64,
    pub acknowledged: u64,
    pub errors: Vec<Failed>,
    /// At least those that were acknowledged; one whose answer was lost may be there too.
    pub rows_found: u64,
}

impl Written {
    /// Nobody who wrote was refused anything.
    pub fn assert_undisturbed(&self) {
        assert!(
            self.errors.is_empty(),
            "{} of {} failed: {:#?}",
            self.errors.len(),
            self.attempts,
            self.errors
        );
    }
}

/// An attempt that was not acknowledged.
#[derive(Clone, Debug)]
pub struct Failed {
    /// RFC 3339, UTC, as all times here.
    pub began: String,
    pub at: String,
    /// Number and text of a refusal, or what became of the connection.
    pub text: String,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    written: u64,
    failed: u64,
    last: Option<Value>,
}

/// Writes until it is finished, or dropped.
#[derive(Debug)]
pub struct Writer {
    child: Child,
    stdin: Option<ChildStdin>,
    seen: watch::Receiver<Seen>,
}

/// Where one server is.
pub fn at(ip: &str, port: u16) -> Vec<String> {
    ["--ip", ip, "--port", &port.to_string()].map(str::to_owned).to_vec()
}

impl Writer {
    /// As root@sys, with these arguments of the client, which say where it writes ([`at`] for one server); its first row is
    /// written. `program` is the client.
    pub async fn start(program: &Path, servers: &[String], password: &str) -> Self {
        let mut command = Command::new(program);
        command.args(["write", "--json", "--until-eof"]).args(servers);
        command.args(["--password-env", "WRITER_PASSWORD"]).env("WRITER_PASSWORD", password);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let (tell, seen) = watch::channel(Seen::default());
        std::thread::spawn(move || listen(stdout, &tell));
        let writer = Self { child, stdin, seen };
        writer.until("its first row", |seen| seen.written > 0).await;
        writer
    }

    async fn until(&self, what: &str, is_so: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.clone();
        let waited = tokio::time::timeout(LIMIT, seen.wait_for(is_so)).await;
        let reached = waited.unwrap_or_else(|_| panic!("in vain: {what}; {:?}", self.seen.borrow()));
        reached.unwrap_or_else(|_| panic!("the client ended before {what}")).clone()
    }

    /// So many more rows are acknowledged.
    pub async fn until_written(&self, more: u64) {
        let wanted = self.seen.borrow().written + more;
        self.until("more rows", |seen| seen.written >= wanted).await;
    }

    /// So many more attempts have failed.
    pub async fn until_failed(&self, more: u64) {
        let wanted = self.seen.borrow().failed + more;
        self.until("more errors", |seen| seen.failed >= wanted).await;
    }

    /// Ends it. Every acknowledged row is there, or the test fails.
    pub async fn finish(mut self) -> Written {
        drop(self.stdin.take());
        let last = self.until("its last words", |seen| seen.last.is_some()).await.last.unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "rows that were acknowledged are not there: {}", last["missing"]);
        let number = |name: &str| last[name].as_u64().unwrap();
        let text = |error: &Value, name: &str| error[name].as_str().unwrap().to_owned();
        let errors = last["errors"].as_array().unwrap();
        Written {
            attempts: number("attempts"),
            acknowledged: number("acknowledged"),
            errors: errors
                .iter()
                .map(|e| Failed { began: text(e, "began"), at: text(e, "at"), text: text(e, "text") })
                .collect(),
            rows_found: number("rows_found"),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Until the client has ended; what it says is a line of JSON each.
fn listen(stdout: ChildStdout, tell: &watch::Sender<Seen>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let said: Value = serde_json::from_str(&line).unwrap();
        tell.send_modify(|seen| {
            if said.get("written").is_some() {
                seen.written += 1;
            } else if said.get("failed").is_some() {
                seen.failed += 1;
            } else {
                seen.last = Some(said);
            }
        });
    }
}
