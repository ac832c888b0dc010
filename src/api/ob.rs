//! Routes about the cluster and its servers.

use std::collections::BTreeMap;

use actix_web::Either;
use serde_json::Value;

use super::call::Call;
use super::reply::Outcome;
use crate::app::{ClusterRequest, InfoView, InitRequest, OperateRequest, StopMode};
use crate::error::Result;
use crate::model::API_VERSION;
use crate::wire::{
    self, AgentInstance, ClusterConfigBody, DagDetail, Envelope, ForcePass, InitBody, ObClusterInfo, ObInfo,
    ObserverConfigBody, Plan, PlanServer, RootPwdBody, ScopeBody, StartBody, StopBody, TopologyServer,
};

/// Set name, id and root password of the cluster to be (only a MASTER); replaces all four values
#[utoipa::path(post, path = "/api/v1/obcluster/config", tag = "cluster", request_body = ClusterConfigBody,
    responses((status = 200, description = "The task `Update cluster config`", body = Envelope<DagDetail>)))]
pub(super) async fn cluster_config(call: Call<ClusterConfigBody>) -> Outcome<DagDetail> {
    let (request, caller) = (call.request(), call.caller.clone());
    let root_pwd = call.body.root_pwd.clone().map(|pwd| call.door.open_if_sealed(pwd));
    let (app, body) = call.into_parts();
    let wanted = ClusterRequest {
        id: body.cluster_id,
        name: body.cluster_name,
        root_password: root_pwd,
        rs_list: body.rs_list,
    };
    let made = app.configure_cluster(wanted, &caller, request).await;
    Outcome::data(made.map(|dag| wire::created(app.own(), &dag)))
}

/// The same as POST
#[utoipa::path(put, path = "/api/v1/obcluster/config", tag = "cluster", request_body = ClusterConfigBody,
    responses((status = 200, body = Envelope<DagDetail>)))]
pub(super) async fn cluster_config_by_put(call: Call<ClusterConfigBody>) -> Outcome<DagDetail> {
    cluster_config(call).await
}

/// Set what servers will be started with (only a MASTER); replaces what was set at this scope
#[utoipa::path(post, path = "/api/v1/observer/config", tag = "cluster", request_body = ObserverConfigBody,
    responses((status = 200, description = "The task `Update observer config`", body = Envelope<DagDetail>)))]
pub(super) async fn observer_config(call: Call<ObserverConfigBody>) -> Outcome<DagDetail> {
    let (request, caller) = (call.request(), call.caller.clone());
    let (app, body) = call.into_parts();
    let scope = body.scope.parse();
    let made = app.configure_observer(body.observer_config, scope, &caller, request).await;
    Outcome::data(made.map(|dag| wire::created(app.own(), &dag)))
}

/// The same as POST
#[utoipa::path(put, path = "/api/v1/observer/config", tag = "cluster", request_body = ObserverConfigBody,
    responses((status = 200, body = Envelope<DagDetail>)))]
pub(super) async fn observer_config_by_put(call: Call<ObserverConfigBody>) -> Outcome<DagDetail> {
    observer_config(call).await
}

/// Create the database (only a MASTER); an empty body is allowed
#[utoipa::path(post, path = "/api/v1/ob/init", tag = "cluster", request_body = InitBody,
    responses((status = 200, description = "The task `Initialize cluster`", body = Envelope<DagDetail>)))]
pub(super) async fn init(call: Call<InitBody>) -> Outcome<DagDetail> {
    let (request, caller) = (call.request(), call.caller.clone());
    let (app, body) = call.into_parts();
    let wanted =
        InitRequest { imports_script: body.import_script, creates_proxy_user: body.create_proxyro_user };
    Outcome::data(app.init(wanted, &caller, request).await.map(|dag| wire::created(app.own(), &dag)))
}

/// A task, or what it would be.
type TaskOrPlan = Either<Outcome<DagDetail>, Outcome<Plan>>;

/// Start servers
#[utoipa::path(post, path = "/api/v1/ob/start", tag = "cluster", request_body = StartBody,
    params(("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Start OB`; with `plan=true` a `Plan` instead", body = Envelope<DagDetail>)))]
