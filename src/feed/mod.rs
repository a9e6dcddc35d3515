//! Subscribers of the ledger: [`follow`] reads it in order, [`views`] folds it into the views,
//! [`effects`] runs what must happen because something was recorded, with a durable checkpoint.

pub mod effects;
pub mod follow;
pub mod views;
