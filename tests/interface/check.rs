//! `handloom check` as users run it: on a config, and on the files, brokers and cameras that it names.

use handloom::video::encode::Codec;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use test_support::broker::{Broker, find, make_certificates, password_file, tls_config};
use test_support::stub_broker::{Packet, StubBroker};
use test_support::{Run, handloom, handloom_with, render_clip, scratch};

/// A folder with a dataset of one clip and a valid config.
struct CheckFixture {
    folder: TempDir,
    config: PathBuf,
}

impl CheckFixture {
    fn new() -> Self {
        let folder = scratch();
        let at = |name: &str| folder.path().join(name);
        let dataset = at("dataset");
        let metadata =
            test_support::metadata(&[("wave", &[("00001", 1)]), ("rare", &[("00002", 1)])]);
        test_support::write_metadata(&dataset, &metadata);
        let clip = dataset.join("videos/00001.mp4");
        render_clip(&clip, 0, 4, (64, 48), Codec::H264);
        let config = at("handloom.toml");
        let text = format!(
            "[device]\nid = \"pi\"\n[dataset]\npath = {:?}\n[output]\npath = {:?}\n[plan]\nmin_videos_per_gloss = 1\n",
            dataset.display().to_string(),
            at("out/deep").display().to_string()
        );
        fs::write(&config, text).unwrap();
        Self { folder, config }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn check(&self, more: &[&str]) -> Run {
        let fixed = [
            "check".as_ref(),
            "--config".as_ref(),
            self.config.as_os_str(),
        ];
        handloom(fixed.into_iter().chain(more.iter().map(OsStr::new)))
    }

    /// Runs with changed settings. Asserts the exit code and one line: verdict, subject and words.
    #[track_caller]
    fn assert_result(
        &self,
        settings: &[&str],
        code: i32,
        verdict: &str,
        subject: &str,
        words: &[&str],
    ) {
        let mut args = Vec::new();
        for setting in settings {
            args.extend(["--set", setting]);
        }
        let run = self.check(&args).ends(code);
        let begin = format!("{verdict:<8} {subject:<10} ");
        let lines: Vec<&str> = run
            .stdout
            .lines()
            .filter(|l| l.starts_with(&begin))
            .collect();
        let is_line = |line: &&&str| words.iter().all(|word| line.contains(word));
        assert!(
            lines.iter().any(|line| is_line(&line)),
            "{words:?}: {}",
            run.stdout
        );
        // The same as JSON.
        args.push("--json");
        let run = self.check(&args).ends(code);
        let is_finding = |event: &Value| {
            let detail = event["detail"].as_str().unwrap();
            event["verdict"] == verdict.to_lowercase().replace('-', "absent")
                && event["subject"] == subject
                && words.iter().all(|word| detail.contains(word))
        };
        assert!(run.events().iter().any(is_finding), "{}", run.stdout);
    }
}

fn set(key: &str, path: &Path) -> String {
    format!("{key}={}", path.display())
}

#[test]
fn a_system_in_order_passes_every_check() {
    let fixture = CheckFixture::new();
    let run = fixture.check(&[]).ends(0);
    let subjects = run.stdout.lines().map(|l| l[9..20].trim());
    let mut subjects: Vec<&str> = subjects.filter(|s| !s.is_empty()).collect();
    subjects.dedup();
    assert_eq!(
        subjects,
        [
            "config", "device", "dataset", "models", "runtime", "accel", "decoder", "output",
            "mirror", "broker"
        ]
    );
    // Most machines lack most accelerators.
    assert!(
        run.stdout
            .lines()
            .all(|l| ["ok ", "-  ", "   "].iter().any(|s| l.starts_with(s))),
        "{}",
        run.stdout
    );
    for words in [
        &format!("ok       config     {}\n", fixture.config.display()),
        "1 of 2 instances and 1 glosses would be processed",
        "out/deep (will be created), ",
        "none: mqtt.url is not set",
    ] {
        assert!(run.stdout.contains(words), "no {words} in {}", run.stdout);
    }
    // The check leaves no file and creates none.
    let mut left: Vec<_> = fs::read_dir(fixture.folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["dataset", "handloom.toml"]);
}

#[test]
fn wrong_inputs_are_reported() {
    let fixture = CheckFixture::new();
    let check = |settings: &[&str], code, verdict, subject, words: &[&str]| {
        fixture.assert_result(settings, code, verdict, subject, words);
    };
    let gone = fixture.at("gone");
    let broken = fixture.at("broken.json");
    fs::write(&broken, "[{\n\"gloss\": 1").unwrap();

    let d = "dataset";
    check(&[&set("dataset.path", &gone)], 66, "FAIL", d, &["gone"]);
    check(&[&set("dataset.json", &gone)], 66, "FAIL", d, &["gone"]);
    check(&[&set("dataset.json", &broken)], 65, "FAIL", d, &["broken"]);
    let few = ["0 of 2 instances", "plan.min_videos_per_gloss"];
    check(&["plan.min_videos_per_gloss=9"], 0, "warn", d, &few);
    check(
        &["plan.selected_glosses=wave,wvae"],
        0,
        "warn",
        d,
        &["wvae"],
    );

    let m = "models";
    let palm = set("models.palm", &broken);
    check(
        &[&set("models.path", &gone)],
        66,
        "FAIL",
        m,
        &["models.path"],
    );
    check(&[&palm], 65, "FAIL", m, &["broken", "models.trust = true"]);
    check(&[&palm, "models.trust=true"], 65, "FAIL", m, &["broken"]);

    let a = "accel";
    let none = ["custom (the delegate", "gone"];
    let library = set("delegate.library", &gone);
    let preference = "run.accelerator=require:custom";
    check(&[&library, preference], 69, "FAIL", a, &none);
    let preference = "run.accelerator=prefer:custom";
    check(&[&library, preference], 0, "warn", a, &none);
    check(&[&library], 0, "-", a, &["custom"]);

    let c = "decoder";
    let unknown = ["run.decoder = nosuchdec", "gst-inspect"];
    check(&["run.decoder=nosuchdec"], 78, "FAIL", c, &unknown);
    let inexact = ["only software is proven exact"];
    check(&["run.decoder=avdec_h264"], 0, "warn", c, &inexact);
}

#[test]
fn unusable_folders_are_reported() {
    let fixture = CheckFixture::new();
    let check = |settings: &[&str], code, verdict, subject, words: &[&str]| {
        fixture.assert_result(settings, code, verdict, subject, words);
    };
    let gone = fixture.at("gone");
    let file = set("output.path", &fixture.config.join("out"));
    let not_writable = "output.path=/proc/handloom-out";

    let o = "output";
    let refused = ["/proc", "cannot be written"];
    check(&[not_writable], 73, "FAIL", o, &refused);
    check(&[&file], 73, "FAIL", o, &["handloom.toml", "cannot be"]);
    let full = ["MiB free", "limits.disk_reserve_mib = 1048575"];
    check(&["limits.disk_reserve_mib=1048575"], 73, "FAIL", o, &full);

    let m = "mirror";
    let missing = ["gone", "never creates it"];
    check(&[&set("output.mirror", &gone)], 73, "FAIL", m, &missing);
    assert!(!gone.exists());
    let here = set("output.mirror", fixture.folder.path());
    check(&[&here], 0, "warn", m, &["same file system", "mounted"]);

    // The mirror of a lost folder, with and without its identity file, and the mirror of lost takes.
    let other = fixture.at("other");
    fs::create_dir(&other).unwrap();
    let mirror = set("output.mirror", &other);
    let camera = set("camera.device", Path::new("file:nothing.png"));
    for (name, text) in [
        ("MIRROR_OF", "0123456789abcdef0123456789abcdef\n"),
        ("manifest.jsonl", "{}\n"),
        ("camera/manifest.jsonl", "{}\n"),
    ] {
        let file = other.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        let folder = file.parent().unwrap().display().to_string();
        let words = [&folder, "copy of another output folder", "empty folder"];
        if name.starts_with("camera") {
            check(&[&mirror], 0, "warn", m, &["same file system"]);
            check(&[&mirror, &camera], 66, "FAIL", m, &words);
        } else {
            check(&[&mirror], 73, "FAIL", m, &words);
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        fs::remove_file(&file).unwrap();
    }

    // The first failure decides.
    let both = [&set("dataset.path", &gone), not_writable];
    check(&both, 66, "FAIL", o, &refused);
}

#[test]
fn a_broker_is_tried() {
    let fixture = CheckFixture::new();
    let check = |settings: &[&str], code, verdict, words: &[&str]| {
        fixture.assert_result(settings, code, verdict, "broker", words);
    };
    let broker = Broker::start_with(false, |dir| {
        let users = password_file(dir, "u", "ge heim");
        format!("allow_anonymous false\npassword_file {}\n", users.display())
    });
    let at = |login: &str| format!("mqtt.url=tcp://{login}localhost:{}", broker.port());
    let right = at("u:ge%20heim@");
    check(
        &[&right],
        0,
        "ok",
        &["tcp://u:***@localhost", "accepts the login"],
    );
    let refused = ["user name", "password", "messages wait"];
    check(&[&at("u:wrong@")], 69, "FAIL", &refused);
    check(&[&at("")], 69, "FAIL", &refused);
    drop(broker);
    let away = ["u:***@", "refused", "is a broker running there?"];
    check(&[&right], 69, "FAIL", &away);
    // An unreachable broker and a worse failure: the worse one decides.
    check(&[&right, "output.path=/proc/x"], 73, "FAIL", &["refused"]);
    let nowhere = "mqtt.url=mqtt://nowhere.invalid";
    check(&[nowhere], 69, "FAIL", &["nowhere.invalid"]);
    let tls = ["mqtt.url=mqtts://localhost", "mqtt.ca_file=ca.pem"];
    check(&tls, 66, "FAIL", &["ca.pem", "mqtt.ca_file"]);
}

#[test]
fn a_broker_is_tried_with_the_certificates_of_the_config() {
    let Some(openssl) = find("openssl") else {
        test_support::print_note("SKIPPED: openssl is not installed");
        return;
    };
    let fixture = CheckFixture::new();
    make_certificates(&openssl, fixture.folder.path());
    let broker = Broker::start_with(false, |_| {
        format!(
            "allow_anonymous true\n{}",
            tls_config(fixture.folder.path())
        )
    });
    // The files are beside the config: relative paths start there.
    let url = format!("mqtt.url=mqtts://localhost:{}", broker.port());
    let (ca, cert) = ("mqtt.ca_file=ca.pem", "mqtt.cert_file=device.pem");
    let check = |settings: &[&str], code, verdict, words: &[&str]| {
        let settings = [&[url.as_str()], settings].concat();
        fixture.assert_result(&settings, code, verdict, "broker", words);
    };
    check(
        &[ca, cert, "mqtt.key_file=device.key"],
        0,
        "ok",
        &["accepts the login"],
    );
    let stranger = "mqtt.ca_file=other.pem";
    check(&[stranger], 69, "FAIL", &["authority", "CA file"]);
    // Without the device's certificate.
    check(&[ca], 69, "FAIL", &["messages wait"]);
    let old = [ca, cert, "mqtt.key_file=old.key"];
    check(&old, 65, "FAIL", &["old.key", "openssl pkcs8"]);
}

#[test]
fn a_daemon_keeps_its_place_at_the_broker() {
    let fixture = CheckFixture::new();
    let stub = StubBroker::start(|peer| {
        if peer.accept(false, 0) {
            peer.serve();
        }
    });
    let url = format!("mqtt.url=mqtt://127.0.0.1:{}", stub.port());
    fixture.assert_result(&[&url], 0, "ok", "broker", &["accepts the login"]);
    let [
        Packet::Connect {
            client,
            clean,
            will,
            ..
        },
        Packet::Subscribe { filters, .. },
        ..,
    ] = &stub.packets(0)[..]
    else {
        panic!("{:?}", stub.packets(0))
    };
    assert!(client.starts_with("check-") && *clean && will.is_none());
    assert_eq!(filters[..], [("handloom/pi/cmd/+".to_owned(), 1)]);
}

#[test]
fn a_slow_broker_is_reported() {
    let fixture = CheckFixture::new();
    let check = |stub: &StubBroker, code, verdict, words: &[&str]| {
        let url = format!("mqtt.url=mqtt://127.0.0.1:{}", stub.port());
        fixture.assert_result(&[&url], code, verdict, "broker", words);
    };
    let silent_broker = StubBroker::start(|peer| {
        peer.refuse_reading();
        peer.serve();
    });
    let words = [
        "accepts the login, but",
        "does not let this user read handloom/pi/cmd/+",
    ];
    check(&silent_broker, 0, "warn", &words);
    // The check has its own timeout: the stub stays silent during the whole test.
    let unresponsive_broker = StubBroker::start(|peer| peer.idle(Duration::from_hours(1)));
    check(&unresponsive_broker, 69, "FAIL", &["does not answer"]);
}

#[test]
fn a_bad_config_ends_with_78() {
    let fixture = CheckFixture::new();
    let check = |settings: &[&str], words: &[&str]| {
        fixture.assert_result(settings, 78, "FAIL", "config", words);
    };
    check(
        &["run.workers=0"],
        &["--set run.workers: run.workers = 0", "1 to 256"],
    );
    check(&["run.workers=0", "log.level=x"], &["log.level = x"]);
    check(
        &["sequence.min_frames=33"],
        &["sequence.min_frames = 33 (--set sequence.min_frames)"],
    );
    let run = handloom(["check", "--config", "/nowhere/handloom.toml"]).ends(78);
    assert!(
        run.stdout.contains("/nowhere/handloom.toml"),
        "{}",
        run.stdout
    );
    // With `--print`, messages go to stderr.
    let run = fixture
        .check(&["--print", "--set", "run.workers=0"])
        .ends(78);
    assert_eq!(run.stdout, "");
    run.stderr_contains(&["handloom: --set run.workers: run.workers = 0"]);
    handloom(["check", "--print", "--json"]).ends(64);
}

#[test]
fn the_environment_is_a_layer() {
    let fixture = CheckFixture::new();
    let run = |args: &[&str], environment: &[(&str, &OsStr)]| {
        handloom_with([&["check"], args].concat(), environment)
    };
    let file = ("HANDLOOM_CONFIG", fixture.config.as_os_str());
    let printed = run(
        &["--print"],
        &[
            file,
            ("HANDLOOM_LOG", "info".as_ref()),
            ("HANDLOOM_RUN_WORKERS", "3".as_ref()),
        ],
    )
    .ends(0)
    .stdout;
    for line in [
        "id = \"pi\"  # ",
        "workers = 3  # HANDLOOM_RUN_WORKERS\n",
        "level = \"info\"  # HANDLOOM_LOG\n",
    ] {
        assert!(printed.contains(line), "no {line} in {printed}");
    }
    // The printed config has the same meaning.
    let again = fixture.at("again.toml");
    fs::write(&again, &printed).unwrap();
    let shown = |text: &str| -> toml::Table { text.parse().unwrap() };
    let reprinted = run(&["--print", "--config", again.to_str().unwrap()], &[]).ends(0);
    assert_eq!(shown(&reprinted.stdout), shown(&printed));

    let out = run(&[], &[file, ("HANDLOOM_RUN_WORKRES", "3".as_ref())])
        .ends(78)
        .stdout;
    assert!(out.contains("did you mean HANDLOOM_RUN_WORKERS?"), "{out}");
    let out = run(
        &[],
        &[
            file,
            ("HANDLOOM_DATASET_PATH", OsStr::from_bytes(b"/d\xff")),
        ],
    )
    .ends(78)
    .stdout;
    assert!(
        out.contains("HANDLOOM_DATASET_PATH: /d\u{fffd}: the value is not UTF-8"),
        "{out}"
    );
    // systemd passes a password as a credential.
    let credentials = fixture.at("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("mqtt-password"), "geheim\n").unwrap();
    let out = run(
        &["--print", "--set", "mqtt.url=mqtt://u@h"],
        &[file, ("CREDENTIALS_DIRECTORY", credentials.as_os_str())],
    )
    .ends(0)
    .stdout;
    assert!(
        out.contains("password = \"***\"  # ") && out.contains("credentials/mqtt-password"),
        "{out}"
    );
}

#[test]
fn the_camera_is_opened_for_a_frame() {
    let fixture = CheckFixture::new();
    let still = fixture.at("hand.png");
    let device = format!("camera.device=file:{}", still.display());
    fixture.assert_result(
        &[&device],
        66,
        "FAIL",
        "camera",
        &["hand.png", "path of a clip"],
    );
    image::save_buffer(
        &still,
        &[90; 64 * 48 * 3],
        64,
        48,
        image::ExtendedColorType::Rgb8,
    )
    .unwrap();
    fixture.assert_result(&[&device], 0, "ok", "camera", &["RGB3 64x48 at 30 fps"]);
    // Takes are in the output folder unless `camera.path` is set.
    assert!(!fixture.check(&["--set", &device]).stdout.contains("takes"));
    let takes = format!("camera.path={}", fixture.at("takes").display());
    fixture.assert_result(&[&device, &takes], 0, "ok", "takes", &["(will be created)"]);
    let file = format!("camera.path={}/takes", still.display());
    fixture.assert_result(&[&device, &file], 73, "FAIL", "takes", &["hand.png"]);
    fixture.assert_result(
        &["camera.device=/dev/video99"],
        66,
        "FAIL",
        "camera",
        &["/dev/video99 is not there"],
    );
}

#[test]
fn results_of_another_job_are_reported() {
    let fixture = CheckFixture::new();
    let out = fixture.at("out/deep");
    let dataset = fixture.at("dataset");
    let models = test_support::models();
    let models = models.to_str().unwrap();
    let args = ["--min-videos-per-gloss", "1", "--models", models];
    // Four frames are too few for a sequence; the job still completes.
    test_support::process(&dataset, &out, &args).ends(1);
    let cpu = "run.accelerator=cpu";
    let own = ["resumes after 1 planned clips"];
    fixture.assert_result(&[cpu], 0, "ok", "job", &own);
    let other = ["frame_stride was 2, now 3", "choose another output.path"];
    let settings = [cpu, "sequence.frame_stride=3"];
    fixture.assert_result(&settings, 73, "FAIL", "job", &other);
    let other = ["accelerator was {\"cpu\":", "custom"];
    let custom = ["run.accelerator=require:custom", "delegate.library=x.so"];
    fixture.assert_result(&custom, 69, "FAIL", "job", &other);
    // Where Handloom chooses the backend, the results keep theirs.
    for open in ["run.accelerator=auto", "run.accelerator=fastest"] {
        fixture.assert_result(&[open], 0, "ok", "job", &own);
    }
    let clip = dataset.join("videos/00001.mp4");
    render_clip(&clip, 1, 5, (64, 48), Codec::H264);
    fixture.assert_result(&[cpu], 0, "warn", "job", &["1 clip changed", "rescan"]);

    let takes = fixture.at("takes");
    let device = format!("file:{}", clip.display());
    let camera_args = ["camera", "--device", &device, "--out"].map(OsStr::new);
    // Too few frames for a take, too.
    handloom(camera_args.into_iter().chain([takes.as_os_str()])).ends(1);
    let device = format!("camera.device={device}");
    let path = set("camera.path", &takes);
    // `handloom camera` names takes `take` by default.
    let settings = [device.as_str(), &path, "device.id=take", cpu];
    fixture.assert_result(&settings, 0, "ok", "takes", &["resumes after 0 takes"]);
    // Handloom creates the folder of takes in the output folder, so that it must not be a link.
    let linked = fixture.at("linked");
    std::fs::create_dir(&linked).unwrap();
    std::os::unix::fs::symlink(&takes, linked.join("camera")).unwrap();
    let own = set("output.path", &linked);
    let link = ["is a link", "rm "];
    fixture.assert_result(&[&device, &own, cpu], 73, "FAIL", "takes", &link);
    let settings = [&settings[..], &["camera.dataset_fps=30"]].concat();
    let other = [
        "dataset_fps was 25.0, now 30.0",
        "choose another camera.path",
    ];
    fixture.assert_result(&settings, 73, "FAIL", "takes", &other);
}
