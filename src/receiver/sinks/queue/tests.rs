//! Tests of the queue of one sink, by hand and against sinks that are made up.

use proptest::prelude::*;

use super::*;

const LIFETIME: Duration = Duration::from_secs(72 * 60 * 60);

fn key(delivery: u64) -> EventKey {
    EventKey { at: Timestamp::UNIX_EPOCH, delivery, event: 0 }
}

/// A queue with a clock of its own.
struct Bench {
    queue: Queue,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { queue: Queue::default(), now: Instant::now() }
    }

    fn push(&mut self, delivery: u64, subject: &str) -> bool {
        self.queue.push(key(delivery), subject, self.now + LIFETIME, self.now)
    }

    /// Waits until something is to be sent, and returns it.
    fn sent(&mut self) -> u64 {
        for _ in 0..100 {
            match self.queue.next(self.now) {
                Next::Send(key) => return key.delivery,
                Next::Wait(Some(until)) => self.now = self.now.max(until),
                Next::Wait(None) => break,
            }
        }
        panic!("nothing is sent: {:?}", self.queue);
    }

    fn nothing_now(&mut self) {
        assert!(matches!(self.queue.next(self.now), Next::Wait(_)), "{:?}", self.queue);
    }

    fn finish(&mut self, delivery: u64, attempt: Attempt) -> Vec<Change> {
        self.queue.finish(key(delivery), attempt, self.now, 0.0)
    }

    fn send(&mut self, delivery: u64, attempt: Attempt) -> Vec<Change> {
        assert_eq!(self.sent(), delivery);
        self.finish(delivery, attempt)
    }
}

#[test]
fn a_parked_event_that_is_asked_for_while_it_is_under_way_is_sent_again_at_once() {
    let mut bench = Bench::new();
    bench.queue.push_parked(key(1), "main", bench.now + LIFETIME, Parked { times: 1, due: bench.now });
    assert_eq!(bench.sent(), 1);
    assert!(bench.queue.hurry_parked(key(1), bench.now));
    let changes = bench.finish(1, Attempt::Failed);
    assert_eq!(changes, [Change::Parked(key(1), Parked { times: 2, due: bench.now })], "the attempt began before the request");
    let begun = bench.now;
    let changes = bench.send(1, Attempt::Failed);
    assert_eq!(bench.now, begun);
    assert!(matches!(changes[..], [Change::Parked(_, Parked { times: 3, due })] if due > begun), "the request is carried out: {changes:?}");
}

#[test]
fn events_of_a_subject_are_sent_one_after_the_other_and_subjects_side_by_side() {
    let mut bench = Bench::new();
    for (delivery, subject) in [(1, "main"), (2, "main"), (3, "dev")] {
        assert!(bench.push(delivery, subject));
    }
    assert_eq!((bench.sent(), bench.sent()), (1, 3));
    bench.nothing_now();
    assert_eq!(bench.finish(1, Attempt::Accepted), [Change::Accepted(key(1))]);
    assert_eq!(bench.sent(), 2);
    bench.finish(2, Attempt::Accepted);
    bench.finish(3, Attempt::Accepted);
    assert!(
        bench.queue.is_empty()
            && bench.queue.subjects.is_empty()
            && bench.queue.armed.is_empty()
            && bench.queue.heads.is_empty()
            && bench.queue.expiries.is_empty()
    );
}

#[test]
fn an_older_event_that_another_receiver_hands_over_supersedes_no_newer_one() {
    let mut bench = Bench::new();
    let at = |second| EventKey { at: Timestamp::from_second(second).unwrap(), delivery: u64::try_from(100 - second).unwrap(), event: 0 };
    let expires = bench.now + LIFETIME;
    bench.queue.push(at(20), "main", expires, bench.now);
    assert_eq!(bench.queue.next(bench.now), Next::Send(at(20)));
    let changes = bench.queue.finish(at(20), Attempt::TooLarge, bench.now, 0.0);
    assert!(matches!(changes[..], [Change::Parked(key, _)] if key == at(20)));
    bench.queue.push(at(10), "main", expires, bench.now);
    assert_eq!(bench.queue.next(bench.now), Next::Send(at(10)));
    assert_eq!(bench.queue.finish(at(10), Attempt::Accepted, bench.now, 0.0), [Change::Accepted(at(10))]);
    assert!(!bench.queue.is_empty(), "the newer one stays parked");
}

