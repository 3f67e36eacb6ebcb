//! A worker's messages to the writer, and to the keeper about retired connections.
//!
//! Error records go into the writer's channel at the end of each turn. Records are lost if the
//! channel is full; their number is reported as soon as there is room. The journal is sent in
//! pages: when the open page is due, an empty one replaces it, and the writer returns the page
//! later. A worker never waits for an empty page: the open page fills up, and the engine counts
//! lost records.

use super::turn::EventLoop;
use crate::config::Config;
use crate::control::{ToKeeper, ToWriter};
use crate::engine::PoolId;
use crate::engine::errors::QueryError;
use crate::engine::journal::{self, Page};
use crate::engine::shell::NOTICE_RETRY;
use crate::moment::Moment;
use crossbeam_channel::{Receiver, Sender, bounded};

/// Number of pages besides the open one, which limits the records that the writer has not read.
const PAGES: usize = 7;

/// The pages of a worker's journal except the open one.
pub(super) struct Pages {
    home: Sender<Page>,
    empty: Receiver<Page>,
    count: usize,
}

impl Pages {
    /// Creates the pages that `config` needs.
    pub(super) fn new(config: &Config) -> Self {
        let (home, empty) = bounded(PAGES);
        let mut pages = Self { home, empty, count: 0 };
        pages.provide(config);
        pages
    }

    /// Creates the pages if `config` needs them and there are none.
    pub(super) fn provide(&mut self, config: &Config) {
        while journal::is_kept(config) && self.count < PAGES {
            // The channel has room for all pages.
            let _ = self.home.try_send(Page::new());
            self.count += 1;
        }
    }

    /// Returns the reserved bytes.
    pub(super) fn reserved(&self) -> usize {
        self.count * Page::reserved()
    }
}

impl EventLoop<'_> {
    /// Reports the number of connections that the pool has retired since the last report. If the
    /// keeper's channel is full, they are included in the next report.
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

    /// Marks all retired connections as reported, because the pools have new numbers.
    pub(super) fn renumber_retired(&mut self) {
        let pools = (0..).map(PoolId::from_index);
        self.retired_told = pools.map_while(|pool| self.engine.retired(pool)).collect();
    }

    /// Sends the journal's page, which is due, to the writer. Returns false if that is not possible
    /// now.
    pub(super) fn report_page(&mut self, now: Moment) -> bool {
        let sent = self.send_page();
        self.page_retry = (!sent).then(|| now.plus(NOTICE_RETRY));
        sent
    }

    /// Sends the journal's page to the writer before a reload or the end; its records are lost if
    /// that is not possible.
    pub(super) fn end_page(&mut self) {
        if self.engine.page_due().is_some() && !self.send_page() {
            self.engine.lose_page();
        }
        self.page_retry = None;
    }

    /// Sends the journal's page. Returns false if there is no empty page or the writer's channel is
    /// full.
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

    /// Sends an error record to the writer. Returns false if its channel is full.
    pub(super) fn report_error(&mut self, error: QueryError) -> bool {
        let generation = self.slot.assignment.generation;
        self.slot.writer.try_send(ToWriter::Failed { generation, error })
    }

    /// Reports the number of lost records to the writer.
    pub(super) fn report_lost_errors(&mut self) {
        let lost = self.engine.stats_mut().errors_lost;
        let untold = lost - self.errors_told;
        self.writer_busy = untold > 0 && !self.slot.writer.try_send(ToWriter::Lost(untold));
        if !self.writer_busy {
            self.errors_told = lost;
        }
    }
}
