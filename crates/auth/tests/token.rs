//! What the fuzz target `token` holds, for the saved inputs and for drawn bytes.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use weir_auth::{ClaimRules, Verifier};
use weir_core::clock;

#[path = "../../../fuzz/src/token.rs"]
pub mod fuzz;

#[test]
fn the_corpus_of_tokens_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/token");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is in the repository") {
        fuzz::token(&std::fs::read(entry.expect("a listed file").path()).expect("a readable file"));
        count += 1;
    }
    assert!(count > 0, "no corpus in {}", folder.display());
}

#[test]
fn only_checks_that_are_short_are_made_on_an_event_loop() {
    let keys = fuzz::samples::keys().into_iter().map(Arc::new).collect();
    let verifier = Verifier::new(ClaimRules::default(), keys, None);
    for sample in fuzz::samples::samples() {
        let slow = ["rsa8192", "p384"].contains(&sample.key);
        assert_eq!(verifier.is_quick(sample.token, clock::now()), !slow, "{}", sample.key);
    }
    // The header `{"alg":"RS256"}`: three keys fit, and the sum counts.
    assert!(!verifier.is_quick("eyJhbGciOiJSUzI1NiJ9.e30.AAAA", clock::now()));
    assert!(verifier.is_quick("no token at all", clock::now()));
}

proptest! {
    #[test]
    fn no_bytes_are_a_token(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz::token(&data);
    }

    #[test]
    fn a_good_token_that_was_changed_is_none(
        which in any::<u8>(),
        changes in prop::collection::vec(any::<[u8; 4]>(), 1..4),
    ) {
        fuzz::token(&[&[3, which][..], changes.as_flattened()].concat());
    }
}
