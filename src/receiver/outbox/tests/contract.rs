//! What both stores do alike.

use super::*;

/// Runs a test on a store in memory and on one on a disk.
macro_rules! on_both_stores {
    ($($name:ident($outbox:ident, $config:expr) $test:block)+) => {
        $(mod $name {
            use super::*;

            async fn test($outbox: Outbox) $test

            #[tokio::test]
            async fn in_memory() {
                test(Outbox::open(&$config).await.unwrap().0).await;
            }

            #[tokio::test]
            async fn on_a_disk() {
                let directory = tempfile::tempdir().unwrap();
                let config: OutboxConfig = $config;
                let config = OutboxConfig { limit: config.memory, kind: OutboxKind::Disk(directory.path().join("outbox")), ..config };
                test(Outbox::open(&config).await.unwrap().0).await;
            }
        })+
    };
}

/// Limits by the number of small deliveries.
fn room_for(all: u64, of_a_binding: u64) -> OutboxConfig {
    OutboxConfig { memory: all * cost(10), per_binding: of_a_binding * cost(10), ..config() }
}

on_both_stores! {
    keeps_the_order_of_arrival(outbox, config()) {
        let mut last = 0;
        for length in 0..5 {
            let sequence = keep(&outbox, record("team", "uid"), body(length)).await;
            assert!(sequence > last);
            last = sequence;
        }
        let found = export(&outbox).await;
        assert_eq!(found.iter().map(|(_, _, body)| body.len()).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert!(found.is_sorted_by_key(|(sequence, ..)| *sequence));
    }

    returns_bodies_of_every_length(outbox, config()) {
        for length in [0, 1, 8127, 8128, 8129, 65_535, 65_536, 65_537, 200_000, 25 * 1024 * 1024] {
            let sequence = keep(&outbox, record("team", "uid"), body(length)).await;
            assert!(outbox.body(sequence).await.unwrap() == body(length), "{length}");
            outbox.remove(sequence);
            assert_eq!(outbox.body(sequence).await, Err(BodyError::Gone));
        }
        assert_eq!(outbox.state().held, Held::default());
    }

    returns_the_last_state_of_each_event(outbox, config()) {
        let mut expected = record("team", "uid");
        let sequence = keep(&outbox, expected.clone(), body(1)).await;
        let parked = EventState::Parked { attempts: 2, next: TIME, redelivered: false };
        outbox.note(sequence, 0, 0, EventState::Accepted);
        outbox.note(sequence, 1, 0, DEAD);
        outbox.note(sequence, 1, 1, DEAD);
        outbox.note(sequence, 1, 1, parked.clone());
        outbox.note(sequence, 7, 7, DEAD);
        outbox.note(sequence + 1, 0, 0, DEAD);
        assert!(outbox.flush().await);
        expected.set(0, 0, EventState::Accepted);
        expected.set(1, 0, DEAD);
        expected.set(1, 1, parked);
        assert_eq!(export(&outbox).await, [(sequence, expected, body(1))]);
    }

    a_removed_record_is_gone_and_frees_its_room(outbox, room_for(2, 2)) {
        let first = keep(&outbox, record("team", "uid"), body(10)).await;
        let second = keep(&outbox, record("team", "uid"), body(10)).await;
        outbox.remove(first);
        outbox.remove(first);
        outbox.note(first, 0, 0, DEAD);
        let third = keep(&outbox, record("team", "uid"), body(10)).await;
        assert!(outbox.flush().await);
        assert_eq!(export(&outbox).await.into_iter().map(|(sequence, ..)| sequence).collect::<Vec<_>>(), [second, third]);
        assert_eq!(held_by(&outbox, "team", "uid"), Held { records: 2, bytes: 2 * cost(10) });
        assert_eq!(held_by(&outbox, "team", "other"), Held::default());
    }

    a_binding_over_its_share_loses_dead_letters_first(outbox, room_for(10, 3)) {
        let mut stored = Vec::new();
        for _ in 0..3 {
            stored.push(keep(&outbox, record("team", "uid"), body(10)).await);
        }
        let other = keep(&outbox, record("team", "other"), body(10)).await;
        for (sink, event) in [(0, 0), (1, 0), (1, 1)] {
            outbox.note(stored[1], sink, event, DEAD);
        }
        for expected in [stored[1], stored[0]] {
            let kept = outbox.keep(record("team", "uid"), body(10)).await;
            assert!(kept.result.is_ok());
            assert_eq!(kept.dropped, [Dropped { sequence: expected, uid: Arc::from("uid") }]);
            assert_eq!(outbox.body(expected).await, Err(BodyError::Gone));
        }
        assert!(outbox.body(other).await.is_ok());
    }

    a_full_store_takes_from_the_largest_namespace(outbox, room_for(4, 4)) {
        let small = keep(&outbox, record("small", "ua"), body(10)).await;
        let large = keep(&outbox, record("large", "ub"), body(10)).await;
        keep(&outbox, record("large", "uc"), body(10)).await;
        keep(&outbox, record("large", "ub"), body(10)).await;
        let kept = outbox.keep(record("fresh", "ud"), body(10)).await;
        assert_eq!(sequences(&kept.dropped), [large]);
        assert!(outbox.body(small).await.is_ok());
        let state = outbox.state();
        assert_eq!((state.held.records, state.held.bytes, state.limit), (4, 4 * cost(10), 4 * cost(10)));
        let namespaces = state.namespaces.iter().map(|(name, held)| (&**name, held.records)).collect::<Vec<_>>();
        assert_eq!(namespaces, [("fresh", 1), ("large", 2), ("small", 1)]);
    }

    a_record_over_the_share_is_refused_and_costs_nobody(outbox, room_for(4, 2)) {
        let first = keep(&outbox, record("team", "uid"), body(10)).await;
        let limit = 2 * cost(10);
        let kept = outbox.keep(record("team", "uid"), body(usize::try_from(limit).unwrap())).await;
        assert_eq!((kept.dropped, kept.result), (Vec::new(), Err(KeepError::TooLarge { limit })));
        assert!(outbox.body(first).await.is_ok());
    }

    concurrent_records_over_the_share_are_each_reported_once(outbox, room_for(3, 3)) {
        let kept = futures::future::join_all((0..20).map(|_| outbox.keep(record("team", "uid"), body(10)))).await;
        let mut dropped: Vec<_> = kept.iter().flat_map(|kept| sequences(&kept.dropped)).collect();
        let mut stored: Vec<_> = kept.into_iter().map(|kept| kept.result.unwrap().sequence).collect();
        stored.sort_unstable();
        dropped.sort_unstable();
        let left = stored.split_off(17);
        assert_eq!(dropped, stored);
        assert!(outbox.flush().await);
        assert_eq!(export(&outbox).await.into_iter().map(|(sequence, ..)| sequence).collect::<Vec<_>>(), left);
    }

    a_closed_outbox_refuses(outbox, config()) {
        keep(&outbox, record("team", "uid"), body(1)).await;
        outbox.close().await;
        outbox.close().await;
        assert_eq!(outbox.keep(record("team", "uid"), body(1)).await.result, Err(KeepError::Closed));
    }
}
