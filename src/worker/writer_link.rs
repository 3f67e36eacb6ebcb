//! A worker's messages to the writer: error records, and the pages of the journal.
//!
//! Error records go into the writer's channel at the end of each turn. Records are lost if the
//! channel is full; their number is reported as soon as there is room. The journal is sent in
//! pages: when the open page is due, an empty one replaces it, and the writer returns the page
//! later. A worker never waits for an empty page: the open page fills up, and the engine counts
//! lost records.

use crate::config::Config;
use crate::control::{ToWriter, WriterMailbox};
use crate::engine::Forwarder;
use crate::engine::errors::QueryError;
use crate::engine::journal::{self, Page};
use crate::engine::shell::NOTICE_RETRY;
use crate::moment::Moment;
use crossbeam_channel::{Receiver, Sender, bounded};

/// Number of pages besides the open one, which limits the records that the writer has not read.
const PAGES: usize = 7;

/// A worker's end of the writer's channel, with the journal's pages except the open one.
pub(super) struct WriterLink {
    mailbox: WriterMailbox,
    /// Generation of the configuration whose records are sent.
    generation: u32,
    home: Sender<Page>,
    empty: Receiver<Page>,
    /// Number of pages that were created.
    pages: usize,
    /// Number of lost error records that were reported.
    lost_reported: u64,
    /// The number of lost records could not be reported yet.
    busy: bool,
    /// Time of the next attempt to send the open page, if the last one failed.
    page_retry: Option<Moment>,
}

impl WriterLink {
    /// Creates the link, with the pages that `config` needs.
    pub(super) fn new(mailbox: WriterMailbox, generation: u32, config: &Config) -> Self {
        let (home, empty) = bounded(PAGES);
        let mut link = Self {
            mailbox,
            generation,
            home,
            empty,
            pages: 0,
            lost_reported: 0,
            busy: false,
            page_retry: None,
        };
        link.reload(generation, config);
        link
    }

    /// Begins with an engine whose counters are zero.
    pub(super) fn begin(&mut self) {
        (self.lost_reported, self.busy, self.page_retry) = (0, false, None);
    }

    /// Begins a configuration; creates the pages if `config` needs them and there are none.
    pub(super) fn reload(&mut self, generation: u32, config: &Config) {
        self.generation = generation;
        while journal::is_kept(config) && self.pages < PAGES {
            // The channel has room for all pages.
            let _ = self.home.try_send(Page::new());
            self.pages += 1;
        }
    }

    /// Returns the reserved bytes.
    pub(super) fn reserved(&self) -> usize {
        self.pages * Page::reserved()
    }

    /// Allows another attempt to send the open page.
    pub(super) fn begin_turn(&mut self) {
        self.page_retry = None;
    }

    /// Returns true if the number of lost records could not be reported yet.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Returns the time at which the open page must be sent.
    pub(super) fn page_due(&self, engine: &Forwarder) -> Option<Moment> {
        self.page_retry.or_else(|| engine.page_due())
    }

    /// Sends the journal's page, which is due. Returns false if that is not possible now.
    pub(super) fn report_page(&mut self, now: Moment, engine: &mut Forwarder) -> bool {
        let sent = self.send_page(engine);
        self.page_retry = (!sent).then(|| now.plus(NOTICE_RETRY));
        sent
    }

    /// Sends the journal's page before a reload or the end; its records are lost if that is not
    /// possible.
    pub(super) fn end_page(&mut self, engine: &mut Forwarder) {
        if engine.page_due().is_some() && !self.send_page(engine) {
            engine.lose_page();
        }
        self.page_retry = None;
    }

    /// Sends the journal's page. Returns false if there is no empty page or the channel is full.
    fn send_page(&self, engine: &mut Forwarder) -> bool {
        let Ok(mut page) = self.empty.try_recv() else { return false };
        engine.swap_page(&mut page);
        let Err(mut page) = self.mailbox.try_send_page(self.generation, page, &self.home) else {
            return true;
        };
        engine.swap_page(&mut page);
        let _ = self.home.try_send(page);
        false
    }

    /// Sends an error record. Returns false if the channel is full.
    pub(super) fn report_error(&self, error: QueryError) -> bool {
        self.mailbox.try_send(ToWriter::Failed { generation: self.generation, error })
    }

    /// Reports the number of lost records, `lost` of the engine altogether.
    pub(super) fn report_lost(&mut self, lost: u64) {
        let new = lost - self.lost_reported;
        self.busy = new > 0 && !self.mailbox.try_send(ToWriter::Lost(new));
        if !self.busy {
            self.lost_reported = lost;
        }
    }
}
