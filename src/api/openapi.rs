//! The OpenAPI document of v1, from the handlers and the wire's types. `proto/openapi.json` is the same under review.

use utoipa::OpenApi;

use super::{agent, events, ob, public, task};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "obpilot API v1",
        description = "OBShell's v1 API as obpilot answers it. Every answer is an envelope; every error has an errCode of \
                       errors.json. Protected routes take a sealed header (docs/api.md) on TCP and none on the Unix socket.",
        version = "4.5.0.0",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "open", description = "Answer anybody"),
        (name = "agent", description = "This agent"),
        (name = "cluster", description = "The cluster and its servers"),
        (name = "task", description = "Tasks, their records, and the event stream")
    ),
    paths(
        public::time, public::info, public::git_info, public::secret, public::status, public::status_by_post,
        agent::join, agent::password, agent::host_info, agent::agents,
        ob::cluster_config, ob::cluster_config_by_put, ob::root_password, ob::observer_config,
        ob::observer_config_by_put, ob::init, ob::start, ob::stop, ob::info,
        events::events, task::dags_ob, task::dags_agent, task::unfinished, task::unfinished_ob, task::unfinished_agent,
        task::main_dags, task::maintain_ob, task::maintain_agent, task::maintain_agents, task::dag, task::operate_dag,
        task::node, task::operate_node, task::sub_task, task::sub_task_logs
    )
)]
struct Document;

/// The document as text, as it stands in `proto/openapi.json`.
pub fn document() -> String {
    let json = Document::openapi().to_pretty_json();
    json.expect("the document is made of texts and numbers")
}