pub(super) async fn start(call: Call<StartBody>) -> TaskOrPlan {
    let wanted = wanted(&call.body.scope, call.body.force_pass_dag.clone(), None);
    operate(call, wanted).await
}

/// Stop servers
#[utoipa::path(post, path = "/api/v1/ob/stop", tag = "cluster", request_body = StopBody,
    params(("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Stop OB`; with `plan=true` a `Plan` instead", body = Envelope<DagDetail>)))]
pub(super) async fn stop(call: Call<StopBody>) -> TaskOrPlan {
    let mode = StopMode { is_forced: call.body.force, terminates: call.body.terminate };
    let wanted = wanted(&call.body.scope, call.body.force_pass_dag.clone(), Some(mode));
    operate(call, wanted).await
}

fn wanted(scope: &ScopeBody, force: ForcePass, stop: Option<StopMode>) -> Result<OperateRequest> {
    Ok(OperateRequest { scope: scope.parse()?, force: force.ids()?, stop })
}

async fn operate<B>(call: Call<B>, wanted: Result<OperateRequest>) -> TaskOrPlan {
    let (request, caller, app) = (call.request(), &call.caller, &call.app);
    match call.wants_plan() {
        Ok(true) => Either::Right(Outcome::data(match wanted {
            Ok(wanted) => app.plan(&wanted, caller).await.map(render_plan),
            Err(error) => Err(error),
        })),
        Ok(false) => Either::Left(Outcome::data(match wanted {
            Ok(wanted) => {
                app.operate(wanted, caller, request).await.map(|dag| wire::created(app.own(), &dag))
            }
            Err(error) => Err(error),
        })),
        Err(error) => Either::Left(Outcome::data(Err(error))),
    }
}

fn render_plan(plan: crate::app::Plan) -> Plan {
    let crate::app::Plan { name, scope, servers, stages, consequences, obstacles } = plan;
    let servers =
        servers.into_iter().map(|s| PlanServer { agent: s.agent, zone: s.zone, now: s.now, then: s.then });
    Plan { name, scope, servers: servers.collect(), stages, consequences, obstacles }
}

/// Tell the agent the root password that was set elsewhere
#[utoipa::path(post, path = "/api/v1/obcluster/password", tag = "cluster", request_body = RootPwdBody,
    responses((status = 200, description = "The database accepted it; the agent uses it from now on", body = Envelope<Value>)))]
pub(super) async fn root_password(call: Call<RootPwdBody>) -> Outcome<Value> {
    let caller = call.caller.clone();
    let (app, body) = call.into_parts();
    Outcome::nothing(app.give_root_password(body.root_pwd, &caller).await)
}

/// The cluster and its servers, with or without a database
#[utoipa::path(get, path = "/api/v1/ob/info", tag = "cluster", responses((status = 200, body = Envelope<ObInfo>)))]
pub(super) async fn info(call: Call<()>) -> Outcome<ObInfo> {
    Outcome::data(Ok(render_info(call.app.ob_info())))
}

fn render_info(view: InfoView) -> ObInfo {
    let InfoView { state, server } = view;
    let zone = state.zone.as_ref().map(ToString::to_string).unwrap_or_default();
    let agent = AgentInstance {
        ip: state.addr.ip.to_string(),
        port: i64::from(state.addr.port),
        zone: zone.clone(),
        identity: state.identity.text().to_owned(),
        version: API_VERSION.to_owned(),
    };
    let version = state.server.version.clone().unwrap_or_default();
    let topology = server.map(|server| {
        let server = TopologyServer {
            svr_ip: server.addr.ip.to_string(),
            svr_port: server.rpc_port,
            sql_port: server.sql_port,
            agent_port: server.addr.port,
            with_rootserver: "YES".to_owned(),
            status: if server.is_active { "ACTIVE" } else { "INACTIVE" }.to_owned(),
            build_version: server.version,
        };
        BTreeMap::from([(zone, vec![server])])
    });
    ObInfo {
        agent_info: vec![agent],
        obcluster_info: ObClusterInfo {
            id: state.cluster.id.unwrap_or(0),
            name: state.cluster.name.clone().unwrap_or_default(),
            version,
            topology,
            is_shared_storage: false,
        },
    }
}
