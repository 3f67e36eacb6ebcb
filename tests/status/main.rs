//! The status page, `onward top`, the dashboard and the alert rules.
//!
//! [`page`] and [`browser`] test the page, as markup and in Chromium; [`screen`], [`fetching`] and
//! [`snapshot`] test `onward top`; [`tuning`] tests the files for Grafana and Prometheus.

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
