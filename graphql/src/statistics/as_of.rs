//! Statistics as they were at a position: the sum of what every event up to it moved.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::message::MessageId;
use projections::{
    Fault,
    db::Conn,
    delivery_stats::{LatencyRow, Span, SumRow, What},
    journal, task_statistics,
};

use super::{
    ask::{MAX_ROWS, NoAnswer, Reading, Rows, much},
    tally::Tally,
};

/// Answers a question as of a position, which the views include.
pub(super) async fn read(
    conn: &mut Conn<'_>,
    reading: &mut Reading<'_>,
    position: i64,
) -> Result<(), NoAnswer> {
    let (app, asked) = (reading.app, reading.asked);
    let (spans, timed) = (asked.zoned(), asked.timed());
    let (of_tasks, of_kinds) = (asked.of_tasks(), asked.of_kinds());
    let most = usize::try_from(MAX_ROWS).unwrap_or(usize::MAX);
    // By the place of the span and the number of the bucket, and by what else was asked for.
    let mut sums = HashMap::new();
    let mut too_many = false;
    journal::moved(conn, app, position, |key, deliveries| {
        let span = spans.partition_point(|span| span.to <= key.bucket_at);
        let Some(own) = spans.get(span).filter(|span| span.from <= key.bucket_at) else { return };
        if matches!(key.what, What::Took(..)) && !timed {
            return;
        }
        let bucket = (key.bucket_at + own.offset) / own.width;
        let task = key.task.filter(|_| of_tasks);
        let kind = if of_kinds { key.kind } else { 0 };
        if sums.len() < most {
            *sums.entry((span, bucket, key.protocol, task, kind, key.what)).or_default() +=
                deliveries;
        } else {
            too_many = true;
        }
    })
    .await?;
    if too_many {
        return Err(much());
    }
    let tasks: BTreeSet<i64> = sums.keys().filter_map(|key| Some(key.3?.0)).collect();
    let labels = task_statistics::labels(conn, &tasks.into_iter().collect::<Vec<_>>()).await?;
    let mut counts: BTreeMap<usize, Rows<SumRow>> = BTreeMap::new();
    let mut times: BTreeMap<usize, Rows<LatencyRow>> = BTreeMap::new();
    for ((span, bucket, protocol, task, kind, what), deliveries) in sums {
        if asked.only_tasks() && task.is_none() {
            continue;
        }
        let label = task.and_then(|task| labels.get(&task.0).cloned());
        let task = task.map(|task| task.0);
        match what {
            What::In(cell) => {
                let row = SumRow { bucket, protocol, kind, cell, deliveries };
                counts.entry(span).or_default().push((task, label, row));
            }
            What::Took(way, step, millis) => {
                let row = LatencyRow { bucket, protocol, kind, way, step, millis, deliveries };
                times.entry(span).or_default().push((task, label, row));
            }
        }
    }
    let span_at = |at: usize| -> Option<Span> { spans.get(at).copied() };
    for (at, rows) in counts {
        if let Some(span) = span_at(at) {
            reading.add_counts(span, rows);
        }
    }
    for (at, rows) in times {
        if let Some(span) = span_at(at) {
            reading.add_times(span, rows);
        }
    }
    Ok(())
}

/// How far the deliveries of one task of an app were at a position, which the views include.
pub(crate) async fn of_task(
    conn: &mut Conn<'_>,
    app: &str,
    task: MessageId,
    position: i64,
) -> Result<Tally, Fault> {
    let mut tally = Tally { latencies: Some(BTreeMap::new()), ..Tally::default() };
    journal::moved(conn, app, position, |key, deliveries| {
        if key.task != Some(task) {
            return;
        }
        match key.what {
            What::In(cell) => *tally.cells.entry(cell).or_default() += deliveries,
            What::Took(_, step, millis) => {
                let times = tally.latencies.get_or_insert_default().entry(step).or_default();
                *times.entry(millis).or_default() += deliveries;
            }
        }
    })
    .await?;
    tally.cells.retain(|_, deliveries| *deliveries != 0);
    Ok(tally)
}
