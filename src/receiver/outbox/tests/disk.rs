//! What only a disk can do: survive, be shared by many, break and be damaged.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::receiver::outbox::contents::Batch;
use crate::receiver::outbox::disk::pieces;

fn in_directory(directory: &Path) -> OutboxConfig {
    OutboxConfig::new(OutboxKind::Disk(directory.join("outbox")))
}

#[tokio::test]
async fn everything_is_there_after_a_restart_and_the_numbers_continue() {
    let directory = tempfile::tempdir().unwrap();
    let (outbox, stored) = Outbox::open(&in_directory(directory.path())).await.unwrap();
    assert_eq!(stored, []);
    let mut expected = Vec::new();
    for (number, length) in (0..).zip([0, 65_535, 65_536, 65_537, 1_000_000]) {
        let record = record("team", &format!("uid-{number}"));
        expected.push((keep(&outbox, record.clone(), body(length)).await, record, body(length)));
    }
    let last = keep(&outbox, record("team", "uid"), body(1)).await;
    outbox.note(expected[1].0, 1, 1, DEAD);
    expected[1].1.set(1, 1, DEAD);
    outbox.note(expected[2].0, 0, 0, DEAD);
    for sequence in [expected.remove(2).0, last] {
        outbox.remove(sequence);
    }
    let state = outbox.state();
    outbox.close().await;

    let (outbox, stored) = Outbox::open(&in_directory(directory.path())).await.unwrap();
    assert_eq!(stored, expected.iter().map(|(sequence, record, _)| (*sequence, record.clone())).collect::<Vec<_>>());
    assert!(export(&outbox).await == expected);
    assert_eq!((outbox.state().held, outbox.state().namespaces), (state.held, state.namespaces));
    for (sequence, ..) in expected {
        outbox.remove(sequence);
    }
    outbox.close().await;

    let (outbox, stored) = Outbox::open(&in_directory(directory.path())).await.unwrap();
    assert_eq!(stored, []);
    assert!(keep(&outbox, record("team", "uid"), body(1)).await > last);
}

#[tokio::test]
async fn many_deliveries_share_few_syncs() {
    let storage = Storage::default();
    let (outbox, _) = open_on(&storage, &config(), TIMING).await.unwrap();
    storage.set_slowness(Duration::from_millis(5));
    let before = outbox.state().commits;
    let kept = futures::future::join_all((0..100).map(|_| outbox.keep(record("team", "uid"), body(100)))).await;
    assert!(kept.iter().all(|kept| kept.result.is_ok_and(|place| place.durable)));
    let commits = outbox.state().commits - before;
    assert!(commits <= 20, "{commits} commits");
}

#[tokio::test]
async fn states_alone_are_written_together_and_soon() {
    let storage = Storage::default();
    let timing = Timing { changes: Duration::from_millis(200), ..TIMING };
    let (outbox, _) = open_on(&storage, &config(), timing).await.unwrap();
    let sequence = keep(&outbox, record("team", "uid"), body(1)).await;
    let before = outbox.state().commits;
    for attempts in 0..50 {
        outbox.note(sequence, 0, 0, EventState::Parked { attempts, next: TIME, redelivered: false });
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let last = EventState::Parked { attempts: 49, next: TIME, redelivered: false };
    while open_on(&storage.after_crash(), &config(), TIMING).await.unwrap().1[0].1.sinks[0].events[0].1 != last {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let commits = outbox.state().commits - before;
    assert!(commits <= 10, "{commits} commits");
}

#[tokio::test]
async fn a_caller_that_stops_waiting_leaves_no_record() {
    let storage = Storage::default();
    let (outbox, _) = open_on(&storage, &config(), TIMING).await.unwrap();
    storage.set_slowness(Duration::from_millis(50));
    let kept = tokio::time::timeout(Duration::from_millis(5), outbox.keep(record("team", "uid"), body(100))).await;
    assert!(kept.is_err());
    assert_eq!(outbox.state().held, Held::default());
    assert!(outbox.flush().await);
    let (_, stored) = open_on(&storage.after_crash(), &config(), TIMING).await.unwrap();
    assert_eq!(stored, []);
}

#[tokio::test]
async fn only_the_owner_may_read_the_directory_and_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = directory.path().join("outbox/outbox.redb");
    let (outbox, _) = Outbox::open(&in_directory(directory.path())).await.unwrap();
    assert_eq!((mode(&directory.path().join("outbox")), mode(&file)), (0o700, 0o600));
    outbox.close().await;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let (_outbox, _) = Outbox::open(&in_directory(directory.path())).await.unwrap();
    assert_eq!(mode(&file), 0o600);
}

#[tokio::test]
async fn a_file_that_was_created_in_part_is_created_again() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("outbox")).unwrap();
    let in_part = directory.path().join("outbox/outbox.redb.new");
    fs::write(&in_part, [0; 4096]).unwrap();
    let (outbox, _) = Outbox::open(&in_directory(directory.path())).await.unwrap();
    assert!(!in_part.exists());
    keep(&outbox, record("team", "uid"), body(1)).await;
    outbox.close().await;
    assert_eq!(Outbox::open(&in_directory(directory.path())).await.unwrap().1.len(), 1);
}

