//! `obpilot security …`: who was here, the agent's keys, certificates.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::accounts::{self, AccountCommand, KeyPairCommand};
use super::args::{Global, Output};
use super::client::Client;
use super::exit::{Ending, Exit};
use super::{password, render};
use crate::host::files;
use crate::secure::TlsKey;
use crate::wire::{AuditEntry, CertificateView, Contents, IssuedCertificate, Keys};

const KEYS: &str = "/api/v1/security/keys";
const CA: &str = "/api/v1/security/ca";
const CERTIFICATES: &str = "/api/v1/security/certificates";

#[derive(Debug, Subcommand)]
pub enum SecurityCommand {
    /// The audit trail of this agent: what was changed by whom, and who was refused
    Audit(AuditArgs),
    /// The ids of the agent's keys and its certificate, to compare with what clients were shown
    Show,
    /// The root of the cluster's own CA, in PEM: the file that clients are given to trust (--ca)
    Ca,
    /// Another root for the cluster's own CA, in three steps; give clients the new one between the first and the second
    RotateCa { step: CaStep },
    /// A certificate for a client, where clients have to show one; on the agent's own host
    IssueClient(IssueArgs),
    /// Users of the v2 API besides root
    #[command(subcommand)]
    Account(AccountCommand),
    /// Key pairs of the v2 API, which sign instead of showing a password
    #[command(subcommand)]
    KeyPair(KeyPairCommand),
    /// New keys for schemes v2 and v3
    Rotate {
        /// A new certificate of the cluster's own CA instead; nobody is interrupted, nobody is asked
        #[arg(long)]
        certificates: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Each is done with all members of the cluster, and may be repeated.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CaStep {
    /// A new root is made, and trusted beside the old one
    Announce,
    /// The new root issues; every member shows a certificate of it
    Switch,
    /// The old root is trusted no more
    Finish,
}

impl CaStep {
    fn text(self) -> &'static str {
        match self {
            Self::Announce => "announce",
            Self::Switch => "switch",
            Self::Finish => "finish",
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct IssueArgs {
    /// Who will show it
    #[arg(long)]
    pub name: String,
    /// Directory for NAME.crt, NAME.key, NAME.pem (both, for --client-cert) and ca.crt
    #[arg(long, value_name = "DIR")]
    pub out: Utf8PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct AuditArgs {
    /// The newest so many, up to 1000
    #[arg(long, default_value_t = 50, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub last: u32,
    /// What came after this entry instead, oldest first
    #[arg(long, value_name = "ENTRY")]
    pub after: Option<u64>,
}

pub(super) async fn run(command: SecurityCommand, global: &Global) -> Result<(), Ending> {
    let client = Client::connect(global).await?;
    match command {
        SecurityCommand::Audit(args) => audit(&client, global, &args).await,
        SecurityCommand::Account(command) => accounts::run(&client, global, command).await,
        SecurityCommand::KeyPair(command) => accounts::run_pair(&client, global, command).await,
        SecurityCommand::Ca => show_ca(&client.get(KEYS).await?),
        SecurityCommand::Show => show(&client.get(KEYS).await?, global),
        SecurityCommand::RotateCa { step } => {
            show(&client.post(&format!("{CA}/rotate"), &json!({ "step": step.text() })).await?, global)
        }
        SecurityCommand::IssueClient(args) => issue(&client, &args).await,
        SecurityCommand::Rotate { certificates: true, .. } => renew(&client, global, &["certificate"]).await,
        SecurityCommand::Rotate { certificates: false, yes } => rotate(&client, global, yes).await,
    }
}

fn show(keys: &Keys, global: &Global) -> Result<(), Ending> {
    match global.output {
        Output::Json => render::json(keys),
        Output::Text => {
            let certificate = keys.certificate.as_ref().map(certificate_lines).unwrap_or_default();
            render::out(&format!(
                "scheme v3   {}\nscheme v2   {}\nto agents   {}{certificate}",
                keys.v3.key_id, keys.v2.key_id, keys.peer.key_id
            ));
        }
    }
    Ok(())
}

fn certificate_lines(shown: &CertificateView) -> String {
    let lines = [
        ("certificate", Some(shown.fingerprint.clone())),
        ("subject", shown.subject.clone()),
        ("issuer", shown.issuer.clone()),
        ("not after", shown.not_after.as_deref().map(render::moment)),
    ];
    let known =
        lines.into_iter().filter_map(|(name, value)| value.map(|value| format!("\n{name:<12}{value}")));
    known.collect()
}

fn show_ca(keys: &Keys) -> Result<(), Ending> {
    let ca = keys.certificate.as_ref().and_then(|shown| shown.ca.as_deref());
    let ca = ca.ok_or_else(|| {
        Ending::new(
            Exit::Failed,
            "this agent's certificate does not come from its cluster's own CA (tls.own_ca)",
        )
    })?;
    render::out(ca.trim_end());
    Ok(())
}

/// The key is made here and stays here; only its public half is sent.
async fn issue(client: &Client, args: &IssueArgs) -> Result<(), Ending> {
    let IssueArgs { name, out } = args;
    let failed = |why: String| Ending::new(Exit::Failed, why);
    let key = TlsKey::generate().map_err(|e| failed(e.to_string()))?;
    let body = json!({ "name": name, "publicKey": key.public_on_wire() });
    let issued: IssuedCertificate = client.post(CERTIFICATES, &body).await?;
    let private = key.to_pem();
    let both = key.to_pem_after(&issued.certificate);
    files::create_dirs(out, 0o755).map_err(|e| failed(format!("{e}: {}", e.source)))?;
    for (file, content, mode) in [
        (format!("{name}.key"), private.as_bytes(), 0o600),
        (format!("{name}.pem"), both.as_bytes(), 0o600),
        (format!("{name}.crt"), issued.certificate.as_bytes(), 0o644),
        ("ca.crt".to_owned(), issued.ca.as_bytes(), 0o644),
    ] {
        let written = files::write_atomic(&out.join(file), content, mode);
        written.map_err(|e| failed(format!("{e}: {}", e.source)))?;
    }
    let until = render::moment(&issued.not_after);
    render::say(&format!(
        "{out}/{name}.crt and {name}.key are valid until {until}; agents are known by {out}/ca.crt"
    ));
    Ok(())
}

async fn rotate(client: &Client, global: &Global, yes: bool) -> Result<(), Ending> {
    if !yes {
        password::confirm(
            "New keys? Clients that remember the old one will ask what has happened; SDKs go on by themselves.",
        )?;
    }
    renew(client, global, &["v2", "v3"]).await
}

async fn renew(client: &Client, global: &Global, schemes: &[&str]) -> Result<(), Ending> {
    show(&client.post(&format!("{KEYS}/rotate"), &json!({ "schemes": schemes })).await?, global)
}

async fn audit(client: &Client, global: &Global, args: &AuditArgs) -> Result<(), Ending> {
    let after = args.after.map_or(String::new(), |after| format!("&after={after}"));
    let target = format!("/api/v1/security/audit?limit={}{after}", args.last);
    let trail: Contents<AuditEntry> = client.get(&target).await?;
    match global.output {
        Output::Json => render::json(&trail.contents),
        Output::Text if trail.contents.is_empty() => render::say("nothing is recorded"),
        Output::Text => render::out(&table(&trail.contents)),
    }
    Ok(())
}

fn table(entries: &[AuditEntry]) -> String {
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            vec![
                entry.id.to_string(),
                render::moment(&entry.time),
                entry.actor.clone(),
                what(entry),
                how(entry),
            ]
        })
        .collect();
    render::table(&["ENTRY", "TIME", "WHO", "WHAT", "HOW IT ENDED"], &rows)
}

fn text(entry: &AuditEntry, member: &str) -> Option<String> {
    match &entry.details[member] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn what(entry: &AuditEntry) -> String {
    let request = text(entry, "request");
    let task = entry.task.as_ref().map(|task| format!(" (task {task})")).unwrap_or_default();
    format!("{}{task}", request.unwrap_or_else(|| entry.action.clone()))
}

fn how(entry: &AuditEntry) -> String {
    if entry.action == "refused" {
        let count = text(entry, "count").unwrap_or_default();
        return format!("refused x{count}, {}", text(entry, "code").unwrap_or_default());
    }
    let said = [text(entry, "status"), text(entry, "code"), text(entry, "note")];
    said.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
