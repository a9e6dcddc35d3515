//! The page on the protocol says of every return code when it comes.

use pushledger::http::ums::codes::Code;

use crate::conformance::quoted;

#[test]
fn the_page_says_of_every_code_when_it_comes() {
    for (code, _) in Code::ALL {
        let page = include_str!("../../docs/protocols/haier-ums-v2.md");
        assert!(quoted(page).any(|text| text == *code), "{code} is not on the page");
    }
}