#[tokio::test]
async fn a_second_user_of_the_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (outbox, _) = Outbox::open(&in_directory(directory.path())).await.unwrap();
    let error = Outbox::open(&in_directory(directory.path())).await.err().unwrap();
    assert!(matches!(error, OpenError::InUse(_)), "{error:?}");
    let message = error.to_string();
    assert!(message.starts_with("--outbox-dir: ") && message.contains("outbox.redb is in use by another process"), "{message}");
    outbox.close().await;
    assert!(Outbox::open(&in_directory(directory.path())).await.is_ok());
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("outbox"), "a file").unwrap();
    let error = Outbox::open(&in_directory(directory.path())).await.err().unwrap();
    assert!(matches!(error, OpenError::Unusable { .. }), "{error:?}");
    assert!(error.to_string().contains("outbox.redb cannot be used"), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (outbox, _) = Outbox::open(&in_directory(directory.path())).await.unwrap();
    for _ in 0..3 {
        keep(&outbox, record("team", "uid"), body(10_000)).await;
    }
    let expected = export(&outbox).await;
    outbox.close().await;
    let file = directory.path().join("outbox/outbox.redb");
    let intact = fs::read(&file).unwrap();
    let mut damaged = vec![b"no database at all".to_vec(), intact[..intact.len() / 2].to_vec(), vec![0; intact.len()]];
    damaged.extend((0..intact.len()).step_by(1531).map(|place| {
        let mut content = intact.clone();
        content[place] ^= 0xff;
        content
    }));
    let mut refused = 0;
    for content in damaged {
        fs::write(&file, &content).unwrap();
        match Outbox::open(&in_directory(directory.path())).await {
            // The damage is where nothing is stored.
            Ok((outbox, _)) => {
                assert!(export(&outbox).await == expected);
                outbox.close().await;
            }
            Err(error) => {
                assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
                assert!(error.to_string().contains("move it away to start with an empty outbox"), "{error}");
                assert!(file.exists());
                refused += 1;
            }
        }
    }
    assert!(refused > 10, "{refused}");
    fs::rename(&file, directory.path().join("outbox/damaged.redb")).unwrap();
    assert!(Outbox::open(&in_directory(directory.path())).await.is_ok());
}

