//! The route table of v2: method, path, what a caller must be, handler.
//!
//! Static paths stand before those with a parameter that would match them too.

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::web::{ServiceConfig, method};

use super::{cluster, open, order, task};
use crate::model::Role;

/// What a route needs of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Answers anybody.
    Open,
    Viewer,
    Operator,
    Admin,
}

impl Needs {
    /// `None`: nobody has to be known.
    pub fn role(self) -> Option<Role> {
        match self {
            Self::Open => None,
            Self::Viewer => Some(Role::Viewer),
            Self::Operator => Some(Role::Operator),
            Self::Admin => Some(Role::Admin),
        }
    }
}

/// A row, without its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub needs: Needs,
}

macro_rules! routes {
    ($($method:ident $path:literal $needs:ident => $handler:path;)*) => {
        /// Every route, in the order in which they are matched.
        pub const ROUTES: &[Route] =
            &[$(Route { method: stringify!($method), path: $path, needs: Needs::$needs }),*];

        /// What matches none of them is answered by [`super::not_found`].
        pub(in crate::api) fn configure(config: &mut ServiceConfig) {
            $(config.route($path, method(Method::$method).to($handler));)*
        }
    };
}

routes! {
    GET "/api/v2/time" Open => open::time;
    GET "/api/status" Open => open::status;
    GET "/api/v2/info" Viewer => open::info;
    GET "/api/v2/metrics" Viewer => open::metrics;

    POST "/api/v2/ob/clusters/{id}/servers/{serverId}/start" Operator => order::start_server;
    POST "/api/v2/ob/clusters/{id}/servers/{serverId}/stop" Operator => order::stop_server;
    POST "/api/v2/ob/clusters/{id}/servers/{serverId}/restart" Operator => order::restart_server;
    POST "/api/v2/ob/clusters/{id}/zones/{zoneName}/start" Operator => order::start_zone;
    POST "/api/v2/ob/clusters/{id}/zones/{zoneName}/stop" Operator => order::stop_zone;
    POST "/api/v2/ob/clusters/{id}/zones/{zoneName}/restart" Operator => order::restart_zone;
    POST "/api/v2/ob/clusters/{id}/start" Operator => order::start_cluster;
    POST "/api/v2/ob/clusters/{id}/stop" Operator => order::stop_cluster;
    POST "/api/v2/ob/clusters/{id}/restart" Operator => order::restart_cluster;

    GET "/api/v2/ob/clusters" Viewer => cluster::clusters;
    GET "/api/v2/ob/clusters/{id}" Viewer => cluster::cluster;
    GET "/api/v2/ob/clusters/{id}/zones" Viewer => cluster::zones;
    GET "/api/v2/ob/clusters/{id}/servers" Viewer => cluster::servers;
    GET "/api/v2/ob/clusters/{id}/zones/{zoneName}/servers" Viewer => cluster::servers_of_zone;
    GET "/api/v2/clusters/{id}/zones/{zoneName}/servers" Viewer => cluster::servers_of_zone_by_alias;

    GET "/api/v2/tasks/instances" Viewer => task::list;
    GET "/api/v2/tasks/instances/{taskInstanceId}" Viewer => task::one;
    GET "/api/v2/tasks/{taskInstanceId}" Viewer => task::one_by_alias;
    POST "/api/v2/tasks/instances/{taskInstanceId}/retry" Operator => task::retry;
    POST "/api/v2/tasks/instances/{taskInstanceId}/rollback" Operator => task::rollback;
    POST "/api/v2/tasks/instances/{taskInstanceId}/pause" Operator => task::pause;
    POST "/api/v2/tasks/instances/{taskInstanceId}/resume" Operator => task::resume;
    POST "/api/v2/tasks/instances/{taskInstanceId}/abort" Operator => task::abort;
    POST "/api/v2/tasks/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/retry" Operator => task::retry_step;
    POST "/api/v2/tasks/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/skip" Operator => task::skip_step;
    POST "/api/v2/tasks/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/cancel" Operator => task::cancel_step;
    GET "/api/v2/tasks/instances/{taskInstanceId}/subtasks/{subtaskInstanceId}/log" Viewer => task::step_log;
}

/// What the row that matched needs; what matches none is for an admin.
pub(super) fn needs_of(request: &HttpRequest) -> Needs {
    let pattern = request.match_pattern().unwrap_or_default();
    let row = ROUTES.iter().find(|row| row.path == pattern && request.method() == row.method);
    row.map_or(Needs::Admin, |row| row.needs)
}

/// Whether v2 answers this target, path and query.
pub(in crate::api) fn is_ours(target: &str) -> bool {
    target.starts_with("/api/v2/") || target == "/api/v2"
}

/// The methods under which a path is served.
pub(super) fn methods_of(path: &str) -> Vec<&'static str> {
    ROUTES.iter().filter(|row| is_match(row.path, path)).map(|row| row.method).collect()
}

/// A parameter stands for one part of a path.
fn is_match(pattern: &str, path: &str) -> bool {
    let (mut left, mut right) = (pattern.split('/'), path.split('/'));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(part), Some(given)) if part == given => {}
            (Some(part), Some(given)) if part.starts_with('{') && !given.is_empty() => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_one_part() {
        let pattern = "/api/v2/ob/clusters/{id}/start";
        assert!(is_match(pattern, "/api/v2/ob/clusters/1/start"));
        for path in ["/api/v2/ob/clusters//start", "/api/v2/ob/clusters/1/2/start", "/api/v2/ob/clusters/1"] {
            assert!(!is_match(pattern, path), "{path}");
        }
        assert_eq!(methods_of("/api/v2/time"), ["GET"]);
        assert!(methods_of("/api/v2/nothing").is_empty());
    }

    #[test]
    fn no_route_stands_twice() {
        for (at, row) in ROUTES.iter().enumerate() {
            let same = |other: &&Route| (other.method, other.path) == (row.method, row.path);
            assert_eq!(ROUTES.iter().position(|other| same(&other)), Some(at), "{} {}", row.method, row.path);
        }
    }

    /// Readers change nothing, and who only reads may read everything.
    #[test]
    fn roles_follow_methods() {
        for row in ROUTES {
            match row.method {
                "GET" => assert!(matches!(row.needs, Needs::Open | Needs::Viewer), "{}", row.path),
                _ => assert!(matches!(row.needs, Needs::Operator | Needs::Admin), "{}", row.path),
            }
        }
    }
}
