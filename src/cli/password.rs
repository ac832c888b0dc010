//! Where passwords come from: a file, the environment, a prompt. Never required on the command line.

use std::io::{BufRead, IsTerminal, Write};

use camino::Utf8Path;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use super::args::{ClusterSettings, Global, RootPassword};
use super::exit::{Ending, Exit};
use crate::model::Password;

/// In the environment. A variable and no flag: it says which password, not that one is to be set now.
const ROOT_PASSWORD: &str = "OBPILOT_ROOT_PASSWORD";

/// The password for `--host`.
pub(super) fn for_host(global: &Global, host: &str) -> Result<Password, Ending> {
    if let Some(file) = &global.password_file {
        return from_file(file);
    }
    if let Ok(text) = std::env::var("OBPILOT_PASSWORD") {
        return Ok(Password::new(text));
    }
    ask(&format!("Password for {host}: "))
}

/// The root password of a cluster to be; `None` when nothing was said and nobody can be asked.
pub(super) fn for_root(settings: &ClusterSettings) -> Result<Option<Password>, Ending> {
    if let Some(file) = &settings.root.root_password_file {
        return from_file(file).map(Some);
    }
    if let Some(text) = &settings.root.root_password {
        return Ok(Some(Password::new(text.clone())));
    }
    if let Ok(text) = std::env::var(ROOT_PASSWORD) {
        return Ok(Some(Password::new(text)));
    }
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let first = ask("Password of root@sys to be (empty for none): ")?;
    if !first.is_empty() && ask("Once more: ")?.expose() != first.expose() {
        return Err(Ending::usage("the two passwords differ; nothing was sent"));
    }
    Ok(Some(first))
}

/// The agent password of a master; most have none before there is a cluster.
pub(super) fn of_master(file: Option<&Utf8Path>) -> Result<Password, Ending> {
    given(file, "OBPILOT_MASTER_PASSWORD")
}

/// The agent password of a host that is added to a cluster; most have none.
pub(super) fn of_new_agent(file: Option<&Utf8Path>) -> Result<Password, Ending> {
    given(file, "OBPILOT_AGENT_PASSWORD")
}

/// The root password of a cluster that is there, on its own or for a host that is added to it.
pub(super) fn of_cluster(given: &RootPassword) -> Result<Password, Ending> {
    match &given.root_password {
        Some(word) => Ok(Password::new(word)),
        None => of_root(given.root_password_file.as_deref()),
    }
}

/// The password that the user of obproxy is to have.
pub(super) fn of_proxy_user(file: Option<&Utf8Path>) -> Result<Password, Ending> {
    given(file, "OBPILOT_PROXYRO_PASSWORD")
}

/// The password that an account of the v2 API is to have.
pub(super) fn of_account(file: Option<&Utf8Path>, name: &str) -> Result<Password, Ending> {
    if let Some(file) = file {
        return from_file(file);
    }
    if let Ok(text) = std::env::var("OBPILOT_ACCOUNT_PASSWORD") {
        return Ok(Password::new(text));
    }
    let first = ask(&format!("Password of {name} to be: "))?;
    if ask("Once more: ")?.expose() != first.expose() {
        return Err(Ending::usage("the two passwords differ; nothing was sent"));
    }
    Ok(first)
}

/// The root password as it is now.
pub(super) fn of_root(file: Option<&Utf8Path>) -> Result<Password, Ending> {
    if let Some(file) = file {
        return from_file(file);
    }
    if let Ok(text) = std::env::var(ROOT_PASSWORD) {
        return Ok(Password::new(text));
    }
    ask("Password of root@sys: ")
}

/// One that may be empty, and so is not asked for.
fn given(file: Option<&Utf8Path>, variable: &str) -> Result<Password, Ending> {
    match file {
        Some(file) => from_file(file),
        None => Ok(Password::new(std::env::var(variable).unwrap_or_default())),
    }
}

fn from_file(path: &Utf8Path) -> Result<Password, Ending> {
    let text = std::fs::read_to_string(path).map_err(|e| Ending::usage(format!("{path}: {e}")))?;
    let line = text.lines().next().unwrap_or_default();
    Ok(Password::new(line))
}

/// Asks on the terminal without echo.
fn ask(question: &str) -> Result<Password, Ending> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let text = "a password is needed, and nobody can be asked: stdin is not a terminal";
        return Err(Ending::usage(text).with_hint("give it by file or by environment, see --help"));
    }
    let failed =
        |e: &dyn std::fmt::Display| Ending::new(Exit::Failed, format!("the terminal cannot be read: {e}"));
    let before = tcgetattr(&stdin).map_err(|e| failed(&e))?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    let mut stderr = std::io::stderr();
    write!(stderr, "{question}").and_then(|()| stderr.flush()).map_err(|e| failed(&e))?;
    tcsetattr(&stdin, SetArg::TCSANOW, &silent).map_err(|e| failed(&e))?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, SetArg::TCSANOW, &before).map_err(|e| failed(&e))?;
    writeln!(stderr).map_err(|e| failed(&e))?;
    read.map_err(|e| failed(&e))?;
    Ok(Password::new(line.trim_end_matches(['\r', '\n'])))
}

/// A yes-or-no question. Without a terminal the answer is no, and says how to say yes.
pub(super) fn confirm(question: &str) -> Result<(), Ending> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(
            Ending::new(Exit::Declined, "not confirmed: stdin is not a terminal").with_hint("add --yes")
        );
    }
    let mut stderr = std::io::stderr();
    let mut line = String::new();
    let asked = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
    let answered = asked.and_then(|()| stdin.lock().read_line(&mut line));
    if answered.is_ok() && matches!(line.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Ending::new(Exit::Declined, "not confirmed; nothing was done"))
}