#[tokio::test]
async fn a_file_of_another_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    Outbox::open(&in_directory(directory.path())).await.unwrap().0.close().await;
    let database = redb::Database::open(directory.path().join("outbox/outbox.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<&str, u64>::new("meta")).unwrap().insert("format", 2_u64).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Outbox::open(&in_directory(directory.path())).await.err().unwrap();
    assert!(error.to_string().contains("has the format 2 and this version reads 1"), "{error}");
}

#[tokio::test]
async fn while_the_disk_is_broken_records_stay_in_memory_and_move_to_it_later() {
    for broken in [Broken::Everything, Broken::Syncs] {
        let storage = Storage::default();
        let config = OutboxConfig { memory: 3 * cost(10), ..config() };
        let (outbox, _) = open_on(&storage, &config, TIMING).await.unwrap();
        let on_disk = keep(&outbox, record("team", "was"), body(10)).await;
        let removed_meanwhile = keep(&outbox, record("team", "was"), body(10)).await;
        storage.set_broken(broken);
        let mut in_memory = Vec::new();
        for _ in 0..3 {
            let kept = outbox.keep(record("team", "mid"), body(10)).await;
            let place = kept.result.unwrap();
            assert!(!place.durable && kept.dropped.is_empty());
            in_memory.push(place.sequence);
        }
        let state = outbox.state();
        assert!(!state.healthy && state.error.is_some() && state.in_memory == 3 * cost(10), "{state:?}");
        assert_eq!(outbox.keep(record("team", "mid"), body(10)).await.result, Err(KeepError::Full));
        assert!(!outbox.flush().await);
        // The first of them was in the transaction that failed, and may be on the disk.
        for sequence in [removed_meanwhile, in_memory.remove(0)] {
            outbox.remove(sequence);
        }
        outbox.note(on_disk, 0, 0, DEAD);
        outbox.note(in_memory[0], 0, 0, DEAD);
        assert!(outbox.body(in_memory[0]).await.is_ok());
        let during = keep(&outbox, record("team", "mid"), body(10)).await;
        storage.set_broken(Broken::Nothing);
        until_healthy(&outbox, true).await;
        let after = keep(&outbox, record("team", "new"), body(10)).await;
        assert!(outbox.flush().await);
        assert_eq!(outbox.state().in_memory, 0);
        let expected = [on_disk, in_memory[0], in_memory[1], during, after];
        let (reopened, _) = open_on(&storage.after_crash(), &config, TIMING).await.unwrap();
        for outbox in [outbox, reopened] {
            let found = export(&outbox).await;
            assert_eq!(found.iter().map(|(sequence, ..)| *sequence).collect::<Vec<_>>(), expected);
            assert!(found.iter().all(|(_, _, found)| *found == body(10)));
            assert!(found.iter().take(2).all(|(_, record, _)| record.sinks[0].events[0].1 == DEAD));
        }
    }
}

#[tokio::test]
async fn a_body_on_a_broken_disk_is_unavailable_and_not_gone() {
    let storage = Storage::default();
    let (outbox, _) = open_on(&storage, &config(), TIMING).await.unwrap();
    let sequence = keep(&outbox, record("team", "uid"), body(10)).await;
    storage.set_broken(Broken::Everything);
    outbox.note(sequence, 0, 0, DEAD);
    until_healthy(&outbox, false).await;
    let error = loop {
        match outbox.body(sequence).await {
            // It is still in redb's cache.
            Ok(found) => assert_eq!(found, body(10)),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BodyError::Unavailable(_)), "{error:?}");
    assert!(matches!(outbox.delivery(sequence).await, Err(BodyError::Unavailable(_))));
    storage.set_broken(Broken::Nothing);
    until_healthy(&outbox, true).await;
    assert_eq!(outbox.body(sequence).await, Ok(body(10)));
}

#[tokio::test]
async fn an_outbox_that_is_closed_while_the_disk_is_broken_ends() {
    let storage = Storage::default();
    let (outbox, _) = open_on(&storage, &config(), Timing { retry: Duration::from_secs(3600), ..TIMING }).await.unwrap();
    storage.set_broken(Broken::Everything);
    assert!(!outbox.keep(record("team", "uid"), body(10)).await.result.unwrap().durable);
    storage.set_broken(Broken::Nothing);
    outbox.close().await;
    let (_, stored) = open_on(&storage.after_crash(), &config(), TIMING).await.unwrap();
    assert_eq!(stored.len(), 1, "it tries the disk once more before it ends");
}

#[test]
fn pieces_make_up_the_body_and_fill_their_pages() {
    for length in (0..200_000).step_by(997).chain([0, 4031, 4032, 4033, 65_471, 65_472, 65_473]) {
        let body = body(length);
        let pieces = pieces(&body);
        assert_eq!(pieces.concat(), body);
        let pages: usize = pieces.iter().map(|piece| (piece.len() + 20).next_power_of_two().max(4096)).sum();
        assert!(!pieces.is_empty() && pages <= length + length / 64 + 8192, "{length}: {pages}");
    }
}

/// A state that tells moves apart.
const fn parked(attempts: u32) -> EventState {
    EventState::Parked { attempts, next: TIME, redelivered: false }
}

#[tokio::test]
async fn a_state_that_changes_while_records_move_to_the_disk_is_the_one_that_is_kept() {
    let storage = Storage::default();
    // The test is the writer.
    let timing = Timing { changes: Duration::from_secs(3600), retry: Duration::from_secs(3600) };
    let (outbox, _) = open_on(&storage, &config(), timing).await.unwrap();
    let disk = outbox.disk.clone().unwrap();
    outbox.shared.lock().disk_error = Some("no space left".to_owned());
    let sequence = keep(&outbox, record("team", "uid"), body(10)).await;
    let take = |move_first: bool| {
        let mut contents = outbox.shared.lock();
        if move_first {
            contents.move_memory_to_disk();
        }
        contents.take_waiting()
    };
    let first = take(true);
    outbox.note(sequence, 0, 0, parked(1));
    // It fails, but it is on the disk: with the state before the change.
    disk.write(&first, None).unwrap();
    let changes = take(false);
    disk.write(&changes, None).unwrap();
    let uncertain = Batch { notes: changes.notes, keeps: first.keeps, ..Batch::default() };
    outbox.shared.lock().not_written(uncertain, "no space left".to_owned());
    outbox.note(sequence, 0, 0, parked(2));
    let second = take(true);
    disk.write(&second, None).unwrap();
    outbox.shared.lock().written(second);
    let (found, _) = outbox.delivery(sequence).await.unwrap();
    assert_eq!(found.sinks[0].events[0].1, parked(2));
}
