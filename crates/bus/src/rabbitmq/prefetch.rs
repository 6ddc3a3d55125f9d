//! How many messages a consumer has the broker send ahead: fewer where they are large.
//!
//! AMQP bounds what a broker sends ahead by messages alone, and two hundred answers of ten megabytes are more than a
//! microservice may have. A broker cannot be told otherwise while it sends, and a quorum queue not for a whole channel;
//! so a tap through which too many bytes came takes no more, and the next one asks for fewer messages. One through
//! which few came for a while makes room for a wider one. By then all of its messages are settled, since who consumes in
//! batches settles one before the next. Where messages stay in hand the prefetch is fixed: what waits, was going to be
//! held anyway.

/// The most bytes of bodies that wait in a consumer to be handed out, unless a single one is larger.
pub(super) const WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// By how much narrower, or wider, the next tap is.
const STEP: u16 = 4;

/// After so many messages it is seen whether they were small.
const LOOKED_AT: usize = 256;

/// What should be done about the prefetch of a tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Too many bytes came.
    Narrower,
    /// What comes would fit though more were sent ahead.
    Wider,
}

/// The prefetch of a consumer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefetch {
    /// What was asked for.
    full: u16,
    present: u16,
    is_fixed: bool,
}

impl Prefetch {
    pub(super) fn new(full: u16) -> Self {
        Self { full, present: full, is_fixed: false }
    }

    /// One that stays, whatever comes.
    pub(super) fn fixed(full: u16) -> Self {
        Self { is_fixed: true, ..Self::new(full) }
    }

    /// Messages, at least one.
    pub(super) fn present(self) -> u16 {
        self.present.max(1)
    }

    pub(super) fn apply(&mut self, change: Change) {
        self.present = match change {
            Change::Narrower => self.present / STEP,
            Change::Wider => self.wider(),
        };
    }

    fn wider(self) -> u16 {
        self.present().saturating_mul(STEP).min(self.full)
    }

    fn is_narrowed(self) -> bool {
        self.present < self.full
    }
}

/// The sizes of what comes through one tap.
#[derive(Debug)]
pub(super) struct Sizes {
    prefetch: Prefetch,
    waiting: usize,
    seen: usize,
    largest: usize,
}

impl Sizes {
    pub(super) fn new(prefetch: Prefetch) -> Self {
        Self { prefetch, waiting: 0, seen: 0, largest: 0 }
    }

    /// Whether so large a message has room beside those that wait.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.prefetch.is_fixed || self.waiting == 0 || self.waiting.saturating_add(bytes) <= WAITING_BYTES_MAX
    }

    /// One came, and waits. Says whether more might be sent ahead.
    pub(super) fn came(&mut self, bytes: usize) -> Option<Change> {
        self.waiting += bytes;
        self.seen += 1;
        self.largest = self.largest.max(bytes);
        if self.seen < LOOKED_AT {
            return None;
        }
        let largest = std::mem::take(&mut self.largest);
        self.seen = 0;
        let would_fit = largest.saturating_mul(self.prefetch.wider().into()) <= WAITING_BYTES_MAX;
        (self.prefetch.is_narrowed() && would_fit).then_some(Change::Wider)
    }

    /// One waits no longer.
    pub(super) fn went(&mut self, bytes: usize) {
        self.waiting -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefetch_is_never_less_than_one_nor_more_than_was_asked_for() {
        let mut prefetch = Prefetch::new(200);
        let narrower = [(); 5].map(|()| {
            prefetch.apply(Change::Narrower);
            prefetch.present()
        });
        assert_eq!(narrower, [50, 12, 3, 1, 1]);
        let wider = [(); 5].map(|()| {
            prefetch.apply(Change::Wider);
            prefetch.present()
        });
        assert_eq!(wider, [4, 16, 64, 200, 200]);
    }

    #[test]
    fn only_a_message_alone_may_be_larger_than_the_room() {
        let mut sizes = Sizes::new(Prefetch::new(200));
        assert!(sizes.has_room(WAITING_BYTES_MAX + 1));
        sizes.came(WAITING_BYTES_MAX - 1);
        assert!(sizes.has_room(1));
        assert!(!sizes.has_room(2));
        sizes.went(WAITING_BYTES_MAX - 1);
        assert!(sizes.has_room(2));
        let mut sizes = Sizes::new(Prefetch::fixed(64));
        sizes.came(WAITING_BYTES_MAX);
        assert!(sizes.has_room(1));
    }

    #[test]
    fn a_narrowed_tap_is_widened_once_what_comes_is_small() {
        let come = |prefetch: Prefetch, bytes: usize| {
            let mut sizes = Sizes::new(prefetch);
            let mut changes = (0..LOOKED_AT).map(|_| sizes.came(bytes)).collect::<Vec<_>>();
            let last = changes.pop().flatten();
            assert!(changes.iter().all(Option::is_none), "it changed before it had seen enough");
            last
        };
        let mut narrowed = Prefetch::new(200);
        narrowed.apply(Change::Narrower);
        assert_eq!(come(narrowed, 1024), Some(Change::Wider));
        assert_eq!(come(narrowed, WAITING_BYTES_MAX / 100), None);
        assert_eq!(come(Prefetch::new(200), 1024), None);
    }
}
