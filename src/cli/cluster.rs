//! `obpilot cluster …`

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::args::{
    ClusterCommand, ClusterSettings, ConfigArgs, Global, InitArgs, JoinArgs, Output, PasswordArgs,
    RemoveArgs, ScopeArgs, ServerOptions, ShowArgs, StartArgs, StopArgs, WaitArgs, WhyBlockedArgs,
};
use super::client::Client;
use super::exit::Ending;
use super::follow::{Wanted, follow};
use super::{parameter, password, render, restart, scale, take_over};
use crate::model::AgentAddr;
use crate::wire::{BlockedView, DagDetail, Info, ObInfo, Plan, Status};

pub(super) async fn run(command: ClusterCommand, global: &Global) -> Result<(), Ending> {
    let client = Client::connect(global).await?;
    match command {
        ClusterCommand::Join(args) => join(&client, global, args).await,
        ClusterCommand::Remove(args) => remove(&client, global, args).await,
        ClusterCommand::Config(args) => config(&client, global, args).await,
        ClusterCommand::Init(args) => init(&client, global, args).await,
        ClusterCommand::Start(args) => start(&client, global, args).await,
        ClusterCommand::Stop(args) => stop(&client, global, args).await,
        ClusterCommand::Restart(args) => restart::run(&client, global, args).await,
        ClusterCommand::TakeOver(args) => take_over::run(&client, global, args).await,
        ClusterCommand::ScaleOut(args) => scale::scale_out(client, global, args).await,
        ClusterCommand::ScaleIn(args) => scale::scale_in(client, global, args).await,
        ClusterCommand::DeleteZone(args) => scale::delete_zone(client, global, args).await,
        ClusterCommand::Show(args) => show(&client, global, &args).await,
        ClusterCommand::Password(args) => give_password(&client, global, &args).await,
        ClusterCommand::Parameter(command) => parameter::run(&client, global, command).await,
    }
}

/// Sends a request that makes a task, and follows it.
async fn make(
    client: &Client,
    global: &Global,
    target: &str,
    body: &Value,
    wait: &WaitArgs,
) -> Result<(), Ending> {
    let dag: DagDetail = client.post(target, body).await?;
    dag.notes.iter().for_each(|note| render::say(note));
    follow(client, &dag.id, Wanted::Done, wait, global.output, global.quiet).await
}

/// A step of a command that makes several tasks: followed to its end, its JSON kept for the last one.
async fn make_first(client: &Client, global: &Global, target: &str, body: &Value) -> Result<(), Ending> {
    let dag: DagDetail = client.post(target, body).await?;
    follow(client, &dag.id, Wanted::Done, &WaitArgs::default(), Output::Text, global.quiet).await
}

async fn own_address(client: &Client) -> Result<AgentAddr, Ending> {
    let info: Info = client.get("/api/v1/info").await?;
    AgentAddr::from_parts(&info.ip, info.port).map_err(|e| Ending::usage(e.to_string()))
}

async fn join(client: &Client, global: &Global, args: JoinArgs) -> Result<(), Ending> {
    let own = own_address(client).await?;
    let target = match &args.server {
        Some(text) => text.parse::<AgentAddr>().map_err(|e| Ending::usage(format!("--server: {e}")))?,
        None => own,
    };
    let password = password::of_master(args.master_password_file.as_deref())?;
    let body = json!({
        "agentInfo": { "ip": target.ip, "port": target.port },
        "zoneName": args.zone,
        "masterPassword": password.expose(),
    });
    let options = server_options(&args.options)?;
    if options.is_empty() {
        return make(client, global, "/api/v1/agent/join", &body, &args.wait).await;
    }
    make_first(client, global, "/api/v1/agent/join", &body).await?;
    let body =
        json!({ "observerConfig": options, "scope": { "type": "SERVER", "target": [own.to_string()] } });
    make(client, global, "/api/v1/observer/config", &body, &args.wait).await
}