#[test]
fn an_event_is_tried_again_before_the_next_of_its_subject() {
    let mut bench = Bench::new();
    bench.push(1, "main");
    assert_eq!(bench.send(1, Attempt::Failed), []);
    assert_eq!(bench.queue.state(), SinkState::Retrying);
    assert!(!bench.push(2, "main"), "it stands behind an event that has failed");
    assert!(bench.push(3, "dev"), "another subject does not");
    assert_eq!(bench.sent(), 3);
    bench.finish(3, Attempt::Accepted);
    assert_eq!(bench.send(1, Attempt::Accepted), [Change::Accepted(key(1))]);
    assert_eq!(bench.sent(), 2);
}

#[test]
fn an_event_that_alone_fails_is_parked_and_no_longer_holds_back_its_subject() {
    let mut bench = Bench::new();
    bench.push(1, "main");
    bench.push(2, "main");
    bench.push(3, "dev");
    assert_eq!((bench.sent(), bench.sent()), (1, 3));
    for _ in 0..2 {
        assert_eq!(bench.finish(1, Attempt::Failed), []);
        assert_eq!(bench.sent(), 1);
    }
    assert_eq!(bench.finish(1, Attempt::Failed), [], "the attempt under way tells who is at fault");
    let changes = bench.finish(3, Attempt::Accepted);
    let parked = Parked { times: 1, due: bench.now + LEAST_PARKED };
    assert_eq!(changes, [Change::Accepted(key(3)), Change::Parked(key(1), parked)]);
    assert_eq!(bench.queue.state(), SinkState::Retrying);
    assert_eq!(bench.send(2, Attempt::Accepted), [Change::Accepted(key(2)), Change::Superseded(key(1))]);
    assert!(bench.queue.is_empty());
}

#[test]
fn an_event_that_fails_while_others_are_accepted_is_parked_although_none_of_them_waits() {
    let mut bench = Bench::new();
    bench.push(1, "main");
    for _ in 0..3 {
        bench.send(1, Attempt::Failed);
    }
    assert_eq!(bench.queue.state(), SinkState::Down, "nothing else has been accepted");
    bench.push(2, "dev");
    assert_eq!(bench.send(2, Attempt::Accepted), [Change::Accepted(key(2))]);
    assert_eq!(bench.send(1, Attempt::Failed), [], "what failed during the outage does not count");
    assert_eq!(bench.send(1, Attempt::Failed), []);
    assert!(matches!(bench.send(1, Attempt::Failed)[..], [Change::Parked(parked, _)] if parked == key(1)));
}

#[test]
fn a_parked_event_is_tried_after_a_minute_and_then_ever_more_rarely() {
    let mut bench = Bench::new();
    bench.push(1, "main");
    let began = bench.now;
    assert!(matches!(bench.send(1, Attempt::TooLarge)[..], [Change::Parked(_, Parked { times: 1, .. })]), "413 parks at once");
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let before = bench.now;
        assert_eq!(bench.sent(), 1);
        pauses.push((bench.now - before).as_secs() / 60);
        bench.finish(1, Attempt::Failed);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert!(bench.now - began < LIFETIME);
    assert_eq!(bench.send(1, Attempt::Accepted), [Change::Accepted(key(1))]);
}

