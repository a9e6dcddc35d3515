//! Calls of the same kind, gathered into one row each until they are written.

use std::collections::HashMap;

use super::{Access, MAX_SUBJECTS, Outcome};

/// Kinds of calls that are gathered at once; those of one more find no room until all are written.
const MAX_KINDS: usize = 1_024;

/// What makes two calls the same.
#[derive(PartialEq, Eq, Hash)]
struct Kind {
    outcome: Outcome,
    caller: String,
    address: Option<String>,
    via: &'static str,
    operation: String,
    app: Option<String>,
    code: Option<String>,
}

/// Rows that still grow.
#[derive(Default)]
pub(super) struct Gathered(HashMap<Kind, Access>);

impl Gathered {
    /// Adds a call; false if there is no room.
    pub(super) fn add(&mut self, access: Access) -> bool {
        let kind = Kind {
            outcome: access.outcome,
            caller: access.caller.clone(),
            address: access.address.clone(),
            via: access.via,
            operation: access.operation.clone(),
            app: access.app.clone(),
            code: access.code.clone(),
        };
        if let Some(row) = self.0.get_mut(&kind) {
            row.at = row.at.min(access.at);
            row.last_at = row.last_at.max(access.last_at);
            row.calls = row.calls.saturating_add(access.calls);
            row.records = match (row.records, access.records) {
                (Some(one), Some(other)) => Some(one.saturating_add(other)),
                (one, other) => one.or(other),
            };
            row.fields.extend(access.fields);
            for subject in access.subjects {
                if row.subjects.len() < MAX_SUBJECTS {
                    row.subjects.insert(subject);
                }
            }
            return true;
        }
        if self.0.len() >= MAX_KINDS {
            return false;
        }
        self.0.insert(kind, access);
        true
    }

    /// All rows, in order of time.
    pub(super) fn take(&mut self) -> Vec<Access> {
        let mut rows: Vec<Access> = std::mem::take(&mut self.0).into_values().collect();
        rows.sort_unstable_by_key(|row| row.at);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(caller: &str, at: i64) -> Access {
        let access = Access::answered(caller.to_owned(), "ums", "devlist".to_owned());
        Access { at, last_at: at, ..access.with(2).about([format!("account:{at}")]) }
    }

    #[test]
    fn calls_of_one_kind_become_one_row_with_a_count_and_few_subjects() {
        let mut gathered = Gathered::default();
        for at in 0..100 {
            assert!(gathered.add(access("app:a", at)));
        }
        assert!(gathered.add(access("app:b", 7)));
        let rows = gathered.take();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].at, rows[0].last_at, rows[0].calls), (0, 99, 100));
        assert_eq!((rows[0].records, rows[0].subjects.len()), (Some(200), MAX_SUBJECTS));
        assert_eq!(rows[1].calls, 1);
        assert!(gathered.take().is_empty());
    }

    #[test]
    fn more_kinds_than_there_is_room_for_are_turned_away_and_known_ones_are_not() {
        let mut gathered = Gathered::default();
        for n in 0..MAX_KINDS {
            assert!(gathered.add(access(&format!("app:{n}"), 0)));
        }
        assert!(!gathered.add(access("one more", 0)));
        assert!(gathered.add(access("app:0", 1)));
    }
}