async fn remove(client: &Client, global: &Global, args: RemoveArgs) -> Result<(), Ending> {
    let target = match &args.server {
        Some(text) => text.parse::<AgentAddr>().map_err(|e| Ending::usage(format!("--server: {e}")))?,
        None => own_address(client).await?,
    };
    let body = json!({ "ip": target.ip, "port": target.port });
    match client.post_maybe::<DagDetail>("/api/v1/agent/remove", &body).await? {
        Some(dag) => follow(client, &dag.id, Wanted::Done, &args.wait, global.output, global.quiet).await,
        None => {
            let value = json!({ "agent": target.to_string(), "removed": false });
            render::done(global.output, &format!("{target} is no member; there was nothing to do"), &value);
            Ok(())
        }
    }
}

/// `obpilot why-blocked`
pub(super) async fn why_blocked(args: &WhyBlockedArgs, global: &Global) -> Result<(), Ending> {
    let client = Client::connect(global).await?;
    let blocked: BlockedView = client.get("/api/v1/task/blocked").await?;
    let task = match &args.id {
        Some(id) => Some(client.get::<DagDetail>(&format!("/api/v1/task/dag/{id}")).await?),
        None => None,
    };
    match global.output {
        Output::Json => render::json(&json!({ "blocked": blocked, "task": task })),
        Output::Text => render::out(&render::blocked(&blocked, task.as_ref())),
    }
    Ok(())
}

/// The requests that settings and options amount to, in order.
fn settings_requests(
    settings: &ClusterSettings,
    options: &ServerOptions,
) -> Result<Vec<(&'static str, Value)>, Ending> {
    let mut requests = Vec::new();
    if let Some(name) = &settings.cluster_name {
        let mut body = json!({ "clusterName": name, "clusterId": settings.cluster_id.unwrap_or(1) });
        if let Some(password) = password::for_root(settings)? {
            body["rootPwd"] = Value::from(password.expose());
        }
        if let Some(list) = &settings.rs_list {
            body["rsList"] = Value::from(list.as_str());
        }
        requests.push(("/api/v1/obcluster/config", body));
    } else if settings.cluster_id.is_some() || settings.root.is_given() || settings.rs_list.is_some() {
        let text = "--cluster_name is missing: name, id, root password and root servers are set together";
        return Err(Ending::usage(text));
    }
    let options = server_options(options)?;
    if !options.is_empty() {
        requests.push((
            "/api/v1/observer/config",
            json!({ "observerConfig": options, "scope": { "type": "GLOBAL" } }),
        ));
    }
    Ok(requests)
}

async fn config(client: &Client, global: &Global, args: ConfigArgs) -> Result<(), Ending> {
    let mut requests = settings_requests(&args.settings, &args.options)?;
    let Some((target, body)) = requests.pop() else {
        return Err(Ending::usage("nothing to set; see `obpilot cluster config --help`"));
    };
    for (target, body) in requests {
        make_first(client, global, target, &body).await?;
    }
    make(client, global, target, &body, &args.wait).await
}

async fn init(client: &Client, global: &Global, args: InitArgs) -> Result<(), Ending> {
    for (target, body) in settings_requests(&args.settings, &args.options)? {
        make_first(client, global, target, &body).await?;
    }
    let mut body =
        json!({ "import_script": args.import_script, "create_proxyro_user": args.create_proxyro_user });
    if args.create_proxyro_user {
        let password = password::of_proxy_user(args.proxyro_password_file.as_deref())?;
        body["proxyro_password"] = Value::from(password.expose());
    }
    make(client, global, "/api/v1/ob/init", &body, &args.wait).await
}

