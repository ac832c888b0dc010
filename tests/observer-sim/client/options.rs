//! The command line of the client.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub(crate) const HELP: &str = "\
usage: observer-sim-client write --port PORT [OPTION …]

Writes one numbered row after another through a server, until SIGTERM or SIGINT; then says what became of them.

  --port PORT            SQL port of the server
  --ip IP                its address [default: 127.0.0.1]
  --via ZONE@IP:PORT     in place of these, once per zone: through one whose zone is in service, as a proxy does
  --user USER            [default: root@sys]
  --password-env NAME    environment variable with the password [default: none, the empty password]
  --table NAME           in database test; what it holds is lost [default: written_PID]
  --timeout MILLISECONDS time limit of a statement [default: 1000]
  --pause MILLISECONDS   between two rows [default: 5]
  --until-eof            end with stdin too
  --json                 a line of JSON per row, and one at the end";

impl Options {
    /// Where it can be written.
    pub(crate) fn places(&self) -> Vec<SocketAddr> {
        if self.via.is_empty() {
            return vec![SocketAddr::new(self.ip, self.port)];
        }
        self.via.iter().map(|(_, server)| *server).collect()
    }
}

/// See [`HELP`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    /// In place of the one server: several, each with its zone.
    pub(crate) via: Vec<(String, SocketAddr)>,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) table: String,
    pub(crate) timeout: Duration,
    pub(crate) pause: Duration,
    pub(crate) until_eof: bool,
    pub(crate) json: bool,
}

impl Options {
    /// Without the name of the program.
    pub(crate) fn read(arguments: &[String]) -> Result<Self, String> {
        let Some(("write", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest))
        else {
            return Err("what is to be done?".to_owned());
        };
        let mut options = Self {
            ip: IpAddr::from([127, 0, 0, 1]),
            port: 0,
            via: Vec::new(),
            user: "root@sys".to_owned(),
            password: String::new(),
            table: format!("written_{}", std::process::id()),
            timeout: Duration::from_secs(1),
            pause: Duration::from_millis(5),
            until_eof: false,
            json: false,
        };
        let mut rest = rest.iter();
        while let Some(name) = rest.next() {
            match name.as_str() {
                "--until-eof" => options.until_eof = true,
                "--json" => options.json = true,
                _ => {
                    let value = rest.next().ok_or_else(|| format!("{name} is not known, or has no value"))?;
                    options.set(name, value)?;
                }
            }
        }
        if options.port == 0 && options.via.is_empty() {
            Err("--port is missing".to_owned())
        } else {
            Ok(options)
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = || format!("{name}: what is '{value}'?");
        let millis = || value.parse().map(Duration::from_millis).map_err(|_| wrong());
        match name {
            "--port" => self.port = value.parse().map_err(|_| wrong())?,
            "--ip" => self.ip = value.parse().map_err(|_| wrong())?,
            "--via" => {
                let (zone, server) = value.split_once('@').ok_or_else(wrong)?;
                self.via.push((zone.to_owned(), server.parse().map_err(|_| wrong())?));
            }
            "--user" => value.clone_into(&mut self.user),
            "--password-env" => {
                self.password = std::env::var(value).map_err(|_| format!("{value} is not set"))?;
            }
            "--table" if value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                value.clone_into(&mut self.table);
            }
            "--timeout" => self.timeout = millis()?,
            "--pause" => self.pause = millis()?,
            _ => return Err(wrong()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        Options::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_or_refused() {
        let options =
            read("write --port 2881 --ip 127.0.0.3 --table t --timeout 300 --pause 0 --json").unwrap();
        assert_eq!((options.port, options.ip.to_string()), (2881, "127.0.0.3".to_owned()));
        assert_eq!((options.timeout, options.pause), (Duration::from_millis(300), Duration::ZERO));
        assert!(options.json && !options.until_eof && options.password.is_empty());
        let proxied = read("write --via zone1@127.0.0.1:2881 --via zone2@127.0.0.2:2881").unwrap();
        assert_eq!(proxied.places().len(), 2);
        for line in [
            "",
            "write --via 127.0.0.1:2881",
            "read",
            "write",
            "write --port",
            "write --port x",
            "write --port 1 --tabel t",
            "write --port 1 --table a.b",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
