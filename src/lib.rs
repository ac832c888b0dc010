//! obpilot: an agent that runs beside every OceanBase server process and operates it, durably.
//!
//! # One request, through the house
//!
//! `POST /api/v1/ob/start` with scope GLOBAL:
//!
//! 1. [`api`] accepts the connection, matches a row of its route table, has [`secure`] open and judge the sealed header,
//!    and parses the body into a [`wire`] type. What fails here ends in one envelope with a code of [`error`].
//! 2. [`app`] decides what the request means: it resolves the scope among the members, asks every agent and the database how
//!    things are, and looks for obstacles: identity, rules, majorities, held locks. It takes the flow's template and submits
//!    it to the engine. (With `?plan=true` it shows all that instead. A task of another agent is asked for there.)
//! 3. [`engine`] commits the DAG through its port, which [`store`] implements on SQLite. Only then does the caller hear
//!    "accepted". Then the engine plans, commits what comes next, and runs the steps it has claimed.
//! 4. [`flow`] is what the steps do. The main DAG talks to every agent in scope in four words, PREPARE, GO, WATCH and END
//!    ([`flow::handshake`]); [`peer`] carries them, sealed, to the other agents, where [`api`] opens them and [`app`] answers.
//!    An agent's own part is a sub-DAG under its maintenance lock ([`flow::participant`]), which starts the server
//!    ([`flow::server`]). What concerns the cluster as a whole goes through any server that answers ([`flow::zones`]).
//! 5. Steps act through ports ([`flow::ports`]): [`process`] starts, watches and stops the database process, with
//!    [`host`] for what the machine can tell; [`sql`] speaks to the database.
//! 6. Every transition and every line of the steps' record is an event in the store. Those who watch, a long poll, the
//!    event stream, the command line's live tree ([`cli`]), see it when it is committed.
//!
//! Kill the agent at any instant: at the next start [`daemon`] opens the store, the engine takes up every unfinished DAG
//! where its events end, each step looks first whether its goal is true already, and the database process, which never
//! noticed, is found again by its identity. Does it not come back, the other agents' parts end by their leases.
//!
//! # The rooms
//!
//! | room | what it is | it may not |
//! |---|---|---|
//! | [`model`], [`error`] | nouns and their rules; the public errors | know anybody |
//! | [`engine`] | the pure state machine of DAGs and its asynchronous shell | know SQL, HTTP, what steps do |
//! | [`cluster`] | who we are, our members, what is configured; who may do what; majorities | do IO |
//! | [`flow`] | the operations, as steps over ports | name an adapter |
//! | [`app`] | use cases: check in order, then answer or submit | know HTTP |
//! | [`wire`] | the shapes of v1, as clients know them | decide |
//! | [`secure`] | sealed requests, who may call, sessions of agents, secrets at rest | do IO |
//! | [`store`] | SQLite: one writer, many readers | leak a SQL type |
//! | [`sql`], [`process`], [`host`] | the database's SQL port (either engine), its process, the machine | decide |
//! | [`peer`] | messages to other agents, requests handed on to them | decide |
//! | [`api`], [`cli`] | the two doors: HTTP, and the command line, which is its client | know the engine's inside |
//! | [`daemon`] | builds all of it, starts and stops it in order | decide |
//!
//! [`clock`], [`tasks`], [`crash`], [`config`] and [`telemetry`] serve everybody: time as a parameter, spawned work whose
//! failure means something, kills for the crash matrix, settings, the log. `tests/tidy.rs` holds the walls; the reasons
//! stand in `docs/architecture.md`.

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod crash;
pub mod daemon;
pub mod engine;
pub mod error;
pub mod flow;
pub mod host;
pub mod model;
pub mod peer;
pub mod process;
pub mod secure;
pub mod sql;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod wire;