/// `name=value` items and named flags as one map; a value may hold `=` and `,` (C29).
pub(super) fn server_options(options: &ServerOptions) -> Result<BTreeMap<String, String>, Ending> {
    let mut map = BTreeMap::new();
    for item in &options.options {
        let (name, value) = item.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
            Ending::usage(format!(
                "--opt_str '{item}': write it as name=value; give the flag once per setting"
            ))
        })?;
        map.insert(name.to_owned(), value.to_owned());
    }
    let named = [
        ("mysql_port", options.mysql_port.map(|p| p.to_string())),
        ("rpc_port", options.rpc_port.map(|p| p.to_string())),
        ("data_dir", options.data_dir.as_ref().map(ToString::to_string)),
        ("redo_dir", options.redo_dir.as_ref().map(ToString::to_string)),
        ("syslog_level", options.log_level.map(|l| format!("{l:?}").to_uppercase())),
    ];
    for (name, value) in named.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let before = map.insert(name.to_owned(), value.clone());
        if before.is_some_and(|before| before != value) {
            return Err(Ending::usage(format!("{name} is given twice with different values")));
        }
    }
    Ok(map)
}

pub(super) async fn scope_body(client: &Client, scope: &ScopeArgs) -> Result<Value, Ending> {
    let body = if scope.all {
        json!({ "type": "GLOBAL" })
    } else if !scope.zone.is_empty() {
        json!({ "type": "ZONE", "target": scope.zone })
    } else if !scope.server.is_empty() {
        json!({ "type": "SERVER", "target": scope.server })
    } else {
        json!({ "type": "SERVER", "target": [own_address(client).await?.to_string()] })
    };
    Ok(json!({ "scope": body, "forcePassDag": { "id": scope.id } }))
}

async fn show_plan(client: &Client, global: &Global, target: &str, body: &Value) -> Result<Plan, Ending> {
    let plan: Plan = client.post(&format!("{target}?plan=true"), body).await?;
    match global.output {
        Output::Json => render::json(&plan),
        Output::Text => render::out(&render::plan(&plan)),
    }
    Ok(plan)
}

async fn start(client: &Client, global: &Global, args: StartArgs) -> Result<(), Ending> {
    let body = scope_body(client, &args.scope).await?;
    if args.plan {
        return show_plan(client, global, "/api/v1/ob/start", &body).await.map(|_| ());
    }
    make(client, global, "/api/v1/ob/start", &body, &args.wait).await
}

async fn stop(client: &Client, global: &Global, args: StopArgs) -> Result<(), Ending> {
    let mut body = scope_body(client, &args.scope).await?;
    body["force"] = args.force.into();
    body["terminate"] = (!args.force && !args.immediate).into();
    if args.planned.plan {
        return show_plan(client, global, "/api/v1/ob/stop", &body).await.map(|_| ());
    }
    if !args.planned.yes {
        // Looks before it asks (C26); what was shown is done, or nothing.
        let plan: Plan = client.post("/api/v1/ob/stop?plan=true", &body).await?;
        render::say(&render::plan(&plan));
        password::confirm("Do this?")?;
        body["planHash"] = plan.hash.into();
    }
    make(client, global, "/api/v1/ob/stop", &body, &args.planned.wait).await
}

async fn show(client: &Client, global: &Global, args: &ShowArgs) -> Result<(), Ending> {
    let info: ObInfo = client.get("/api/v1/ob/info").await?;
    let status: Status = client.get("/api/v1/status").await?;
    let agents: BTreeMap<String, Status> = client.get("/api/v1/agents/status").await?;
    match global.output {
        Output::Json => render::json(&json!({ "info": info, "status": status, "agents": agents })),
        Output::Text => render::out(&render::cluster(&info, &agents, args.detail)),
    }
    Ok(())
}

async fn give_password(client: &Client, global: &Global, args: &PasswordArgs) -> Result<(), Ending> {
    let password = password::of_root(args.root_password_file.as_deref())?;
    client.post_only("/api/v1/obcluster/password", &json!({ "rootPwd": password.expose() })).await?;
    render::done(
        global.output,
        "the database accepts it; the agent uses it from now on",
        &json!({ "accepted": true }),
    );
    Ok(())
}
