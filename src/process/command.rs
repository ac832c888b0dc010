//! Programs are started here and nowhere else.
//!
//! Invariant: an argument vector and an environment of ours, never a shell string and never the agent's environment,
//! which may hold passwords. Own process group, no input, output into a file: a pipe would end with the agent, and
//! whoever writes into it then dies of SIGPIPE.
//!
//! Not here: which arguments (`seekdb`, `observer`, `scope`), and what a started engine becomes (`spawn`).

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::process::{Child, Command};

use crate::host::descriptors;
use crate::model::Exit;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const OUTPUT_LINES: usize = 40;
const OUTPUT_BYTES: u64 = 64 << 10;
const OUTPUT_LINE_CHARS: usize = 400;

/// One program with everything it gets to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invocation {
    pub program: Utf8PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(&'static str, String)>,
    pub directory: Utf8PathBuf,
}

/// How a program ended and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ran {
    pub exit: Exit,
    /// First lines of both its outputs.
    pub output: Vec<String>,
}

/// Why a program has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("{program} cannot be started: {source}")]
    Start { program: Utf8PathBuf, source: io::Error },
    #[error("{program} did not end within {} seconds and was killed", limit.as_secs())]
    TooLong { program: Utf8PathBuf, limit: Duration, output: Vec<String> },
}

impl fmt::Display for Invocation {
    /// For the log: the command line as a person would type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program.as_str())?;
        for argument in &self.arguments {
            let is_plain = argument.chars().all(|c| c.is_ascii_alphanumeric() || "-_=./:,@+[]".contains(c));
            if is_plain && !argument.is_empty() {
                write!(f, " {argument}")?;
            } else {
                write!(f, " '{}'", argument.replace('\'', "'\\''"))?;
            }
        }
        Ok(())
    }
}

/// The environment of an engine. `time_zone` is the one thing taken over from the agent's (`TZ`): the engine's local
/// time, and so what SQL calls SYSTEM, must not depend on who starts it.
pub(super) fn environment(
    home: &Utf8Path,
    library_dir: Option<Utf8PathBuf>,
    time_zone: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut environment =
        vec![("PATH", PATH.to_owned()), ("HOME", home.to_string()), ("LANG", "C.UTF-8".to_owned())];
    environment.extend(library_dir.map(|dir| ("LD_LIBRARY_PATH", dir.into_string())));
    environment.extend(time_zone.map(|zone| ("TZ", zone.to_owned())));
    environment
}

impl Invocation {
    /// A small program of the host, such as `busctl`, with nothing but a search path.
    pub(super) fn tool(program: &str, arguments: Vec<String>) -> Self {
        Self {
            program: program.into(),
            arguments,
            environment: vec![("PATH", PATH.to_owned()), ("LANG", "C.UTF-8".to_owned())],
            directory: "/".into(),
        }
    }

    fn command(&self, output: &File) -> io::Result<Command> {
        descriptors::keep_private();
        #[expect(clippy::disallowed_methods, reason = "the one place that builds commands")]
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .current_dir(&self.directory)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?);
        Ok(command)
    }

    /// Starts it and leaves it alone: dropping the child does not end it.
    ///
    /// # Errors
    /// When the kernel refuses: no such file, not executable, not a program.
    pub(super) fn launch(&self, output: &File) -> io::Result<Child> {
        self.command(output)?.spawn()
    }

    /// Runs it to its end, at most for `limit`. Dropping the future kills it.
    ///
    /// # Errors
    /// See [`RunError`].
    pub(super) async fn run(&self, limit: Duration) -> Result<Ran, RunError> {
        let fail = |source| RunError::Start { program: self.program.clone(), source };
        let mut output = tempfile::tempfile().map_err(fail)?;
        let mut child = self.command(&output).map_err(fail)?.kill_on_drop(true).spawn().map_err(fail)?;
        match tokio::time::timeout(limit, child.wait()).await {
            Ok(status) => Ok(Ran { exit: exit_of(status.map_err(fail)?), output: first_lines(&mut output) }),
            Err(_) => {
                // It may have ended in this very moment; then there is nothing to kill.
                if let Err(error) = child.kill().await {
                    tracing::debug!(program = %self.program, %error, "could not kill a program that took too long");
                }
                let output = first_lines(&mut output);
                Err(RunError::TooLong { program: self.program.clone(), limit, output })
            }
        }
    }
}

