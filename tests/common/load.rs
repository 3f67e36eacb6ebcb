//! Load on a server while something happens to it.
//!
//! The event begins after a first answer, and the load ends after an answer to a later query than
//! the event, so that neither depends on how soon the client's thread runs. [`Options`] choose the
//! queries; their duration is only the bound of a test that fails.

use crate::until::{TIMEOUT, until};
use onward::traffic::client::{self, Load, Options, Run};
use onward::traffic::tally::Tally;

/// Keeps the queries of `options` outstanding before, while and after `during` runs.
#[track_caller]
pub(crate) fn ask_during(mut options: Options, during: impl FnOnce()) -> Tally {
    options.timeout = TIMEOUT;
    if let Load::Closed { duration, .. } = &mut options.load {
        *duration = Some(10 * TIMEOUT);
    }
    let client = client::run(&options).unwrap();
    wait_for_answer(&client, "answers before the event");
    during();
    // The first change may be of answers that came earlier, because counts are published rarely.
    wait_for_answer(&client, "answers of the time of the event");
    wait_for_answer(&client, "answers after the event");
    client.stop();
    client.join().unwrap()
}

/// Waits until the client has published more answers than it has now.
#[track_caller]
fn wait_for_answer(client: &Run, what: &str) {
    let before = client.counts().answered;
    until(what, || (client.counts().answered > before).then_some(()));
}