#[test]
fn a_sink_that_accepts_nothing_is_down_and_tried_once_a_minute_and_when_a_delivery_arrives() {
    let mut bench = Bench::new();
    bench.push(1, "main");
    for _ in 0..3 {
        assert_ne!(bench.queue.state(), SinkState::Down);
        bench.send(1, Attempt::Failed);
    }
    assert_eq!(bench.queue.state(), SinkState::Down, "there is no other subject");
    for _ in 0..12 {
        bench.send(1, Attempt::Failed);
    }
    let before = bench.now;
    bench.send(1, Attempt::Failed);
    assert_eq!(bench.now - before, LONGEST_PAUSE);
    assert!(!bench.push(2, "dev"), "nothing is accepted soon");
    let before = bench.now;
    assert_eq!(bench.send(2, Attempt::Failed), [], "subjects take turns");
    assert_eq!(bench.now - before, ARRIVAL_PAUSE);
    bench.nothing_now();
    let before = bench.now;
    assert_eq!(bench.sent(), 1);
    assert_eq!(bench.now - before, LONGEST_PAUSE);
    assert_eq!(bench.finish(1, Attempt::Accepted), [Change::Accepted(key(1))]);
    assert_eq!(bench.queue.state(), SinkState::Retrying);
    let before = bench.now;
    assert_eq!(bench.send(2, Attempt::Accepted), [Change::Accepted(key(2))]);
    assert_eq!(bench.now, before, "everything is sent at once");
    assert_eq!(bench.queue.state(), SinkState::Accepting);
}

#[test]
fn a_sink_is_down_when_another_subject_fails_too_and_what_alone_fails_after_that_is_parked() {
    let mut bench = Bench::new();
    bench.push(1, "main");
    bench.push(2, "dev");
    for _ in 0..3 {
        assert_eq!((bench.sent(), bench.sent()), (1, 2));
        bench.finish(1, Attempt::Failed);
        bench.finish(2, Attempt::Failed);
        bench.now += LONGEST_PAUSE;
    }
    assert_eq!(bench.queue.state(), SinkState::Down);
    let first = bench.sent();
    bench.finish(first, Attempt::Failed);
    let second = bench.sent();
    assert_ne!(first, second, "an event that the sink never accepts does not keep it down");
    bench.finish(second, Attempt::Accepted);
    assert_eq!(bench.queue.state(), SinkState::Retrying);
    for _ in 0..2 {
        assert_eq!(bench.send(first, Attempt::Failed), []);
    }
    assert!(matches!(bench.send(first, Attempt::Failed)[..], [Change::Parked(parked, _)] if parked == key(first)));
}

#[test]
fn an_event_expires_and_one_under_way_does_so_only_after_its_attempt() {
    let mut bench = Bench::new();
    bench.push(1, "main");
    bench.push(2, "main");
    assert_eq!(bench.sent(), 1);
    bench.now += LIFETIME;
    assert_eq!(bench.queue.expire(bench.now), [Change::Expired(key(2))]);
    assert_eq!(bench.finish(1, Attempt::Failed), []);
    assert_eq!(bench.queue.expire(bench.now), [Change::Expired(key(1))]);
    assert!(bench.queue.is_empty());
}

#[test]
fn what_is_held_waits_without_an_attempt_and_without_being_blamed() {
    let mut bench = Bench::new();
    bench.push(1, "main");
    assert_eq!(bench.send(1, Attempt::Held), []);
    assert_eq!(bench.queue.state(), SinkState::Down);
    assert_eq!(bench.send(1, Attempt::Accepted), [Change::Accepted(key(1))]);
}

#[test]
fn a_parked_event_of_an_earlier_run_keeps_its_schedule() {
    let mut bench = Bench::new();
    let parked = Parked { times: 3, due: bench.now + LEAST_PARKED };
    bench.queue.push_parked(key(1), "main", bench.now + LIFETIME, parked);
    assert!(bench.push(2, "main"), "it holds back nothing");
    assert_eq!(bench.send(2, Attempt::Accepted), [Change::Accepted(key(2)), Change::Superseded(key(1))]);
}

