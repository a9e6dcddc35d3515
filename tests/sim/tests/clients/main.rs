//! The clients against a server that follows a script: it repeats, cuts, refuses and says goodbye
//! on demand, which a healthy server won't. The device client is there twice: the simulated one,
//! and the Python reference.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod calls;
mod python;
mod script;
mod simulated;
