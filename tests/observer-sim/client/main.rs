//! `observer-sim-client`: a client that writes through one server, for tests and for a shell.
//!
//! Purpose: `write` writes one numbered row after another through a SQL port until it is told to end (SIGTERM, SIGINT, or with
//! `--until-eof` the end of its stdin), and then says how many writes failed and whether every acknowledged row is there.
//!
//! Invariant: a process of its own, which knows of the cluster nothing but an address: what it meets, any client meets. Exit
//! status 0: every acknowledged row was found; 1: not, or nobody let it look; 2: the command line.
//!
//! Not here: the writing itself (`writer`).

mod options;
mod report;
mod writer;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use options::Options;
use report::Report;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = match Options::read(&arguments) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n\n{}", options::HELP);
            std::process::exit(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let is_whole = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(&options)));
    match is_whole {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(why) => {
            eprintln!("error: {why:#}");
            std::process::exit(1);
        }
    }
}

async fn run(options: &Options) -> anyhow::Result<bool> {
    let (end, ended) = watch::channel(false);
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    if options.until_eof {
        let end = end.clone();
        // Whoever started it holds the other end of the pipe, and lets go of it even when he is killed.
        std::thread::spawn(move || {
            drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
            end.send_replace(true);
        });
    }
    let asked = async {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        end.send_replace(true);
        std::future::pending::<()>().await;
    };
    let mut report = Report::new(options);
    tokio::select! {
        done = writer::write(options, ended, &mut report) => done?,
        () = asked => {}
    }
    Ok(report.end())
}
