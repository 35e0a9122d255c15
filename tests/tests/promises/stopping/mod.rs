//! Cancelling at each moment of a command's life that can be held still: what it would do is said beforehand, what it
//! did is so afterwards, and no restart changes either.

mod moments;
mod restarts;
mod scene;
mod undoing;
