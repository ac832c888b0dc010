//! An error as a client sees it: number, SQLSTATE, text.
//!
//! Invariant: numbers and texts are those of `observer-model.md` §11 and §14.

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) text: String,
    /// RootService tries again until the statement's limit before it says so.
    pub(crate) is_retried: bool,
}

impl Refusal {
    pub(crate) fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), is_retried: false }
    }

    /// With the text that the number has when no detail was set.
    pub(crate) fn plain(code: u16) -> Self {
        Self::new(code, default_text(code))
    }

    /// 4179 with its detail.
    pub(crate) fn not_allowed(detail: &str) -> Self {
        Self::new(4179, format!("{detail} not allowed"))
    }

    pub(crate) fn retried(self) -> Self {
        Self { is_retried: true, ..self }
    }

    pub(crate) fn timeout(limit_us: u64) -> Self {
        Self::new(
            4012,
            format!(
                "Timeout, query has reached the maximum query timeout: {limit_us}(us), maybe you can adjust the session \
                 variable ob_query_timeout or query_timeout hint, and try again."
            ),
        )
    }

    pub(crate) fn denied(user: &str, has_password: bool) -> Self {
        let using = if has_password { "YES" } else { "NO" };
        Self::new(
            1045,
            format!("Access denied for user '{user}'@'xxx.xxx.xxx.xxx' (using password: {using})"),
        )
    }

    pub(crate) fn syntax(near: &str) -> Self {
        Self::new(
            1064,
            format!(
                "You have an error in your SQL syntax; check the manual that corresponds to your OceanBase version for the \
                 right syntax to use near '{near}' at line 1"
            ),
        )
    }

    pub(crate) fn no_privilege(name: &str) -> Self {
        Self::new(
            1227,
            format!("Access denied; you need (at least one of) the {name} privilege(s) for this operation"),
        )
    }

    pub(crate) fn no_table(database: &str, table: &str) -> Self {
        Self::new(1146, format!("Table '{database}.{table}' doesn't exist"))
    }

    pub(crate) fn no_database(name: &str) -> Self {
        Self::new(1049, format!("Unknown database '{name}'"))
    }

    pub(crate) fn sqlstate(&self) -> &'static str {
        match self.code {
            1045 | 1049 | 1064 | 1305 | 5099 => "42000",
            1046 => "3D000",
            1048 | 1062 => "23000",
            1050 => "42S01",
            1051 | 1146 => "42S02",
            1054 => "42S22",
            1060 => "42S21",
            1227 => "42501",
            1235 => "0A000",
            4013 => "HY001",
            6002 => "40000",
            8001 | 8002 => "08004",
            _ => "HY000",
        }
    }
}

/// What the simulator could not do for reasons of its own, such as a directory that went away.
impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::new(4016, format!("Internal error: {error:#}"))
    }
}

fn default_text(code: u16) -> &'static str {
    match code {
        1210 => "Invalid argument",
        1235 => "Not supported feature or function",
        4005 => "The object is initialized twice",
        4012 => "Timeout",
        4013 => "No memory or reach tenant memory limit",
        4015 => "System error",
        4017 => "Entry already exist",
        4018 => "Entry not exist",
        4038 => "The observer or zone is not the master",
        4124 => "Connect error",
        4179 => "Operation not allowed now",
        4265 => "Rpc connect error",
        4550 => "rootservice is shutdown",
        4622 => "wait all rs online timeout",
        4624 => "machine resource is not enough to hold a new unit",
        4628 => "server has already been deleted",
        4629 => "server is not in deleting status",
        4630 => "server not in server white list",
        4631 => "server zone not match",
        4632 => "too many zones",
        4633 => "zone status not match",
        4638 => "The RootServer is not the master",
        4640 => "The chosen partition servers belong to same zone.",
        4652 => "wait leader switch timeout",
        4654 => "location leader not exist",
        4655 => "zone not active",
        4660 => "cannot stop server or stop zone in multiple zones",
        4722 => "log stream location leader does not exist",
        4147 => "Invalid config",
        5099 => "System config unknown",
        5150 => "Tenant not in this server",
        6002 => "transaction is rolled back",
        8001 => "Server is initializing",
        8002 => "Server is stopping",
        _ => "Internal error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_states() {
        assert_eq!(Refusal::denied("root", true).sqlstate(), "42000");
        assert_eq!(
            Refusal::denied("root", true).text,
            "Access denied for user 'root'@'xxx.xxx.xxx.xxx' (using password: YES)"
        );
        assert_eq!(Refusal::plain(8001).sqlstate(), "08004");
        assert!(Refusal::timeout(10_000_000).text.contains("10000000(us)"));
        assert_eq!(
            Refusal::not_allowed("Tenant(1001) LS(1) has no leader, stop server").text,
            "Tenant(1001) LS(1) has no leader, stop server not allowed"
        );
    }
}
