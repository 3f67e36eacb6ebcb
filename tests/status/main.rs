//! What people look at: the status page, `onward top`, the dashboard and the alert rules.
//!
//! [`page`] and [`browser`] are about the page, as markup and as Chromium draws it; [`screen`],
//! [`fetching`] and [`snapshot`] about `onward top`; [`tuning`] about the files for Grafana and
//! Prometheus.

mod browser;
mod fetching;
mod fixtures;
#[path = "../common/installed.rs"]
mod installed;
mod markup;
#[path = "../common/metrics.rs"]
mod metrics;
mod page;
mod screen;
mod serving;
mod snapshot;
mod tuning;
