//! The demo's terminal: lines that stay, and below them one line that is drawn again and again.

use std::{
    io::{IsTerminal, Write},
    sync::{LazyLock, Mutex, PoisonError},
};

use crate::cli;

/// Whether one line can be drawn over.
static DRAWS: LazyLock<bool> = LazyLock::new(|| {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stdout().is_terminal() && !dumb
});

/// Whether styles are wanted (no-color.org).
static COLOURS: LazyLock<bool> = LazyLock::new(|| {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    *DRAWS && !refused
});

/// Whether the cursor stands in a line that was drawn.
static DRAWN: Mutex<bool> = Mutex::new(false);

/// Goes to the line's beginning and removes it.
const CLEAR: &str = "\r\u{1b}[2K";

/// Whether [`draw`] shows anything.
pub(super) fn draws() -> bool {
    *DRAWS
}

/// A line that stays.
pub(super) fn say(text: &str) {
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    let clear = if std::mem::take(&mut *drawn) { CLEAR } else { "" };
    cli::say(&format!("{clear}{text}"));
}

/// Draws the one line that changes, on a terminal.
pub(super) fn draw(text: &str) {
    if !draws() {
        return;
    }
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    *drawn = true;
    let mut out = std::io::stdout().lock();
    // Who closed the terminal misses nothing.
    let _ = out.write_all(format!("{CLEAR}{text}").as_bytes()).and_then(|()| out.flush());
}

/// A text in a style (an SGR code), on a terminal that wants it.
pub(super) fn styled(code: &str, text: &str) -> String {
    if *COLOURS { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Bold on a terminal.
pub(super) fn bold(text: &str) -> String {
    styled("1", text)
}
