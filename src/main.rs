//! The binary. Everything is in the library, so that tests run the same code.

use std::process::ExitCode;

/// Commands, events and rows are born on one thread and die on another; this allocator minds less.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    pushledger::cli::main()
}
