-- The audit trail is read by itself, newest first or after an entry, among the many events of tasks.

CREATE INDEX event_audit ON event (id) WHERE kind = 'audit';
