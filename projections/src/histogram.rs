//! Times in buckets that can be added up: four to each doubling, so that a quantile is right within
//! a fifth. Histograms of chunks, tasks and days merge by adding their counts.

/// Steps of each doubling.
const STEPS: i64 = 4;

/// The bucket of a time in ms.
#[must_use]
pub fn bucket_of(millis: i64) -> i64 {
    if millis < STEPS {
        return millis.max(0);
    }
    // The doubling it lies in, and which quarter of that.
    let doubling = i64::from(millis.ilog2());
    let quarter = (millis >> (doubling - 2)) & (STEPS - 1);
    (doubling - 1) * STEPS + quarter
}

/// The least time in ms of a bucket.
#[must_use]
pub fn least_of(bucket: i64) -> i64 {
    if bucket < STEPS {
        return bucket.max(0);
    }
    let (doubling, quarter) = (bucket / STEPS + 1, bucket % STEPS);
    (STEPS + quarter) << (doubling - 2).min(60)
}

/// The time in ms below which a share of all lies, by buckets with their counts in order; `None`
/// of nothing. It is the end of a bucket.
#[must_use]
pub fn quantile(buckets: &[(i64, i64)], share: f64) -> Option<i64> {
    let all: i64 = buckets.iter().map(|(_, count)| count).sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "counts are far below 2^52"
    )]
    let wanted = (all as f64 * share).ceil() as i64;
    let mut below = 0;
    for (bucket, count) in buckets {
        below += count;
        if below >= wanted {
            return Some(least_of(bucket + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_in_its_bucket() {
        let far = (0..60).map(|power| 1_i64 << power).flat_map(|at| [at - 1, at, at + at / 3]);
        for millis in (0..5_000).chain(far) {
            let bucket = bucket_of(millis);
            assert!(least_of(bucket) <= millis, "{millis}");
            assert!(millis < least_of(bucket + 1), "{millis}");
        }
    }

    #[test]
    fn a_quantile_is_the_end_of_the_bucket_that_it_lies_in() {
        assert_eq!(quantile(&[], 0.5), None);
        let buckets = [(bucket_of(10), 98), (bucket_of(1_000), 2)];
        assert_eq!(quantile(&buckets, 0.5), Some(12));
        assert_eq!(quantile(&buckets, 0.99), Some(least_of(bucket_of(1_000) + 1)));
    }
}
