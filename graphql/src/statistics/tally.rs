//! Deliveries counted by where they are, and what follows from it: how many got to a stage, how many
//! may still, how many will not, and of how many nobody can tell.

use std::collections::BTreeMap;

use domain::message::{Ending, Stage};
use projections::{
    Fault, delivery_stats::Cell, histogram, latency::Step, message_status::DeliveryRow,
    task_statistics::Counts,
};

/// A histogram: buckets with their deliveries.
pub type Histogram = BTreeMap<i64, i64>;

/// Deliveries by cell, and how long their steps took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Deliveries by cell; never 0.
    pub cells: BTreeMap<Cell, i64>,
    /// Times of each step; `None` where they are not kept apart in this way.
    pub latencies: Option<BTreeMap<Step, Histogram>>,
}

/// All deliveries of a tally, each in one of four.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Split {
    /// They got to the stage.
    pub reached: i64,
    /// They may still get there, and it will be told.
    pub pending: i64,
    /// They stopped trying before.
    pub ended: i64,
    /// They were handed over on a way that does not tell whether they got there.
    pub unobservable: i64,
}

/// From one stage to another, over what could be observed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Converted {
    /// Deliveries that got to the first stage on ways that tell of the second.
    pub base: i64,
    /// Those of them that got to the second.
    pub reached: i64,
    /// Deliveries that got to the first stage on ways that do not tell of the second.
    pub left_out: i64,
    /// Those of them whose devices told of it by themselves.
    pub left_out_reached: i64,
}

/// Whether deliveries in a cell can be told to have got to a stage.
fn tells(cell: Cell, stage: Stage) -> bool {
    let observes = cell.observes();
    match stage {
        Stage::Accepted | Stage::Routed | Stage::Sent => true,
        Stage::Received => observes.received,
        Stage::Displayed => observes.displayed,
        Stage::Acknowledged => observes.clicked,
    }
}

impl Tally {
    /// The tally of a message.
    pub(crate) fn of_message(accepted_at: i64, rows: &[DeliveryRow]) -> Tally {
        let (mut cells, mut latencies) = (BTreeMap::new(), BTreeMap::<_, Histogram>::new());
        for row in rows {
            *cells.entry(Cell::of(&row.delivery)).or_default() += 1;
            for step in Step::ALL {
                if let (Some(begin), Some(end)) = step.ends(accepted_at, &row.times) {
                    let bucket = histogram::bucket_of((end - begin).max(0) / 1_000);
                    *latencies.entry(step).or_default().entry(bucket).or_default() += 1;
                }
            }
        }
        Tally { cells, latencies: Some(latencies) }
    }

    /// The tally of a task.
    pub(crate) fn of_task(counts: &Counts) -> Result<Tally, Fault> {
        let cells: Result<_, Fault> =
            counts.cells.iter().map(|row| Ok((row.cell()?, row.deliveries))).collect();
        let steps = Step::ALL.into_iter().zip(&counts.latencies);
        let latencies = steps.map(|(step, buckets)| (step, buckets.iter().copied().collect()));
        Ok(Tally { cells: cells?, latencies: Some(latencies.collect()) })
    }

    /// Adds another; where times of one are not kept apart, they are of neither.
    pub(crate) fn add(&mut self, other: &Tally) {
        let first = self.cells.is_empty();
        for (cell, count) in &other.cells {
            *self.cells.entry(*cell).or_default() += count;
        }
        let own = if first { Some(BTreeMap::new()) } else { self.latencies.take() };
        self.latencies = own.zip(other.latencies.as_ref()).map(|(mut own, others)| {
            for (step, histogram) in others {
                let own: &mut Histogram = own.entry(*step).or_default();
                for (bucket, count) in histogram {
                    *own.entry(*bucket).or_default() += count;
                }
            }
            own
        });
    }

    /// All deliveries.
    #[must_use]
    pub fn targets(&self) -> i64 {
        self.cells.values().sum()
    }

    /// Deliveries that stopped trying, whatever they had got to.
    #[must_use]
    pub fn ended(&self) -> i64 {
        self.cells.iter().filter(|(cell, _)| cell.ended.is_some()).map(|(_, count)| count).sum()
    }

    /// Deliveries that got to a stage, or further.
    #[must_use]
    pub fn reached(&self, stage: Stage) -> i64 {
        self.cells.iter().filter(|(cell, _)| cell.stage >= stage).map(|(_, count)| count).sum()
    }

    /// Deliveries by what is to be said of a stage.
    #[must_use]
    pub fn split(&self, stage: Stage) -> Split {
        let mut split = Split::default();
        for (cell, count) in &self.cells {
            let part = if cell.stage >= stage {
                &mut split.reached
            } else if cell.stage >= Stage::Sent && !tells(*cell, stage) {
                &mut split.unobservable
            } else if cell.ended.is_some() {
                &mut split.ended
            } else {
                &mut split.pending
            };
            *part += count;
        }
        split
    }

    /// From one stage to another. Who reports on a way that nobody has to report on is no sample of
    /// those who do not, so these are left out of both sides.
    #[must_use]
    pub fn conversion(&self, from: Stage, to: Stage) -> Converted {
        let mut converted = Converted::default();
        for (cell, count) in self.cells.iter().filter(|(cell, _)| cell.stage >= from) {
            let reached = if cell.stage >= to { *count } else { 0 };
            if tells(*cell, to) {
                converted.base += count;
                converted.reached += reached;
            } else {
                converted.left_out += count;
                converted.left_out_reached += reached;
            }
        }
        converted
    }

    /// Deliveries that stopped trying, by reason, in order of reason.
    #[must_use]
    pub fn reasons(&self, unsent: bool) -> BTreeMap<Ending, i64> {
        let mut reasons = BTreeMap::new();
        for (cell, count) in &self.cells {
            let Some(reason) = cell.ended else { continue };
            if !unsent || cell.stage < Stage::Sent {
                *reasons.entry(reason).or_default() += count;
            }
        }
        reasons
    }

    /// Times of a step, if they are kept: deliveries that were measured, and the time in ms below
    /// which each share of them lies.
    #[must_use]
    pub fn latency<const N: usize>(
        &self,
        step: Step,
        shares: [f64; N],
    ) -> Option<(i64, [Option<i64>; N])> {
        let histogram = self.latencies.as_ref()?.get(&step);
        let buckets: Vec<_> =
            histogram.into_iter().flatten().map(|(bucket, count)| (*bucket, *count)).collect();
        let measured = buckets.iter().map(|(_, count)| count).sum();
        Some((measured, shares.map(|share| histogram::quantile(&buckets, share))))
    }
}
