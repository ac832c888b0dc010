"""Every public method of the SDK's `ClientV1`: those of the lifecycle, which are driven, and the others, with the reason."""

from obshell import ClientV1

# Asked of anybody, without a password.
OPEN = ["get_info", "get_status"]

# Only makes a request, and sends nothing.
LOCAL = ["create_request"]

LIFECYCLE = OPEN + LOCAL + [
    "join", "join_sync", "remove", "remove_sync",
    "config_observer", "config_observer_sync", "config_obcluster", "config_obcluster_sync",
    "init", "init_sync", "agg_create_cluster", "agg_clear_uninitialized_agent",
    "start", "start_sync", "stop", "stop_sync",
    "scale_out", "scale_out_sync", "scale_in", "scale_in_sync", "delete_zone", "delete_zone_sync",
    "list_cluster_parameters", "set_cluster_parameters", "set_agent_password",
    "get_ob_info", "get_dag", "get_node", "get_sub_task", "operate_dag", "operate_dag_sync", "wait_dag_succeed",
    "get_agent_last_maintenance_dag", "get_all_agent_last_maintenance_dag", "get_ob_last_maintenance_dag",
    "get_agent_unfinished_dag", "get_cluster_unfinished_dag", "get_unfinished_dags",
    "upload_pkg", "upgrade_agent_check", "upgrade_agent_check_sync", "upgrade_agent", "upgrade_agent_sync",
    "upgrade_ob_check", "upgrade_ob_check_sync", "upgrade_ob", "upgrade_ob_sync",
]

# Why it is no method of the lifecycle, and which methods that are. Each is asked once, and has to be refused as the SDK expects.
OUTSIDE = {
    "tenants and their resources": [
        "create_resource_unit_config", "drop_resource_unit_config", "get_all_resource_unit_configs",
        "get_resource_unit_config", "get_all_resource_pools", "drop_resource_pool",
        "create_tenant", "create_tenant_sync", "drop_tenant", "drop_tenant_sync", "lock_tenant", "unlock_tenant",
        "rename_tenant", "add_tenant_replica", "add_tenant_replica_sync", "delete_tenant_replica",
        "delete_tenant_replica_sync", "modify_tenant_replica", "modify_tenant_replica_sync",
        "set_tenant_primary_zone", "set_tenant_primary_zone_sync", "set_tenant_whitelist", "set_tenant_root_password",
        "persist_tenant_root_password", "set_tenant_variables", "set_tenant_parameters", "get_tenant_variable",
        "get_tenant_parameter", "get_tenant_variables", "get_tenant_parameters", "get_tenant_info", "get_all_tenants",
        "flashback_recyclebin_tenant", "purge_recyclebin_tenant", "purge_recyclebin_tenant_sync",
        "get_all_recyclebin_tenants",
    ],
    "users, databases and sessions in a tenant": [
        "create_user", "drop_user", "lock_user", "unlock_user", "set_user_password", "set_user_global_privileges",
        "set_user_db_privileges", "list_users", "get_user", "get_user_stats", "create_database", "update_database",
        "delete_database", "list_databases", "get_database", "get_tenant_sessions", "get_tenant_session",
        "kill_tenant_sessions", "kill_tenant_session_query", "get_tenant_sessions_stats", "get_tenant_deadlocks",
    ],
    "backup and restore": [
        "post_cluster_backup_config", "post_cluster_backup_config_sync", "patch_cluster_backup_config",
        "patch_cluster_backup_config_sync", "post_tenant_backup_config", "post_tenant_backup_config_sync",
        "patch_tenant_backup_config", "patch_tenant_backup_config_sync", "start_cluster_backup",
        "start_cluster_backup_sync", "start_tenant_backup", "start_tenant_backup_sync", "patch_cluster_backup_status",
        "patch_tenant_backup_status", "patch_cluster_backup_log_status", "patch_tenant_backup_log_status",
        "get_cluster_backup_overview", "get_tenant_backup_overview", "post_tenant_restore", "post_tenant_restore_sync",
        "delete_tenant_restore", "delete_tenant_restore_sync", "get_tenant_restore_overview", "get_restore_windows",
    ],
    "obproxy": [
        "upload_obproxy_pkg", "add_obproxy", "add_obproxy_sync", "start_obproxy", "start_obproxy_sync", "stop_obproxy",
        "stop_obproxy_sync", "delete_obproxy", "delete_obproxy_sync", "upgrade_obproxy", "upgrade_obproxy_sync",
    ],
    "monitoring, inspection and stored credentials": [
        "set_prometheus_config", "get_prometheus_config", "set_alertmanager_config", "get_alertmanager_config",
        "set_seekdb_promethes_config", "set_seekdb_alertmanager_config", "get_seekdb_prometheus_config",
        "get_seekdb_alertmanager_config", "create_credential", "get_credential", "update_credential",
        "delete_credential", "list_credentials", "validate_credential", "batch_validate_credentials",
        "batch_delete_credentials", "update_credential_encrypt_secret_key", "trigger_inspection",
        "trigger_inspection_sync", "get_inspection_report", "get_inspection_history",
    ],
    "standby pairs of seekdb": [
        "get_seekdb_standby_token", "set_seekdb_standby_pair", "get_seekdb_standby_status", "switchover_seekdb_standby",
        "switchover_seekdb_standby_sync", "activate_seekdb_standby", "activate_seekdb_standby_sync",
        "delete_seekdb_standby_pair",
    ],
}


def public():
    return {name for name in dir(ClientV1) if not name.startswith("_") and callable(getattr(ClientV1, name))}


def check_complete():
    """A method without a row, or a row without a method, is an error."""
    listed = LIFECYCLE + [name for names in OUTSIDE.values() for name in names]
    twice = {name for name in listed if listed.count(name) > 1}
    missing, unknown = public() - set(listed), set(listed) - public()
    if twice or missing or unknown:
        raise SystemExit(f"listed twice: {twice}; in no list: {missing}; not in the SDK: {unknown}")
    print(f"lifecycle\t{len(LIFECYCLE)}\npublic\t{len(public())}")
