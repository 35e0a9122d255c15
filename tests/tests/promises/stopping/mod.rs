//! Cancelling at each moment of a command's life that a test can hold: the preview says what cancelling would do, the
//! result agrees with it, and no restart changes either.

mod moments;
mod restarts;
mod scene;
mod undoing;
