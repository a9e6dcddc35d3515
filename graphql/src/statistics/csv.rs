//! Statistics as CSV (RFC 4180), a line for each group, for the export.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat};
use domain::message::Stage;
use projections::latency::Step;

use super::{ask::Group, tally::Tally};

/// Columns that tell groups apart; empty where nobody asked, or there is none.
const KEYS: [&str; 9] = [
    "begins",
    "protocol",
    "channel",
    "vendor",
    "reason",
    "task",
    "label",
    "device_type",
    "app_package",
];
/// The stages that are counted, each in four columns.
const STAGES: [(Stage, &str); 4] = [
    (Stage::Sent, "sent"),
    (Stage::Received, "received"),
    (Stage::Displayed, "displayed"),
    (Stage::Acknowledged, "acknowledged"),
];
/// What is told of each.
const PARTS: [&str; 4] = ["", "_pending", "_ended", "_unobservable"];

/// The first line: names of the columns.
#[must_use]
pub fn header() -> String {
    let mut line = KEYS.join(",") + ",targets";
    for (_, stage) in STAGES {
        for part in PARTS {
            line += &format!(",{stage}{part}");
        }
    }
    for step in Step::ALL {
        let name = step.name();
        line += &format!(",{name}_measured,{name}_p50_ms,{name}_p90_ms,{name}_p99_ms");
    }
    line + "\r\n"
}

/// The line of a group.
#[must_use]
pub fn line(group: &Group, tally: &Tally) -> String {
    let begins = group.begins.and_then(DateTime::from_timestamp_micros);
    let keys = [
        begins.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)),
        group.protocol.map(|protocol| protocol.name().to_owned()),
        group.way.map(|way| way.name().to_owned()),
        group.vendor.map(|vendor| vendor.name().to_owned()),
        group.reason.map(|reason| reason.name().to_owned()),
        group.task.map(|task| task.to_string()),
        group.label.as_deref().map(quoted),
        group.device_type.as_deref().map(quoted),
        group.app_package.as_deref().map(quoted),
    ];
    let mut line = keys.map(Option::unwrap_or_default).join(",");
    // Writing to a text never fails.
    let _ = write!(line, ",{}", tally.targets());
    for (stage, _) in STAGES {
        let split = tally.split(stage);
        let parts = [split.reached, split.pending, split.ended, split.unobservable];
        for part in parts {
            let _ = write!(line, ",{part}");
        }
    }
    for step in Step::ALL {
        match tally.latency(step, [0.5, 0.9, 0.99]) {
            None => line += ",,,,",
            Some((measured, times)) => {
                let _ = write!(line, ",{measured}");
                for time in times {
                    line += ",";
                    line += &time.map(|time| time.to_string()).unwrap_or_default();
                }
            }
        }
    }
    line + "\r\n"
}

/// A text that is safe in a line, and that no spreadsheet takes for a formula.
fn quoted(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}
