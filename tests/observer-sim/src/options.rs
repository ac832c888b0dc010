//! The command line of `observer` (`observer-model.md` §2).
//!
//! Invariant: every option that was taken is echoed to stderr, and the whole line before; a bad one ends the program before
//! it forks.
//!
//! Not here: options that change nothing here (`--mode`, `--scn`) are read and forgotten.

use std::collections::BTreeMap;

use crate::settings::Settings;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Start(Start),
    /// Say this and end with this status.
    Say(String, i32),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    /// By the names of the configuration.
    pub(crate) items: BTreeMap<String, String>,
    /// `--optstr` as it came: it is read after the fork.
    pub(crate) optstr: Option<String>,
    pub(crate) stays_in_front: bool,
    /// What is echoed.
    pub(crate) echo: Vec<String>,
}

/// Short, long, configuration item, what the echo calls it. An empty item is taken and forgotten.
const WITH_VALUE: [(char, &str, &str, &str); 14] = [
    ('p', "mysql_port", "mysql_port", "mysql port"),
    ('P', "rpc_port", "rpc_port", "rpc port"),
    ('z', "zone", "zone", "zone"),
    ('n', "appname", "cluster", "appname"),
    ('c', "cluster_id", "cluster_id", "cluster id"),
    ('d', "data_dir", "data_dir", "data_dir"),
    ('i', "devname", "devname", "devname"),
    ('I', "local_ip", "local_ip", "local_ip"),
    ('r', "rs_list", "rootservice_list", "rs list"),
    ('l', "log_level", "syslog_level", "log level"),
    ('o', "optstr", "", "optstr"),
    ('m', "mode", "", "mode"),
    ('f', "scn", "", "flashback_scn"),
    ('H', "home", "", "home"),
];

/// Short, long.
const FLAGS: [(char, &str); 5] =
    [('N', "nodaemon"), ('6', "ipv6"), ('V', "version"), ('h', "help"), ('4', "ipv4")];

pub(crate) fn parse(arguments: &[String], settings: &Settings) -> Request {
    let mut start = Start::default();
    start.echo.push(arguments.join(" "));
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        let (name, glued) = split(argument);
        if let Some((_, long)) = FLAGS.iter().find(|(short, long)| is_named(&name, *short, long)) {
            match *long {
                "version" => return Request::Say(version(settings), 0),
                "help" => return Request::Say(HELP.to_owned(), 1),
                "nodaemon" => start.stays_in_front = true,
                "ipv6" => drop(start.items.insert("use_ipv6".to_owned(), "True".to_owned())),
                _ => {}
            }
            continue;
        }
        let known = WITH_VALUE.iter().find(|(short, long, ..)| is_named(&name, *short, long));
        let (Some((short, _, item, label)), Some(value)) = (known, glued.or_else(|| rest.next().cloned()))
        else {
            return Request::Say(HELP.to_owned(), 1);
        };
        if let Err(why) = check(*short, &value) {
            return Request::Say(why, 1);
        }
        start.echo.push(format!("{label}: {value}"));
        if *short == 'o' {
            start.optstr = Some(value);
        } else if !item.is_empty() {
            start.items.insert((*item).to_owned(), value);
        }
    }
    Request::Start(start)
}

/// `--zone=z1` and `-zz1` carry their value.
fn split(argument: &str) -> (String, Option<String>) {
    if let Some(long) = argument.strip_prefix("--") {
        return match long.split_once('=') {
            Some((name, value)) => (format!("--{name}"), Some(value.to_owned())),
            None => (argument.to_owned(), None),
        };
    }
    let mut chars = argument.chars();
    let name: String = chars.by_ref().take(2).collect();
    let value = chars.as_str();
    (name, (!value.is_empty()).then(|| value.to_owned()))
}

fn is_named(argument: &str, short: char, long: &str) -> bool {
    argument == format!("-{short}") || argument == format!("--{long}")
}

fn check(option: char, value: &str) -> Result<(), String> {
    match option {
        'p' | 'P' => match value.parse::<i64>() {
            Err(_) => Err(format!("need port number: {value}")),
            Ok(1025..=65535) => Ok(()),
            Ok(port) => Err(format!("port number should greater than 1024 and less than 65536: {port}")),
        },
        'c' if !value.parse::<u32>().is_ok_and(|id| id > 0) => {
            Err(format!("malicious or mistyped cluster id: {value}"))
        }
        _ => Ok(()),
    }
}

fn version(settings: &Settings) -> String {
    format!(
        "observer ({} {})\n\nREVISION: {}\nBUILD_BRANCH: HEAD\nBUILD_TIME: Dec 12 2024 11:25:20\nBUILD_FLAGS: \
         RelWithDebInfo\nBUILD_INFO: \n\nCopyright (c) 2011-present OceanBase Inc.\n",
        settings.product(),
        settings.version,
        settings.revision
    )
}

const HELP: &str = "observer

  -h,--help                  print this help
  -V,--version               print the information of version
  -z,--zone ZONE             zone
  -p,--mysql_port PORT       mysql port
  -P,--rpc_port PORT         rpc port
  -N,--nodaemon              don't run in daemon
  -n,--appname APPNAME       application name
  -c,--cluster_id ID         cluster id
  -d,--data_dir DIR          OceanBase data directory
  -i,--devname DEV           net dev interface
  -I,--local_ip IP           local ip
  -o,--optstr OPTSTR         extra options string
  -r,--rs_list RS_LIST       root service list
  -l,--log_level LOG_LEVEL   server log level
  -6,--ipv6                  server uses ipv6 address
  -m,--mode MODE             server mode
  -f,--scn SCN               flashback_scn
";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Request {
        parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>(), &Settings::default())
    }

    #[test]
    fn options_become_items() {
        let Request::Start(start) =
            read("observer -z z1 --mysql_port=2881 -P2882 -n demo -c 1 --ipv6 -o a=1,b=2 -N")
        else {
            panic!("not a start");
        };
        assert_eq!(start.items["zone"], "z1");
        assert_eq!(start.items["mysql_port"], "2881");
        assert_eq!(start.items["rpc_port"], "2882");
        assert_eq!(start.items["cluster"], "demo");
        assert_eq!(start.optstr.as_deref(), Some("a=1,b=2"));
        assert!(start.stays_in_front);
        assert!(start.echo.contains(&"mysql port: 2881".to_owned()));
    }

    #[test]
    fn what_is_wrong_ends_it() {
        for (line, words) in [
            ("observer -p x", "need port number: x"),
            ("observer -P 80", "port number should greater than 1024 and less than 65536: 80"),
            ("observer -c 0", "cluster id"),
            ("observer --unknown", "print this help"),
            ("observer -z", "print this help"),
            ("observer -h", "print this help"),
        ] {
            let Request::Say(text, 1) = read(line) else { panic!("{line}") };
            assert!(text.contains(words), "{text}");
        }
        let Request::Say(text, 0) = read("observer -V") else { panic!("not a text") };
        assert!(text.starts_with("observer (OceanBase_CE 4.3.5.1)\n"));
        assert!(text.contains("\nREVISION: 101000042024121211-abcdef\n"));
    }
}
