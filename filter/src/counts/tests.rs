//! Counters and what is counted in them.

use isthmus_model::Refusal;

use super::*;

/// A place in the counts must be the place of its name: nothing else ties the two together.
#[test]
fn each_decision_has_its_own_counter() {
    let names: Vec<String> = names().collect();
    assert_eq!(names.len(), COUNTERS);
    let drained = |counts: &mut Counts| -> Vec<(String, i64)> {
        let counts = counts.drain();
        counts.map(|(at, by)| (names[at].clone(), by)).collect()
    };
    let mut counts = Counts::default();
    for code in Code::ALL {
        let refusal = Decision::Reject(Refusal::new(code, "no"));
        counts.add(&refusal);
        counts.add(&refusal);
        let want = vec![(format!("isthmus.refused.{code}"), 2)];
        assert_eq!(drained(&mut counts), want);
    }
    for kind in Kind::ALL {
        counts.add(&Decision::Route(isthmus_model::Route {
            service: "a",
            version: None,
            region: "us",
            kind,
            caller: None,
            hops: 0,
            granted: isthmus_model::Granted::Open,
            limits: isthmus_model::Limits::NONE,
        }));
        let want = vec![(format!("isthmus.routed.{}", kind.as_str()), 1)];
        assert_eq!(drained(&mut counts), want);
    }
    assert_eq!(drained(&mut counts), vec![], "handed over once");
}
