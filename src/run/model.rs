//! The protocol, tried out: every order in which the calls of two overlapping ticks can take effect, with a crash
//! before or after every one of them and somebody else's change between any two, over the real code of [`run`].
//!
//! The world has one document, one desired count and a queue that does not change. Each call of a tick waits until the search
//! lets it take effect. Orders that no tick can tell apart, by what its calls returned, are gone through once and
//! counted as often as they occur.

mod protocol;
mod search;
mod ticks;
mod world;

/// Whether a test wants the order of writes turned round.
pub(super) fn acts_first() -> bool {
    world::ACTS_FIRST.get()
}
