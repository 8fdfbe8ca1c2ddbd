use super::*;

#[test]
fn a_job_is_remembered_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    assert_eq!(ledger.job().unwrap(), None);
    let job = JobIdentity {
        settings: json!({"stride": 2, "p": 0.1_f32}),
        run: "a1".into(),
    };
    ledger.begin_job(&job).unwrap();
    ledger.set_metadata("started", Some("1")).unwrap();
    drop(ledger);
    let mut ledger = Ledger::open(dir.path()).unwrap();
    assert_eq!(ledger.job().unwrap(), Some(job.clone()));
    assert_eq!(ledger.metadata("started").unwrap().as_deref(), Some("1"));
    ledger.set_metadata("started", None).unwrap();
    assert_eq!(ledger.metadata("started").unwrap(), None);
    let other = JobIdentity {
        settings: json!({}),
        run: "b2".into(),
    };
    for note in [CLOSED, PAUSED, CANCELLED] {
        ledger.set_metadata(note, Some("x")).unwrap();
    }
    ledger.begin_job(&other).unwrap();
    assert_eq!(ledger.job().unwrap(), Some(other));
    assert_eq!(ledger.metadata(CLOSED).unwrap(), None);
    // An operator's decision outlives the job.
    for note in [PAUSED, CANCELLED] {
        assert_eq!(ledger.metadata(note).unwrap().as_deref(), Some("x"));
    }
}

#[test]
fn an_identity_is_made_once_and_outlives_the_job() {
    let [dir, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    assert!(Ledger::open_read_only(dir.path()).unwrap().is_none());
    let mut ledger = Ledger::open(dir.path()).unwrap();
    assert_eq!(ledger.identity().unwrap(), "");
    ledger.ensure_identity().unwrap();
    let identity = ledger.identity().unwrap();
    assert_eq!(identity.len(), 32, "{identity}");
    let job = JobIdentity {
        settings: json!({}),
        run: "a1".into(),
    };
    ledger.begin_job(&job).unwrap();
    ledger.ensure_identity().unwrap();
    assert_eq!(ledger.identity().unwrap(), identity);
    // While another connection has it open, and after.
    let read = || Ledger::open_read_only(dir.path()).unwrap().unwrap();
    assert_eq!(read().identity().unwrap(), identity);
    drop(ledger);
    assert_eq!(read().identity().unwrap(), identity);
    assert!(read().set_metadata("x", Some("y")).is_err());
    let mut ledger = Ledger::open(other.path()).unwrap();
    ledger.ensure_identity().unwrap();
    assert_ne!(ledger.identity().unwrap(), identity);
}

#[test]
fn a_file_that_is_no_ledger_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(LEDGER_NAME);
    std::fs::write(&path, "this is text and no database, by far".repeat(200)).unwrap();
    let error = Ledger::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::BadLedger { .. }), "{error}");
    std::fs::remove_file(&path).unwrap();
    drop(Ledger::open(dir.path()).unwrap());
    let db = Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(db);
    let error = Ledger::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("version 99"), "{error}");
}

#[test]
fn a_ledger_of_the_version_before_gets_the_tables_that_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    drop(Ledger::open(dir.path()).unwrap());
    let db = Connection::open(dir.path().join(LEDGER_NAME)).unwrap();
    db.execute_batch("DROP TABLE part; DROP TABLE frames_file; PRAGMA user_version = 2")
        .unwrap();
    drop(db);
    let old = Ledger::open_read_only(dir.path()).unwrap().unwrap();
    assert!(old.clips().unwrap().is_empty());
    drop(old);
    let ledger = Ledger::open(dir.path()).unwrap();
    assert!(ledger.part_names().unwrap().is_empty());
    assert_eq!(version(&ledger.db).unwrap(), SCHEMA_VERSION);
}