/// What a made-up sink does with an event.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Good,
    Poison,
    TooLarge,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// A sink that is up and down by turns gets every event that it ever accepts, in order within a subject, and whatever it never
    /// accepts holds back nothing.
    #[test]
    fn every_event_ends_and_good_ones_are_accepted_in_order(
        events in proptest::collection::vec((0..4_u8, prop_oneof![6 => Just(Kind::Good), 1 => Just(Kind::Poison), 1 => Just(Kind::TooLarge)]), 1..40),
        outages in proptest::collection::vec((1..200_u64, 1..200_u64), 0..4),
        jitter in 0.0..1.0_f64,
    ) {
        let mut bench = Bench::new();
        let began = bench.now;
        let mut borders = Vec::new();
        let mut at = 0;
        for (up, down) in outages {
            borders.push((at + up, at + up + down));
            at += up + down;
        }
        let is_up = |now: Instant| borders.iter().all(|(from, to)| !(*from..*to).contains(&(now - began).as_secs()));
        let kind = |delivery: u64| events[usize::try_from(delivery).unwrap()];
        let mut accepted: Vec<u64> = Vec::new();
        let mut dead = 0;
        let mut arrived = 0;
        let mut under_way: Vec<EventKey> = Vec::new();
        for _ in 0..200_000 {
            if arrived < events.len() && (arrived * 7) as u64 <= (bench.now - began).as_secs() {
                let delivery = arrived as u64;
                bench.push(delivery, &kind(delivery).0.to_string());
                arrived += 1;
                continue;
            }
            dead += bench.queue.expire(bench.now).len();
            if bench.queue.is_empty() && arrived == events.len() {
                break;
            }
            match bench.queue.next(bench.now) {
                Next::Send(key) => {
                    let subject = kind(key.delivery).0;
                    prop_assert!(under_way.iter().all(|other| kind(other.delivery).0 != subject), "two of one subject");
                    under_way.push(key);
                    prop_assert!(under_way.len() <= CONCURRENT);
                }
                Next::Wait(until) => {
                    if let Some(key) = under_way.pop() {
                        let attempt = match kind(key.delivery).1 {
                            _ if !is_up(bench.now) => Attempt::Failed,
                            Kind::Good => Attempt::Accepted,
                            Kind::Poison => Attempt::Failed,
                            Kind::TooLarge => Attempt::TooLarge,
                        };
                        for change in bench.queue.finish(key, attempt, bench.now, jitter) {
                            match change {
                                Change::Accepted(key) => accepted.push(key.delivery),
                                Change::Superseded(_) | Change::Expired(_) => dead += 1,
                                Change::Parked(..) => {}
                            }
                        }
                    } else {
                        let next_arrival = (arrived < events.len()).then(|| began + Duration::from_secs((arrived * 7) as u64));
                        let until = [until, next_arrival].into_iter().flatten().min();
                        prop_assert!(until.is_some(), "events wait for nothing: {:?}", bench.queue);
                        bench.now = bench.now.max(until.unwrap()) + Duration::from_millis(1);
                    }
                }
            }
        }
        prop_assert!(bench.queue.is_empty(), "{:?}", bench.queue);
        prop_assert_eq!(accepted.len() + dead, events.len());
        for subject in 0..4 {
            let of_subject: Vec<_> = accepted.iter().filter(|delivery| kind(**delivery).0 == subject).collect();
            prop_assert!(of_subject.is_sorted(), "{of_subject:?}");
        }
        // Where the first events of all subjects are never accepted, the sink cannot be told from one that is down.
        let is_poison = |(_, kind): &(u8, Kind)| matches!(kind, Kind::Poison);
        if borders.is_empty() && !events.iter().any(is_poison) {
            let good = (0..events.len() as u64).filter(|delivery| matches!(kind(*delivery).1, Kind::Good));
            for delivery in good {
                prop_assert!(accepted.contains(&delivery), "{delivery} is missing");
            }
        }
    }
}
