//! What an ALTER SYSTEM asks for (`observer-model.md` §11).
//!
//! The simulator's own statements, known to no real server, are for tests:
//!
//! - `ALTER SYSTEM SIM ADD TENANT <id> '<name>' SERVERS 'ip:rpc,ip:rpc'`: user tenant with log streams 1 and 1001, and its
//!   meta tenant `<id> - 1` with log stream 1;
//! - `ALTER SYSTEM SIM DROP TENANT <id>`: both are gone;
//! - `ALTER SYSTEM SIM SYNC 'ip:rpc' YES|NO`: whether its replicas are in sync;
//! - `ALTER SYSTEM SIM FAULT <name> = '<json>'`: into this server's settings; `null` takes the fault out.

use crate::checks::Strength;
use crate::refusal::Refusal;
use crate::state::{Addr, Target};
use crate::statement::{Cursor, Parsed, Statement};

/// An entry of BOOTSTRAP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) server: Addr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Server {
        act: ServerAct,
        servers: Vec<Addr>,
        zone: Option<String>,
    },
    AddZone {
        name: String,
        region: String,
        idc: String,
        kind: String,
    },
    Zone {
        act: ZoneAct,
        name: String,
    },
    ChangeZone {
        name: String,
        region: Option<String>,
        idc: Option<String>,
    },
    Freeze {
        tenants: Vec<String>,
        servers: Vec<Addr>,
        zone: Option<String>,
    },
    Set(Vec<Assignment>),
    /// Taken without effect.
    Ignored,
    AddTenant {
        id: i64,
        name: String,
        servers: Vec<Addr>,
    },
    DropTenant(i64),
    Sync {
        server: Addr,
        is_in_sync: bool,
    },
    Fault {
        name: String,
        json: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerAct {
    Add,
    Delete,
    CancelDelete,
    Start,
    Stop(Strength),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZoneAct {
    Delete,
    Start,
    Stop(Strength),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) target: Target,
}

impl Cursor<'_> {
    fn addr(&mut self) -> Parsed<Addr> {
        let text = self.text()?;
        address(&text)
    }

    pub(crate) fn bootstrap(&mut self) -> Parsed<Statement> {
        let mut all = Vec::new();
        loop {
            let region = self.option("REGION")?.unwrap_or_else(|| "default_region".to_owned());
            let zone = self.option("ZONE")?.ok_or_else(|| self.error())?;
            self.need("SERVER")?;
            self.mark("=");
            all.push(Listed { region, zone, server: self.addr()? });
            if !self.mark(",") {
                return self.done(Statement::Bootstrap(all));
            }
        }
    }

    /// `KEYWORD [=] value`, if it is there.
    fn option(&mut self, word: &str) -> Parsed<Option<String>> {
        if !self.word(word) {
            return Ok(None);
        }
        self.mark("=");
        self.name().map(Some)
    }

    pub(crate) fn system(&mut self) -> Parsed<System> {
        if self.word("SIM") {
            return self.simulator();
        }
        if self.words(&["MINOR", "FREEZE"]) {
            return self.freeze();
        }
        if self.word("SET") {
            return self.parameters();
        }
        if self.words(&["LOAD", "MODULE", "DATA"])
            || self.words(&["MAJOR", "FREEZE"])
            || self.words(&["ALTER", "SHARED_STORAGE_DEST"])
        {
            return Ok(System::Ignored);
        }
        let begin = self.at;
        let act = if self.word("ADD") {
            ServerAct::Add
        } else if self.word("DELETE") {
            ServerAct::Delete
        } else if self.words(&["CANCEL", "DELETE"]) {
            ServerAct::CancelDelete
        } else if self.word("START") {
            ServerAct::Start
        } else if self.words(&["FORCE", "STOP"]) {
            ServerAct::Stop(Strength::Force)
        } else if self.word("STOP") {
            ServerAct::Stop(Strength::Stop)
        } else if self.word("ISOLATE") {
            ServerAct::Stop(Strength::Isolate)
        } else if ["ALTER", "CHANGE", "MODIFY"].iter().any(|word| self.word(word)) {
            return self.change_zone();
        } else {
            return Err(self.error());
        };
        if self.word("SERVER") {
            let servers = self.servers()?;
            let zone = self.option("ZONE")?;
            self.end()?;
            return Ok(System::Server { act, servers, zone });
        }
        if !self.word("ZONE") {
            self.at = begin;
            return Err(self.error());
        }
        self.zone(act)
    }

    fn servers(&mut self) -> Parsed<Vec<Addr>> {
        let mut all = vec![self.addr()?];
        while self.mark(",") {
            all.push(self.addr()?);
        }
        Ok(all)
    }

    fn zone(&mut self, act: ServerAct) -> Parsed<System> {
        let name = self.name()?;
        let act = match act {
            ServerAct::Add => {
                let (mut region, mut idc, mut kind) = (None, None, None);
                loop {
                    self.mark(",");
                    region = self.option("REGION")?.or(region);
                    idc = self.option("IDC")?.or(idc);
                    kind = self.option("ZONE_TYPE")?.or(kind);
                    if self.end().is_ok() {
                        break;
                    }
                    if !self.peek().is_some_and(|piece| piece.is_mark(",")) {
                        return Err(self.error());
                    }
                }
                let kind = if kind.is_some_and(|kind| kind.eq_ignore_ascii_case("ENCRYPTION")) {
                    "Encryption"
                } else {
                    "ReadWrite"
                };
                return Ok(System::AddZone {
                    name,
                    region: region.unwrap_or_else(|| "default_region".to_owned()),
                    idc: idc.unwrap_or_default(),
                    kind: kind.to_owned(),
                });
            }
            ServerAct::CancelDelete => return Err(self.error()),
            ServerAct::Delete => ZoneAct::Delete,
            ServerAct::Start => ZoneAct::Start,
            ServerAct::Stop(strength) => ZoneAct::Stop(strength),
        };
        self.end()?;
        Ok(System::Zone { act, name })
    }

    fn change_zone(&mut self) -> Parsed<System> {
        self.need("ZONE")?;
        let name = self.name()?;
        self.word("SET");
        let (mut region, mut idc) = (None, None);
        while self.end().is_err() {
            self.mark(",");
            let begin = self.at;
            region = self.option("REGION")?.or(region);
            idc = self.option("IDC")?.or(idc);
            if self.at == begin {
                return Err(self.error());
            }
        }
        Ok(System::ChangeZone { name, region, idc })
    }

    fn freeze(&mut self) -> Parsed<System> {
        let (mut tenants, mut servers, mut zone) = (Vec::new(), Vec::new(), None);
        while self.end().is_err() {
            if self.word("SERVER") {
                self.mark("=");
                let is_list = self.mark("(");
                servers = self.servers()?;
                if is_list && !self.mark(")") {
                    return Err(self.error());
                }
            } else if self.word("TENANT") {
                self.mark("=");
                self.mark("(");
                tenants.push(self.name()?);
                while self.mark(",") {
                    tenants.push(self.name()?);
                }
                self.mark(")");
            } else if let Some(name) = self.option("ZONE")? {
                zone = Some(name);
            } else {
                return Err(self.error());
            }
        }
        Ok(System::Freeze { tenants, servers, zone })
    }

    fn parameters(&mut self) -> Parsed<System> {
        let mut all = Vec::new();
        loop {
            let name = self.name()?.to_ascii_lowercase();
            if !self.mark("=") {
                return Err(self.error());
            }
            let sign = if self.mark("-") { "-" } else { "" };
            let value = format!("{sign}{}", self.name()?);
            let mut assignment = Assignment { name, value, target: Target::Cluster };
            while self.end().is_err() && !self.peek().is_some_and(|piece| piece.is_mark(",")) {
                if let Some(server) = self.option("SERVER")? {
                    assignment.target = Target::Server(address(&server)?);
                } else if let Some(zone) = self.option("ZONE")? {
                    assignment.target = Target::Zone(zone);
                } else if let Some(tenant) = self.option("TENANT")? {
                    assignment.target = Target::Tenant(tenant);
                } else if self.option("SCOPE")?.is_none() && self.option("COMMENT")?.is_none() {
                    return Err(self.error());
                }
            }
            all.push(assignment);
            if !self.mark(",") {
                return self.end().map(|()| System::Set(all));
            }
        }
    }

    fn simulator(&mut self) -> Parsed<System> {
        let id = |text: String| text.parse::<i64>().map_err(|_| Refusal::syntax(&text));
        let system = if self.words(&["ADD", "TENANT"]) {
            let id = id(self.name()?)?;
            let name = self.text()?;
            self.need("SERVERS")?;
            let servers = self.text()?.split(',').map(address).collect::<Parsed<_>>()?;
            System::AddTenant { id, name, servers }
        } else if self.words(&["DROP", "TENANT"]) {
            System::DropTenant(id(self.name()?)?)
        } else if self.word("SYNC") {
            let server = self.addr()?;
            System::Sync { server, is_in_sync: self.name()?.eq_ignore_ascii_case("YES") }
        } else if self.word("FAULT") {
            let name = self.name()?;
            self.mark("=");
            System::Fault { name, json: self.text()? }
        } else {
            return Err(self.error());
        };
        self.end().map(|()| system)
    }
}

fn address(text: &str) -> Parsed<Addr> {
    text.trim().parse().map_err(|_| Refusal::new(1210, format!("Incorrect arguments to ip address '{text}'")))
}
