//! The route table: method, path, who may, handler. What has no row here answers 404.
//!
//! Static paths stand before those with a parameter that would match them too.

use actix_web::http::Method;
use actix_web::web::{ServiceConfig, method};
use actix_web::{HttpRequest, web};

use super::{
    accounts, agent, audit, events, info, keys, login, ob, parameters, public, reading, restart, rpc, scale,
    take_over, task, upgrade,
};
use crate::secure::RouteClass;

/// A row, without its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub class: RouteClass,
}

macro_rules! routes {
    ($($method:ident $path:literal $class:ident => $handler:path;)*) => {
        /// Every route, in the order in which they are matched.
        pub const ROUTES: &[Route] =
            &[$(Route { method: stringify!($method), path: $path, class: RouteClass::$class }),*];

        pub(super) fn configure(config: &mut ServiceConfig) {
            $(config.route($path, method(Method::$method).to($handler));)*
            config.default_service(web::to(public::not_found));
        }
    };
}

routes! {
    GET "/api/v1/time" Open => public::time;
    GET "/api/v1/info" Open => public::info;
    GET "/api/v1/git-info" Open => public::git_info;
    GET "/api/v1/secret" Open => public::secret;
    GET "/api/v1/status" Open => public::status;
    POST "/api/v1/status" Open => public::status_by_post;

    POST "/api/v1/login" Login => login::login;
    POST "/api/v1/logout" Protected => login::logout;
    POST "/api/v1/sso/token" Login => login::sso_token;
    GET "/api/v1/sso/exchange" Open => login::sso_exchange;
    GET "/api/v1/security/audit" Protected => audit::trail;

    POST "/api/v1/agent/join" Protected => agent::join;
    POST "/api/v1/agent" Protected => agent::join;
    POST "/api/v1/agent/remove" Protected => agent::remove;
    DELETE "/api/v1/agent" Protected => agent::remove_by_delete;
    POST "/api/v1/agent/password" SetPassword => agent::password;
    GET "/api/v1/agent/host-info" Protected => agent::host_info;
    GET "/api/v1/agents/status" Protected => info::agents_status;

    POST "/api/v1/obcluster/config" Protected => ob::cluster_config;
    PUT "/api/v1/obcluster/config" Protected => ob::cluster_config_by_put;
    POST "/api/v1/obcluster/password" Protected => ob::root_password;
    POST "/api/v1/observer/config" Protected => ob::observer_config;
    PUT "/api/v1/observer/config" Protected => ob::observer_config_by_put;
    POST "/api/v1/ob/init" Protected => ob::init;
    POST "/api/v1/ob/take_over" Protected => take_over::take_over;
    POST "/api/v1/ob/start" Protected => ob::start;
    POST "/api/v1/ob/restart" Protected => restart::restart;
    POST "/api/v1/ob/stop" Protected => ob::stop;
    POST "/api/v1/ob/zone/{zone_name}/stop" Protected => ob::stop_zone;
    POST "/api/v1/ob/zone/{zone_name}/stop/check" Protected => ob::check_zone_stop;
    POST "/api/v1/ob/scale_out" Protected => scale::scale_out;
    POST "/api/v1/ob/scale_in" Protected => scale::scale_in;
    DELETE "/api/v1/observer" Protected => scale::scale_in_by_delete;
    DELETE "/api/v1/zone/{zone_name}" Protected => scale::delete_zone;
    GET "/api/v1/ob/info" Protected => info::ob_info;
    GET "/api/v1/obcluster/info" Protected => info::cluster_info;
    GET "/api/v1/obcluster/topology/info" Protected => info::topology;
    GET "/api/v1/obcluster/parameters" Protected => parameters::list;
    PATCH "/api/v1/obcluster/parameters" Protected => parameters::set;
    GET "/api/v1/obcluster/charsets" Protected => reading::charsets;
    GET "/api/v1/obcluster/statistics" Protected => reading::statistics;
    GET "/api/v1/obcluster/unit-config-limit" Protected => reading::unit_config_limit;
    GET "/api/v1/obcluster/license" Protected => reading::license;
    POST "/api/v1/obcluster/shared-storage/validate-key" Protected => reading::validate_key;
    POST "/api/v1/obcluster/shared-storage/save-key" Protected => reading::save_key;
    GET "/api/v1/observer/info" Protected => info::observer_info;
    GET "/api/v1/ob/agents" Protected => agent::agents;

    GET "/api/v1/security/accounts" Protected => accounts::list;
    POST "/api/v1/security/accounts" Protected => accounts::add;
    DELETE "/api/v1/security/accounts/{id}" Protected => accounts::remove;
    POST "/api/v1/security/key-pairs" Protected => accounts::add_pair;
    DELETE "/api/v1/security/key-pairs/{id}" Protected => accounts::remove_pair;
    GET "/api/v1/security/keys" Protected => keys::show;
    POST "/api/v1/security/keys/rotate" Protected => keys::rotate;
    POST "/api/v1/security/certificates" Protected => keys::issue;
    POST "/api/v1/security/ca/rotate" Protected => keys::rotate_ca;

    POST "/api/v1/agent/upgrade/check" Protected => upgrade::check_agent;
    POST "/api/v1/agent/upgrade" Protected => upgrade::agent;
    POST "/api/v1/ob/upgrade/check" Protected => upgrade::check_database;
    POST "/api/v1/ob/upgrade" Protected => upgrade::database;
    POST "/api/v1/upgrade/package" Protected => upgrade::upload;
    POST "/api/v1/package" Protected => upgrade::upload_plain;
    GET "/api/v1/upgrade/package/info" Protected => upgrade::packages;
    DELETE "/api/v1/upgrade/package/{id}" Protected => upgrade::delete_package;
    POST "/api/v1/upgrade/params/backup" Protected => upgrade::backup_parameters;
    POST "/api/v1/upgrade/params/restore" Protected => upgrade::restore_parameters;
    POST "/api/v1/upgrade/env/check" Protected => upgrade::check_environment;

    GET "/api/v1/task/events" Protected => events::events;
    GET "/api/v1/task/dags/ob" Protected => task::dags_ob;
    GET "/api/v1/task/dags/agent" Protected => task::dags_agent;
    GET "/api/v1/task/blocked" Protected => task::blocked;
    GET "/api/v1/task/dag/unfinish" Protected => task::unfinished;
    GET "/api/v1/task/dag/ob/unfinish" Protected => task::unfinished_ob;
    GET "/api/v1/task/dag/agent/unfinish" Protected => task::unfinished_agent;
    GET "/api/v1/task/dag/agent/main_dags" Protected => task::main_dags;
    GET "/api/v1/task/dag/maintain/ob" Protected => task::maintain_ob;
    GET "/api/v1/task/dag/maintain/agent" Protected => task::maintain_agent;
    GET "/api/v1/task/dag/maintain/agents" Protected => task::maintain_agents;
    GET "/api/v1/task/dag/{id}" Protected => task::dag;
    POST "/api/v1/task/dag/{id}" Protected => task::operate_dag;
    GET "/api/v1/task/node/{id}" Protected => task::node;
    POST "/api/v1/task/node/{id}" Protected => task::operate_node;
    GET "/api/v1/task/sub_task/{id}" Protected => task::sub_task;
    GET "/api/v1/task/sub_task/{id}/logs" Protected => task::sub_task_logs;

    POST "/rpc/v1/peer/hello" Open => rpc::hello;
    POST "/rpc/v1/peer" Peer => rpc::message;
    POST "/rpc/v1/agent" Protected => rpc::admit;
    POST "/rpc/v1/ob/scale_out" BeAdded => rpc::invite;
}

/// The class of the row that matched; what matches none is protected.
pub(super) fn class_of(request: &HttpRequest) -> RouteClass {
    let pattern = request.match_pattern().unwrap_or_default();
    let row = ROUTES.iter().find(|row| row.path == pattern && request.method() == row.method);
    row.map_or(RouteClass::Protected, |row| row.class)
}

/// What a follower leaves to its master.
const FOR_THE_MASTER: [&str; 6] = [
    "/api/v1/obcluster/config",
    "/api/v1/observer/config",
    "/api/v1/ob/init",
    "/api/v1/ob/take_over",
    "/api/v1/ob/info",
    "/api/v1/ob/agents",
];

/// Whether a follower hands this request to its master.
pub(super) fn is_for_the_master(request: &HttpRequest) -> bool {
    request.match_pattern().is_some_and(|pattern| FOR_THE_MASTER.contains(&pattern.as_str()))
}
