//! A thread that stands for a whole world: what services on it take for the clock, for chance and for threads is
//! told by whoever made the world. Without the feature `simulation` nothing of it is compiled in, and without
//! [`enter`] nothing of it has an effect.

pub(crate) mod lockstep;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::time::Timestamp;

/// What is decided outside of the services.
pub trait World: 'static {
    /// The wall clock of whoever runs now.
    fn now(&self) -> Timestamp;

    /// A number by chance.
    fn chance(&self) -> u64;

    /// How long this takes now, in virtual time.
    fn time_for(&self, what: Takes) -> Duration;

    /// Whether a machine steps ahead of the commit that begins now, however small that is: large ones are rare.
    fn steps_ahead(&self) -> bool;
}

/// What takes time besides the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A commit, before it is durable.
    Commit,
    /// A step of a thread's work, before it is made.
    Step,
}

thread_local! {
    static WORLD: RefCell<Option<Rc<dyn World>>> = const { RefCell::new(None) };
}

/// Left when dropped.
#[derive(Debug)]
pub struct Entered(());

/// From here on this thread, and no other, is in `world`.
pub fn enter(world: Rc<dyn World>) -> Entered {
    WORLD.set(Some(world));
    Entered(())
}

impl Drop for Entered {
    fn drop(&mut self) {
        // Where the thread ends nobody is in it any more either way.
        let _ = WORLD.try_with(|world| world.take());
    }
}

/// The world that this thread is in.
pub(crate) fn world() -> Option<Rc<dyn World>> {
    WORLD.with_borrow(Clone::clone)
}

/// Lets the virtual time pass that this takes; none where there is no world.
pub(crate) async fn pass(what: Takes) {
    let time = world().map(|world| world.time_for(what));
    if let Some(time) = time {
        tokio::time::sleep(time).await;
    }
}
