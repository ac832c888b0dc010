//! The command tree against OBShell's flags (`cli.md` §3–§6), and what else names its commands.

use clap::Parser as _;

use super::args::{Cli, command};
use super::exit::{Exit, table};

fn parses(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("obpilot").chain(line.split_whitespace()))
}

#[test]
fn the_tree_holds_together() {
    command().debug_assert();
}

#[test]
fn flags_are_those_of_obshell_and_take_dashes_too() {
    for line in [
        "cluster join --server 10.0.0.1:2886 --zone zone1 -p 2881 -d /data -r /redo -l info -o a=b -o c=d",
        "cluster join -s 10.0.0.1 -z zone1 --mysql_port 2881 --rpc_port 2882 --data_dir /d --redo_dir /r --log_level WARN --opt_str a=b",
        "cluster join -s 10.0.0.1 -z zone1 --master-password-file /f",
        "cluster remove",
        "cluster remove -s 10.0.0.1:2886 --no-wait",
        "why-blocked",
        "why-blocked 22130706433028861 --output json",
        "cluster join -z zone1 --mysql-port 2881 --rpc-port 2882 --data-dir /d --redo-dir /r --log-level warn --opt-str a=b",
        "cluster config --cluster_name c --cluster_id 2 --rootpassword x",
        "cluster config --cluster-name c --cluster-id 2 --root-password x",
        "cluster config -n c -i 2 --rp x",
        "cluster init --cluster_name c --rootpassword-file /f --import_script",
        "cluster init -n c --rp x -i 1 -p 2881 -P 2882 -d /d -r /r -l INFO -o a=b,c=d --rs_list 10.0.0.1:2882:2881 --create_proxyro_user",
        "cluster init -n c --rs 10.0.0.1:2882:2881 --import-script --create-proxyro-user",
        "cluster start -a",
        "cluster start -a -y",
        "cluster stop -I -a",
        "cluster stop --immediate --zone zone1 --id 1,2 --yes",
        "cluster stop -t -z zone1 -i 1",
        "cluster start --all --id 1,2",
        "cluster start -s 10.0.0.1:2886,10.0.0.2:2886",
        "cluster start -z zone1,zone2 --plan",
        "cluster stop -f -a -y",
        "cluster stop --terminate --server 10.0.0.1:2886",
        "cluster scale-out -s 10.0.0.1:2886 -z zone1 -p 2881 -P 2882 -d /d -r /r -o a=b --rp x",
        "cluster scale-out --server 10.0.0.1 --zone zone1 --rootpassword-file /f --agent-password-file /f --plan",
        "cluster scale-in -s 10.0.0.1:2886 -f -y",
        "cluster take-over --rp x -y",
        "cluster take-over --rootpassword-file /f --plan",
        "cluster scale-in -z zone1 --plan",
        "cluster delete-zone -z zone1 -y",
        "cluster show -d",
        "cluster show --show_detail --output json",
        "cluster password --rootpassword-file /f",
        "cluster parameter show",
        "cluster parameter show cpu -d --output json",
        "cluster parameter set cpu_count=8 syslog_level=INFO",
        "cluster parameter set a=b=c -z zone1,zone2",
        "cluster parameter set a= -s 10.0.0.1:2882",
        "cluster parameter set a=b -t t1,t2",
        "cluster parameter set a=b --all-tenants",
    ] {
        parses(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
}

#[test]
fn other_commands_are_those_of_obshell_where_it_has_them() {
    for line in [
        "task list --unfinished --last 5",
        "task show 1",
        "task show --id 1 --show-detail",
        "task watch 1 --wait-timeout 5",
        "task show -d -i 1",
        "task list -u",
        "task watch -i 1",
        "task retry 1 -y",
        "task retry -i 1 -y",
        "task rollback -i 1 -y",
        "task pass -i 1 -y",
        "task rerun --id 1",
        "task graph 7",
        "task graph -i 7 --output json",
        "task rollback 1 --no-wait",
        "task cancel 1",
        "task stop -i 1",
        "task pass 1",
        "task skip 1",
        "task pause 1 -y",
        "task resume -i 1 --no-wait",
        "task abort 1",
        "utilities list",
        "agent run --home /h --ip 10.0.0.1 --port 2886 --engine seekdb --engine-bin /e --config /c --log debug",
        "agent start --home /h --ip 10.0.0.1 -P 2886",
        "agent stop --timeout 5",
        "agent restart",
        "agent status --socket /s",
        "security audit",
        "security audit --last 5",
        "security audit --after 17 --output json",
        "security show --host https://10.0.0.1:2886 --ca /c --client-cert /c",
        "security rotate -y",
        "config check /c",
        "store backup --keep 2",
        "store check /f",
        "completions zsh",
    ] {
        parses(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
}

#[test]
fn contradictions_are_refused_before_anything_is_asked() {
    for line in [
        "cluster start -a -z zone1",
        "cluster start -a -s 10.0.0.1:2886",
        "cluster stop -f -t -a",
        "cluster stop -f -I -a",
        "cluster stop -t -I -a",
        "cluster stop -s 10.0.0.1 -z zone1",
        "cluster config --rootpassword x --rootpassword-file /f",
        "task retry",
        "task retry 1 --id 2",
        "task graph",
        "cluster join",
        "cluster scale-out -z zone1",
        "cluster scale-in",
        "cluster take-over --rp x --rootpassword-file /f",
        "cluster scale-in -s 10.0.0.1 -z zone1",
        "cluster scale-in -z zone1 -f",
        "agent run --engine mysql",
        "agent run --ip nowhere",
        "cluster join -z z -l LOUD",
        "security audit --last 0",
        "security",
    ] {
        assert!(parses(line).is_err(), "{line}");
    }
}

#[test]
fn exit_codes_are_different_and_in_the_help() {
    let codes: std::collections::BTreeSet<_> = Exit::ALL.iter().map(|exit| exit.code()).collect();
    assert_eq!(codes.len(), Exit::ALL.len());
    for exit in Exit::ALL {
        assert!(table().contains(exit.meaning()));
    }
}

/// The numbers are part of the interface: a script that tests for one must go on doing so.
#[test]
fn exit_codes_stay_what_they_are() {
    let numbers = Exit::ALL.map(|exit| (exit.code(), format!("{exit:?}")));
    let names = [
        "Done",
        "Failed",
        "Usage",
        "Refused",
        "Cancelled",
        "Unknown",
        "Unreachable",
        "Denied",
        "Taken",
        "Store",
        "Declined",
    ];
    assert_eq!(numbers.to_vec(), (0..).zip(names.map(str::to_owned)).collect::<Vec<_>>());
}

/// The unit says what was decided, its commands exist, and it gives up on the ends that only a human can mend.
#[test]
fn the_systemd_unit_calls_us_right() {
    let unit = include_str!("../../systemd/obpilot.service");
    let value = |key: &str| {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.collect::<Vec<_>>()
    };
    for (key, wanted) in
        [("Type", "notify"), ("KillMode", "process"), ("Restart", "always"), ("NotifyAccess", "main")]
    {
        assert_eq!(value(key), [wanted]);
    }
    assert_eq!(value("WatchdogSec").len(), 1);
    for command in value("ExecStart").into_iter().chain(value("ExecStartPre")) {
        let line = command.strip_prefix("/usr/bin/obpilot ").unwrap();
        parses(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
    let mended_by_hand = [Exit::Usage, Exit::Taken, Exit::Store].map(|exit| exit.code().to_string());
    assert_eq!(value("RestartPreventExitStatus"), [mended_by_hand.join(" ")]);
}