/// How a child ended, as the rest of the house says it.
pub(super) fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

/// What a program wrote, bounded; an unreadable file says nothing.
pub(super) fn first_lines(file: &mut File) -> Vec<String> {
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(0)).and_then(|_| file.take(OUTPUT_BYTES).read_to_end(&mut bytes)).is_err() {
        return Vec::new();
    }
    String::from_utf8_lossy(&bytes)
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .take(OUTPUT_LINES)
        .map(|line| super::log::cut(line, OUTPUT_LINE_CHARS))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Invocation {
        Invocation::tool("/bin/sh", vec!["-c".to_owned(), script.to_owned()])
    }

    #[tokio::test]
    async fn a_program_sees_our_environment_and_nothing_of_the_agents() {
        let mut probe = Invocation::tool("/usr/bin/env", Vec::new());
        probe.environment =
            environment(Utf8Path::new("/home/db"), Some("/home/db/lib".into()), Some("Asia/Tokyo"));
        let ran = probe.run(LIMIT).await.unwrap();
        assert_eq!(ran.exit, Exit::Code(0));
        let mut seen = ran.output;
        seen.sort();
        assert_eq!(
            seen,
            [
                "HOME=/home/db",
                "LANG=C.UTF-8",
                "LD_LIBRARY_PATH=/home/db/lib",
                &format!("PATH={PATH}"),
                "TZ=Asia/Tokyo"
            ]
        );
    }

    #[tokio::test]
    async fn a_program_has_its_own_group_no_input_and_no_blocked_signal() {
        let leak = tempfile::tempfile().unwrap();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        let script = "cat; grep -E '^(SigBlk|NSpgid|Pid):' /proc/self/status; ls /proc/self/fd; pwd";
        let output = shell(script).run(LIMIT).await.unwrap().output.join("\n");
        assert!(output.contains("SigBlk:\t0000000000000000"), "{output}");
        let own_group = nix::unistd::getpgrp();
        assert!(!output.contains(&format!("NSpgid:\t{own_group}\n")), "{output}");
        assert!(output.ends_with('/'), "{output}");
        // 3 is the directory that ls reads.
        assert!(output.contains("\n0\n1\n2\n3\n/"), "descriptors of the agent leak: {output}");
    }

    #[tokio::test]
    async fn exit_and_signal_are_told_apart() {
        assert_eq!(
            shell("echo out; echo err >&2; exit 3").run(LIMIT).await.unwrap(),
            Ran { exit: Exit::Code(3), output: vec!["out".to_owned(), "err".to_owned()] }
        );
        assert_eq!(shell("kill -9 $$").run(LIMIT).await.unwrap().exit, Exit::Signal(9));
    }

    #[tokio::test]
    async fn output_is_bounded() {
        let ran = shell("yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa | head -c 10000000")
            .run(LIMIT)
            .await
            .unwrap();
        assert_eq!(ran.output.len(), OUTPUT_LINES);
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed_and_what_it_said_is_kept() {
        let error = shell("echo waiting; exec sleep 600").run(Duration::from_millis(300)).await.unwrap_err();
        assert!(matches!(&error, RunError::TooLong { output, .. } if output == &["waiting"]), "{error}");
    }

    #[tokio::test]
    async fn what_cannot_be_started_names_the_program() {
        let error = Invocation::tool("/no/such/program", Vec::new()).run(LIMIT).await.unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }

    #[test]
    fn command_lines_are_shown_as_typed() {
        let mut shown = shell("a 'b'");
        shown.arguments.push(String::new());
        assert_eq!(shown.to_string(), "/bin/sh -c 'a '\\''b'\\''' ''");
    }
}
