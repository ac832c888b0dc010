//! Routes about the cluster and its servers.

use actix_web::Either;
use actix_web::web::Path;
use serde_json::Value;

use super::call::Call;
use super::reply::Outcome;
use crate::app::{ClusterRequest, InitRequest, OperateRequest, StopMode, Wish, ZoneStop};
use crate::error::Result;
use crate::model::Scope;
use crate::wire::{
    self, ClusterConfigBody, DagDetail, Envelope, ForcePass, InitBody, ObserverConfigBody, Plan, PlanServer,
    PlanStream, RootPwdBody, ScopeBody, StartBody, StopBody, ZoneStopBody,
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
    let proxy_user = body.create_proxyro_user.then_some(body.proxyro_password);
    let wanted = InitRequest { imports_script: body.import_script, proxy_user };
    Outcome::data(app.init(wanted, &caller, request).await.map(|dag| wire::created(app.own(), &dag)))
}

/// A task, or what it would be.
pub(super) type TaskOrPlan = Either<Outcome<DagDetail>, Outcome<Plan>>;

/// Start servers
#[utoipa::path(post, path = "/api/v1/ob/start", tag = "cluster", request_body = StartBody,
    params(("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Start OB`; with `plan=true` a `Plan` instead", body = Envelope<wire::TaskOrPlan>)))]
pub(super) async fn start(call: Call<StartBody>) -> TaskOrPlan {
    let body = &call.body;
    let wanted = wanted(body.scope.parse(), body.force_pass_dag.clone(), Wish::Start, body.plan_hash.clone());
    operate(call, wanted).await
}

/// Stop servers
#[utoipa::path(post, path = "/api/v1/ob/stop", tag = "cluster", request_body = StopBody,
    params(("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Stop OB`; with `plan=true` a `Plan` instead", body = Envelope<wire::TaskOrPlan>)))]
pub(super) async fn stop(call: Call<StopBody>) -> TaskOrPlan {
    let body = &call.body;
    let mode = StopMode { is_forced: body.force, terminates: body.terminate };
    let wanted =
        wanted(body.scope.parse(), body.force_pass_dag.clone(), Wish::Stop(mode), body.plan_hash.clone());
    operate(call, wanted).await
}

/// Stop a zone: out of service first, then its processes
#[utoipa::path(post, path = "/api/v1/ob/zone/{zone_name}/stop", tag = "cluster", request_body = ZoneStopBody,
    params(("zone_name" = String, Path, description = "The zone"), ("plan" = Option<bool>, Query, description = "Answer what it would do, and change nothing")),
    responses((status = 200, description = "The task `Stop OB`; with `plan=true` a `Plan` instead", body = Envelope<wire::TaskOrPlan>)))]
pub(super) async fn stop_zone(call: Call<ZoneStopBody>, zone: Path<String>) -> TaskOrPlan {
    let wanted = zone_stop(&call.body, &zone);
    operate(call, wanted).await
}

/// Whether a zone could be stopped now
#[utoipa::path(post, path = "/api/v1/ob/zone/{zone_name}/stop/check", tag = "cluster", request_body = ZoneStopBody,
    params(("zone_name" = String, Path, description = "The zone")),
    responses((status = 200, description = "It could", body = Envelope<Value>)))]
pub(super) async fn check_zone_stop(call: Call<ZoneStopBody>, zone: Path<String>) -> Outcome<Value> {
    Outcome::nothing(match zone_stop(&call.body, &zone) {
        Ok(wanted) => call.app.check(&wanted, &call.caller).await,
        Err(error) => Err(error),
    })
}

fn zone_stop(body: &ZoneStopBody, zone: &str) -> Result<OperateRequest> {
    let wish = Wish::StopZone(ZoneStop { freezes: body.freeze_server });
    let scope = ScopeBody { r#type: "ZONE".to_owned(), target: vec![zone.to_owned()] };
    wanted(scope.parse(), body.force_pass_dag.clone(), wish, None)
}

fn wanted(
    scope: Result<Scope>,
    force: ForcePass,
    wish: Wish,
    plan_hash: Option<String>,
) -> Result<OperateRequest> {
    Ok(OperateRequest { scope: scope?, force: force.ids()?, wish, plan_hash })
}

async fn operate<B>(call: Call<B>, wanted: Result<OperateRequest>) -> TaskOrPlan {
    let (request, caller, app) = (call.request(), &call.caller, &call.app);
    match call.wants_plan() {
        Ok(true) => Either::Right(Outcome::data(match wanted {
            Ok(wanted) => app.plan(&wanted, caller).await.map(render_plan),
            Err(error) => Err(error),
        })),
        Ok(false) => Either::Left(Outcome::data(match wanted {
            Ok(wanted) => app
                .operate(wanted, caller, request)
                .await
                .map(|made| wire::created_with(app.own(), &made.snapshot, made.notes)),
            Err(error) => Err(error),
        })),
        Err(error) => Either::Left(Outcome::data(Err(error))),
    }
}

pub(super) fn render_plan(plan: crate::app::Plan) -> Plan {
    let crate::app::Plan { name, scope, servers, stages, streams, consequences, obstacles, no_return, hash } =
        plan;
    let servers = servers.into_iter().map(|s| PlanServer {
        agent: s.agent,
        zone: s.zone,
        now: s.now,
        then: s.then,
        group: s.group,
    });
    let streams = streams.into_iter().map(|fate| PlanStream {
        keeps_majority: fate.keeps_majority(),
        tenant_id: fate.tenant,
        tenant: fate.tenant_name,
        stream: fate.stream,
        leader: fate.leader.map(|leader| leader.to_string()),
        leader_moves: fate.leader_moves,
        replicas: fate.replicas,
        left: fate.left,
        needed: fate.needed,
        missing: fate.missing,
    });
    Plan {
        name,
        scope,
        servers: servers.collect(),
        stages,
        streams: streams.collect(),
        consequences,
        obstacles,
        no_return,
        hash,
    }
}

/// Tell the agent the root password that was set elsewhere
#[utoipa::path(post, path = "/api/v1/obcluster/password", tag = "cluster", request_body = RootPwdBody,
    responses((status = 200, description = "The database accepted it; the agent uses it from now on", body = Envelope<Value>)))]
pub(super) async fn root_password(call: Call<RootPwdBody>) -> Outcome<Value> {
    let caller = call.caller.clone();
    let (app, body) = call.into_parts();
    Outcome::nothing(app.give_root_password(body.root_pwd, &caller).await)
}
