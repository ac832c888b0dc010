//! Names of Java classes that OCP shows with its steps. Decoration: nothing acts on them, and steps whose name is documented
//! nowhere have none.

const PREFIX: &str = "com.alipay.ocp.service.task.business.";

/// By the name of the step.
const CLASSES: [(&str, &str); 19] = [
    ("Prepare restart OB zone", "zone.PrepareRestartObZoneTask"),
    ("Prepare restart observer", "server.PrepareRestartObServerTask"),
    ("Prepare start OB zone", "zone.PrepareStartObZoneTask"),
    ("Prepare start observer", "server.PrepareStartObServerTask"),
    ("Prepare stop OB zone", "zone.PrepareStopObZoneTask"),
    ("Prepare stop observer", "server.PrepareStopObServerTask"),
    ("Start observer process", "server.StartObServerProcessTask"),
    ("Start ocp agent service", "obagent.StartOcpAgentServiceTask"),
    ("Start server", "server.StartObServerTask"),
    ("Start zone", "zone.StartObZoneTask"),
    ("Stop observer process", "server.StopObServerProcessTask"),
    ("Stop server", "server.StopObServerTask"),
    ("Stop zone", "zone.StopObZoneTask"),
    ("Sync cluster info", "cluster.SyncClusterInfoTask"),
    ("Update OB cluster status", "cluster.UpdateObClusterStatusTask"),
    ("Update observer status", "server.UpdateObServerStatusTask"),
    ("Update zone status", "zone.UpdateObZoneStatusTask"),
    ("Wait node", "WaitNode"),
    ("Wait observer active", "server.WaitObServerActiveTask"),
];

pub(super) fn class_name(step: &str) -> Option<String> {
    let found = CLASSES.iter().find(|(name, _)| *name == step);
    found.map(|(_, class)| format!("{PREFIX}{class}"))
}
