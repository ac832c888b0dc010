//! The minor freeze of some servers of a cluster, and the wait for what it is for (W32): a restart that has little to replay.

use std::collections::BTreeMap;
use std::time::Duration;

use super::observer::Session;
use super::quote::literal;
use crate::error::Result;
use crate::model::ServerAddr;

/// How often a log stream that is known there and does not report is looked for: some seconds.
const REPORT_LOOKS: u32 = 6;

/// The database announces neither a report nor a checkpoint: they have to be read.
const LOOK: Duration = Duration::from_millis(500);

/// Server (address and port), tenant, log stream.
type Stream = (String, u16, i64, i64);

/// One with where its log ends, or up to where it has its checkpoint.
type Scn = (String, u16, i64, i64, u64);

const ENDS: &str = "SELECT SVR_IP, SVR_PORT, TENANT_ID, LS_ID, END_SCN FROM oceanbase.GV$OB_LOG_STAT";
const CHECKPOINTS: &str =
    "SELECT svr_ip, svr_port, tenant_id, ls_id, checkpoint_scn FROM oceanbase.__all_virtual_ls_info";
const LOCATIONS: &str = "SELECT SVR_IP, SVR_PORT, TENANT_ID, LS_ID FROM oceanbase.CDB_OB_LS_LOCATIONS";

fn by_stream(rows: Vec<Scn>) -> BTreeMap<Stream, u64> {
    rows.into_iter().map(|(ip, port, tenant, stream, scn)| ((ip, port, tenant, stream), scn)).collect()
}

impl Session<'_> {
    /// Returns when the checkpoint of every log stream on these servers has passed where its log ended before the freeze.
    ///
    /// # Errors
    /// The refusal of the database, or that it does not answer. The caller limits the time.
    pub(super) async fn freeze(&mut self, servers: &[ServerAddr]) -> Result<()> {
        let wanted = self.ends_of(servers).await?;
        let list: Vec<_> = servers.iter().map(|server| literal(&server.to_string())).collect();
        let sql = format!("ALTER SYSTEM MINOR FREEZE SERVER = ({})", list.join(", "));
        self.change("MINOR FREEZE", &sql).await?;
        let mut told = usize::MAX;
        loop {
            let now = by_stream(self.rows("reading the checkpoints", CHECKPOINTS).await?);
            let is_past = |(stream, end): &(&Stream, &u64)| now.get(*stream).is_some_and(|scn| scn >= *end);
            let left = wanted.len() - wanted.iter().filter(is_past).count();
            if left == 0 {
                self.progress.info(&format!("frozen; {} log streams have their checkpoint", wanted.len()));
                return Ok(());
            }
            if left != told {
                self.progress.info(&format!("freezing; {left} of {} log streams are behind", wanted.len()));
                told = left;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Where the logs there end. A server that does not report to one query is asked again for a while; what it does not tell
    /// then is named and not waited for, because locations are kept of what is gone, too (`observer-model.md` §9).
    async fn ends_of(&mut self, servers: &[ServerAddr]) -> Result<BTreeMap<Stream, u64>> {
        let is_meant =
            |ip: &str, port: u16| servers.iter().any(|own| own.ip.to_string() == ip && own.port == port);
        let mut known: Vec<Stream> = self.rows("reading where log streams are", LOCATIONS).await?;
        known.retain(|(ip, port, ..)| is_meant(ip, *port));
        let mut looks = 0;
        loop {
            let mut ends = by_stream(self.rows("reading the log streams", ENDS).await?);
            ends.retain(|(ip, port, ..), _| is_meant(ip, *port));
            let silent: Vec<&Stream> = known.iter().filter(|stream| !ends.contains_key(*stream)).collect();
            if silent.is_empty() {
                return Ok(ends);
            }
            looks += 1;
            if looks == REPORT_LOOKS {
                let silent: Vec<_> = silent
                    .iter()
                    .map(|(ip, port, tenant, stream)| {
                        format!("{ip}:{port} tenant {tenant} log stream {stream}")
                    })
                    .collect();
                let text = format!("known, but not reported, so not waited for: {}", silent.join("; "));
                self.progress.warn(&text);
                return Ok(ends);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
