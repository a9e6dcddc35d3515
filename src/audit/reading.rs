//! Reads the rows of a ledger for those who check or copy all of them: page by page, ahead of whoever takes
//! them, and what is away from the export that holds it.

use projections::Fault;
use tokio::sync::mpsc;

use super::{
    archive::{self, Opened},
    judge::{Page, look},
    merkle::Hash,
    tiles,
    verify::NotVerified,
};
use crate::ledger::{Ledger, Stored, blank_erased};

/// Events of a page.
pub(super) const PAGE: usize = 4_096;
/// Pages that are read ahead of the judgement.
pub(super) const PAGES_AHEAD: usize = 4;

/// Reads a live ledger up to a position, ahead of the judge.
pub(super) fn read(
    ledger: Ledger,
    to: i64,
    with_tiles: bool,
    detached: Option<Opened>,
) -> mpsc::Receiver<Result<Page, NotVerified>> {
    let (pages, receiver) = mpsc::channel(PAGES_AHEAD);
    tokio::spawn(async move {
        let mut rows = match rows(ledger.clone(), to, detached).await {
            Ok(rows) => rows,
            Err(failed) => return drop(pages.send(Err(failed)).await),
        };
        while let Some(page) = rows.recv().await {
            let page = match page {
                Ok(page) if with_tiles => {
                    sealed(&ledger, &page).await.map(|sealed| (page, sealed)).map_err(Into::into)
                }
                page => page.map(|page| (page, Vec::new())),
            };
            let page =
                page.map(|(page, sealed)| tokio::task::spawn_blocking(move || look(page, &sealed)));
            let failed = page.is_err();
            if pages.send(page).await.is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// The leaves of some rows that are sealed.
async fn sealed(ledger: &Ledger, page: &[Stored]) -> Result<Vec<Hash>, Fault> {
    let (Some(first), Some(last)) = (page.first(), page.last()) else { return Ok(Vec::new()) };
    // Where some are missing the leaves are those of others; but that is judged first.
    let span = last.position.saturating_sub(first.position);
    if first.position < 1 || span >= PAGE as i64 {
        return Ok(Vec::new());
    }
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    tiles::of(&mut checkout.conn(), first.position, last.position).await
}

/// Reads the rows of a ledger up to a position, page by page, ahead of whoever takes them; those
/// that are away from the export that holds them, if it is at hand.
pub(super) async fn rows(
    ledger: Ledger,
    to: i64,
    detached: Option<Opened>,
) -> Result<mpsc::Receiver<Result<Vec<Stored>, NotVerified>>, NotVerified> {
    let away = ledger.away().await?;
    if let (Some(away), Some(opened)) = (&away, &detached) {
        archive::holds(opened, away)?;
    }
    let (pages, receiver) = mpsc::channel(PAGES_AHEAD);
    tokio::spawn(async move {
        // Before the first there is nothing; should somebody have put something there, it is seen.
        let mut after = i64::MIN;
        if let Some(away) = away {
            // Nothing else is left of the beginning; if somebody put something there, it is seen too.
            let first = some(&ledger, after, away.last.min(to)).await;
            let first = first.map(Option::unwrap_or_default).map_err(Into::into);
            if pages.send(first).await.is_err() {
                return;
            }
            let mut own = detached.map(|opened| opened.rows(2, away.last.min(to)));
            while let Some(own) = &mut own
                && let Some(page) = own.recv().await
            {
                let page = match page {
                    Ok(page) => as_here(&ledger, page).await.map_err(Into::into),
                    failed => failed,
                };
                if pages.send(page).await.is_err() {
                    return;
                }
            }
            after = away.last;
        }
        while after < to {
            let page = match some(&ledger, after, to).await {
                Ok(Some(page)) => Ok(page),
                Ok(None) => return,
                Err(fault) => Err(fault.into()),
            };
            after = page.iter().flatten().last().map_or(to, |last: &Stored| last.position);
            if pages.send(page).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Rows of an export, without what was erased here since it was made.
async fn as_here(ledger: &Ledger, mut page: Vec<Stored>) -> Result<Vec<Stored>, Fault> {
    let mut checkout = ledger.database().ledger_read.checkout().await?;
    blank_erased(&mut checkout.conn(), &mut page).await?;
    Ok(page)
}

/// The next rows up to a position.
async fn some(ledger: &Ledger, after: i64, to: i64) -> Result<Option<Vec<Stored>>, Fault> {
    let mut page = ledger.read_stored(after, PAGE as i64).await?;
    page.retain(|stored| stored.position <= to);
    Ok(Some(page).filter(|page| !page.is_empty()))
}
