//! Routes about parameters (`http-api.md` §7.12).

use std::collections::BTreeMap;

use serde_json::Value;

use super::call::{Call, Judged};
use super::reply::Outcome;
use crate::cluster::parameters::{ParameterRow, ParameterSet, Setting};
use crate::error::Result;
use crate::wire::{
    ClusterParameter, Contents, Envelope, ServerValue, SetParameter, SetParametersBody, TenantValue,
};

/// Parameters of the cluster with their values everywhere (only on a CLUSTER AGENT)
#[utoipa::path(get, path = "/api/v1/obcluster/parameters", tag = "cluster",
    responses((status = 200, description = "Each parameter once, by name; those beginning with `_` are left out", body = Envelope<Contents<ClusterParameter>>)))]
pub(super) async fn list(call: Call<()>) -> Outcome<Contents<ClusterParameter>> {
    Outcome::list(call.app.parameters().await.map(|all| render(&all)))
}

/// Set parameters, all checked before any is set (only on a CLUSTER AGENT)
#[utoipa::path(patch, path = "/api/v1/obcluster/parameters", tag = "cluster", request_body = SetParametersBody,
    responses((status = 200, description = "All are set. When the database refuses one, those before it are: the error names them, and its data lists `set`, `failed` and `notTried`", body = Envelope<Value>)))]
pub(super) async fn set(call: Call<Judged<SetParametersBody>>) -> Outcome<Value> {
    let caller = call.caller.clone();
    let (app, body) = call.into_parts();
    let set: Result<()> = async {
        app.may_read()?;
        let params = body.get()?.params()?;
        let settings: Vec<_> = params.into_iter().map(setting).collect();
        app.set_parameters(&settings, &caller).await
    }
    .await;
    Outcome::nothing(set)
}

fn setting(param: SetParameter) -> Setting {
    let SetParameter { name, value, scope, zones, servers, tenants, all_user_tenant } = param;
    Setting { name, value, scope, zones, servers, tenants, all_user_tenants: all_user_tenant }
}

/// By name.
fn render(all: &ParameterSet) -> Vec<ClusterParameter> {
    let mut by_name: BTreeMap<&str, ClusterParameter> = BTreeMap::new();
    for row in all.rows.iter().filter(|row| !row.is_hidden()) {
        let shown = by_name.entry(row.name.as_str()).or_insert_with(|| head(row));
        add(shown, all, row);
    }
    by_name
        .into_values()
        .map(|shown| ClusterParameter { is_single_value: shown.values.len() == 1, ..shown })
        .collect()
}

fn head(row: &ParameterRow) -> ClusterParameter {
    ClusterParameter {
        name: row.name.clone(),
        scope: row.scope.clone(),
        edit_level: row.edit_level.clone(),
        default_value: row.default_value.clone(),
        section: row.section.clone(),
        data_type: row.data_type.clone(),
        info: row.info.clone(),
        ob_parameters: Vec::new(),
        tenant_value: Vec::new(),
        values: Vec::new(),
        is_single_value: false,
    }
}

fn add(shown: &mut ClusterParameter, all: &ParameterSet, row: &ParameterRow) {
    let tenant = row.tenant.filter(|_| row.is_of_tenant());
    let name = tenant.map(|id| all.tenant(id).map(|tenant| tenant.name.clone()).unwrap_or_default());
    shown.ob_parameters.push(ServerValue {
        svr_ip: row.server.map(|server| server.ip.to_string()).unwrap_or_default(),
        svr_port: row.server.map_or(0, |server| server.port),
        zone: row.zone.clone(),
        tenant_id: row.tenant,
        tenant_name: name.clone().filter(|name| !name.is_empty()),
        value: row.value.clone(),
    });
    if !shown.values.contains(&row.value) {
        shown.values.push(row.value.clone());
    }
    if let Some((tenant_id, tenant_name)) = tenant.zip(name) {
        let told = TenantValue { tenant_id, tenant_name, value: row.value.clone() };
        if !shown.tenant_value.contains(&told) {
            shown.tenant_value.push(told);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::parameters::TenantRef;
    use serde_json::json;

    fn row(name: &str, server: &str, tenant: Option<i64>, value: &str) -> ParameterRow {
        ParameterRow {
            server: server.parse().ok(),
            zone: "z1".to_owned(),
            scope: if tenant.is_some() { "TENANT" } else { "CLUSTER" }.to_owned(),
            tenant,
            name: name.to_owned(),
            data_type: "STRING".to_owned(),
            value: value.to_owned(),
            ..ParameterRow::default()
        }
    }

    /// The shape of §7.12: lists that clients walk are there, optional members are absent, hidden parameters too.
    #[test]
    fn a_parameter_is_shown_once_with_its_values_everywhere() {
        let (one, two) = ("10.0.0.1:2882", "10.0.0.2:2882");
        let rows = vec![
            row("undo_retention", one, Some(1), "1800"),
            row("undo_retention", one, Some(1002), "900"),
            row("undo_retention", two, Some(1002), "900"),
            row("cpu_count", one, None, "16"),
            row("cpu_count", two, None, "16"),
            row("_hidden", one, None, "1"),
        ];
        let tenant = |id, name: &str| TenantRef { id, name: name.to_owned(), is_user: id != 1 };
        let all =
            ParameterSet { rows, tenants: vec![tenant(1, "sys"), tenant(1002, "t1")], servers: Vec::new() };
        let shown = serde_json::to_value(render(&all)).unwrap();
        assert_eq!(shown.as_array().unwrap().len(), 2);
        assert_eq!(
            shown[0],
            json!({
                "name": "cpu_count", "scope": "CLUSTER", "edit_level": "", "default_value": "", "section": "",
                "data_type": "STRING", "info": "",
                "ob_parameters": [
                    { "svr_ip": "10.0.0.1", "svr_port": 2882, "zone": "z1", "value": "16" },
                    { "svr_ip": "10.0.0.2", "svr_port": 2882, "zone": "z1", "value": "16" },
                ],
                "values": ["16"], "is_single_value": true,
            })
        );
        assert_eq!(shown[1]["ob_parameters"].as_array().unwrap().len(), 3);
        assert_eq!(shown[1]["ob_parameters"][1]["tenant_name"], "t1");
        assert_eq!(
            shown[1]["tenant_value"],
            json!([
                { "tenant_id": 1, "tenant_name": "sys", "value": "1800" },
                { "tenant_id": 1002, "tenant_name": "t1", "value": "900" },
            ])
        );
        assert_eq!(
            (&shown[1]["values"], &shown[1]["is_single_value"]),
            (&json!(["1800", "900"]), &json!(false))
        );
    }
}
