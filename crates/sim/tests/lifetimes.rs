//! Identities over many lifetimes, the short form; the long one is the scorecard's (R6).

use clawker_sim::lifetimes::{Plan, run};

#[test]
fn no_call_fails_over_sixty_lifetimes_and_four_rotations_that_are_cut_at_each_step() {
    let outcome = run(&Plan::SHORT).expect("played to its end");
    println!("{outcome:?}");
    assert_eq!((outcome.failed, outcome.why), (0, Vec::new()));
    let asked = u64::from(Plan::SHORT.agents * Plan::SHORT.lifetimes * Plan::SHORT.leaf_s);
    assert!(outcome.calls > asked * 8 / 10, "{} calls of {asked}", outcome.calls);
    assert_eq!(outcome.rotations, u64::from(Plan::SHORT.rotations));
    assert!(
        outcome.crashes > 3 * outcome.rotations,
        "each step was cut, and one outage"
    );
    assert!(
        outcome.recoveries >= u64::from(Plan::SHORT.agents),
        "an outage of three lives heals alone"
    );
    assert!(outcome.broken > 0 && outcome.bundles > u64::from(Plan::SHORT.agents));
}
