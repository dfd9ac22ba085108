//! The model gateway: the only process with the keys of the models' services.
//!
//! It is this program (`descartes-worker gateway`). The worker starts it before the agent and ends it after the
//! agent. Agents reach it on loopback, under a secret path and with a placeholder for the key. It
//! forwards only the requests that the table in `model/provider.rs` lists. It replaces the placeholder by
//! the real key, and passes each part of an answer on as soon as it arrives. It adds up the cost of the
//! answers, and forwards no further request when a limit is reached.
//!
//! These modules decide, and have no I/O: [`route`], [`request_cost`], [`ledger`], [`meter`],
//! [`errors`].

mod document;
mod errors;
mod forward;
mod launch;
mod ledger;
mod meter;
mod open_request;
mod reports;
mod request_body;
mod request_cost;
mod route;
mod server;
mod settings;
mod shared;
mod wire;
mod worker_side;

pub use server::{Settings as ServerSettings, serve};
pub use settings::{COMMAND, Mode, Settings};
pub use worker_side::{Gateway, GatewayFailure, services_behind_gateway};
