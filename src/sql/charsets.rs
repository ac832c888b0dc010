//! Character sets and their collations (`lifecycle.md` §11 Q97).

use std::time::Duration;

use mysql_async::Conn;

use super::connect::Endpoint;
use super::named::{Named, rows_if_any};
use crate::cluster::figures::Charset;
use crate::error::Result;

const CHARSETS: &str = "SHOW CHARACTER SET";
pub(super) const COLLATIONS: &str =
    "SELECT CHARACTER_SET_NAME, COLLATION_NAME, ID, IS_DEFAULT FROM information_schema.COLLATIONS";

pub(super) async fn read(endpoint: Endpoint, connection: &mut Conn, limit: Duration) -> Result<Vec<Charset>> {
    let charsets = rows_if_any(endpoint, connection, limit, ("reading the character sets", CHARSETS)).await?;
    let collations = rows_if_any(endpoint, connection, limit, ("reading the collations", COLLATIONS)).await?;
    let collations = collations.unwrap_or_default();
    let charset = |row: &Named| {
        let name = row.text("Charset");
        let own = collations.iter().filter(|collation| collation.text("CHARACTER_SET_NAME") == name);
        let own = own.map(|row| {
            let is_default = row.text("IS_DEFAULT").eq_ignore_ascii_case("Yes");
            (row.text("COLLATION_NAME"), is_default)
        });
        Charset {
            collations: own.collect(),
            description: row.text("Description"),
            bytes_max: row.number("Maxlen"),
            name,
        }
    };
    Ok(charsets.unwrap_or_default().iter().map(charset).collect())
}
