//! Subscribers of the ledger: [`follow`] reads it in order, [`views`] folds it into the views,
//! [`rebuild`] makes them anew beside those that are read, [`set_aside`] tells what they could not
//! fold, [`effects`] runs what must happen because something was recorded, with a durable checkpoint.

pub mod effects;
mod fold;
pub mod follow;
pub mod rebuild;
pub mod set_aside;
pub mod views;
