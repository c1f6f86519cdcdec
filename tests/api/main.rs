//! Tests of the API over HTTP. Each test has a real server on its own port, with its own real database.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod support {
    pub use test_database::*;

    pub fn cluster() -> &'static dev_postgres::Cluster {
        test_database::cluster(crate::prepare_template)
    }

    pub fn fresh_database() -> String {
        test_database::fresh_database(crate::prepare_template)
    }
}

mod accounts;
mod advice;
mod answer;
mod app;
mod at_the_gateway;
mod backlog;
mod bad_input;
mod binary;
mod browsers;
mod cancel;
mod causes;
mod charges;
mod client_gone;
mod connections;
mod crashes;
mod database;
mod documented_bodies;
mod entitlements;
mod errors;
mod event_flood;
mod events;
mod failover;
mod fairness;
mod faults;
mod feed_bounds;
mod filters;
mod full_disk;
mod gateway_faults;
mod gateways;
mod late_retries;
mod leaving;
mod local_run;
mod log_lines;
mod metadata;
mod metrics;
mod one_transaction;
mod openapi;
mod operations;
mod operators;
mod orders;
mod other_versions;
mod pages;
mod parking;
mod paying;
mod payment_races;
mod policies;
mod production;
mod products;
mod raw_http;
mod reconcile;
mod records;
mod refunds;
mod resolving;
mod retries;
mod scripted;
mod silence;
mod silent_process;
mod stage;
mod stage_bounds;
mod stale_plans;
mod stock;
mod unread_answers;
mod update;
mod verified;
mod webhooks;
mod wrong_settings;

fn prepare_template(url: &str) {
    idempotent_payments::db::migrate(url).unwrap();
    idempotent_payments::demo::seed(&mut support::connect(url)).unwrap();
}
