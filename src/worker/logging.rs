//! Messages of a worker to the writer, and to the keeper about retired connections.
//!
//! The engine's records go into the writer's channel at the end of each turn. What finds no room is
//! lost; the number is reported as soon as there is room again. The journal goes there by the
//! page: when the open one is due, an empty one takes its place, and the writer sends it back. If
//! all are under way no worker waits for one: the open page fills, and the engine counts lost
//! records.

use super::turn::EventLoop;
use crate::config::Config;
use crate::control::{ToKeeper, ToWriter};
use crate::engine::PoolId;
use crate::engine::errors::QueryError;
use crate::engine::journal::{self, Page};
use crate::engine::shell::NOTICE_RETRY;
use crate::moment::Moment;
use crossbeam_channel::{Receiver, Sender, bounded};

/// Pages besides the open one: what a worker can have said before the writer has read any of it.
const PAGES: usize = 7;

/// The pages of a worker's journal that are not open.
pub(super) struct Pages {
    home: Sender<Page>,
    empty: Receiver<Page>,
    count: usize,
}

impl Pages {
    /// As many as `config` needs.
    pub(super) fn new(config: &Config) -> Self {
        let (home, empty) = bounded(PAGES);
        let mut pages = Self { home, empty, count: 0 };
        pages.provide(config);
        pages
    }

    /// Makes them if `config` needs them and there are none.
    pub(super) fn provide(&mut self, config: &Config) {
        while journal::is_kept(config) && self.count < PAGES {
            // The channel has room for all that there are.
            let _ = self.home.try_send(Page::new());
            self.count += 1;
        }
    }

    /// The bytes that they have reserved.
    pub(super) fn reserved(&self) -> usize {
        self.count * Page::reserved()
    }
}

impl EventLoop<'_> {
    /// Tells the keeper how many connections the pool has retired since it was last told: all that
    /// has happened up to a sweep of it. What the keeper cannot take now goes with the next.
    pub(super) fn report_retired(&mut self, pool: PoolId) {
        let Some(retired) = self.engine.retired(pool) else { return };
        if self.retired_told.len() <= pool.index() {
            self.retired_told.resize(pool.index() + 1, 0);
        }
        let told = &mut self.retired_told[pool.index()];
        let count = retired.saturating_sub(*told);
        let report = ToKeeper::Retired { upstream: pool.upstream(), count };
        if count > 0 && self.slot.keeper.try_send(report).is_ok() {
            *told = retired;
        }
    }

    /// The pools have other numbers: whatever they have retired by now is as if told.
    pub(super) fn renumber_retired(&mut self) {
        let pools = (0..).map(PoolId::from_index);
        self.retired_told = pools.map_while(|pool| self.engine.retired(pool)).collect();
    }

    /// Hands the journal's page, which is due, to the writer. False if it cannot take it now.
    pub(super) fn report_page(&mut self, now: Moment) -> bool {
        let sent = self.send_page();
        self.page_retry = (!sent).then(|| now.plus(NOTICE_RETRY));
        sent
    }

    /// Hands the journal's page to the writer: what comes next does not belong to it.
    pub(super) fn end_page(&mut self) {
        if self.engine.page_due().is_some() && !self.send_page() {
            self.engine.lose_page();
        }
        self.page_retry = None;
    }

    /// False if no other page is empty, or the writer cannot take it now.
    fn send_page(&mut self) -> bool {
        let (pages, generation) = (&self.slot.pages, self.slot.assignment.generation);
        let Ok(mut page) = pages.empty.try_recv() else { return false };
        self.engine.swap_page(&mut page);
        let Err(mut page) = self.slot.writer.try_send_page(generation, page, &pages.home) else {
            return true;
        };
        self.engine.swap_page(&mut page);
        let _ = pages.home.try_send(page);
        false
    }

    /// Hands a record of an error to the writer. False if that has no room for it.
    pub(super) fn report_error(&mut self, error: QueryError) -> bool {
        let generation = self.slot.assignment.generation;
        self.slot.writer.try_send(ToWriter::Failed { generation, error })
    }

    /// Tells the writer how many records it did not get.
    pub(super) fn report_lost_errors(&mut self) {
        let lost = self.engine.stats_mut().errors_lost;
        let untold = lost - self.errors_told;
        self.writer_busy = untold > 0 && !self.slot.writer.try_send(ToWriter::Lost(untold));
        if !self.writer_busy {
            self.errors_told = lost;
        }
    }
}
