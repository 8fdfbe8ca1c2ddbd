//! `handloom camera` as a program.

use super::fixture::{Part, SIZE, encode_parts};
use handloom::draw::scene::signing_scene;
use handloom::storage::batches::{FINAL_NAME, batch_path};
use handloom::storage::npz::NpzReader;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use test_support::{Run, handloom, manifest, scratch};

fn video(device: &str, out: &Path, more: &[&str]) -> Run {
    let mut args = vec!["camera", "--device", device, "--progress", "json", "--out"];
    args.push(out.to_str().unwrap());
    args.extend(more);
    handloom(args)
}

#[test]
fn a_video_of_three_signs_becomes_two_takes_and_then_three() {
    let dir = scratch();
    let (clip, out) = (dir.path().join("film.mp4"), dir.path().join("takes"));
    let sign = |seed| [Part::Sign(seed, 30), Part::Pause(15)];
    encode_parts(&clip, &[sign(0), sign(1), sign(2)].concat(), 25);
    let device = format!("file:{}", clip.display());
    let run = video(
        &device,
        &out,
        &["--at-once", "--gloss", "book", "--count", "2"],
    )
    .ends(0);
    let done = run.event("done");
    assert_eq!((&done["taken"], &done["dropped"]), (&2.into(), &0.into()));
    assert_eq!(run.event("camera")["state"], "capturing");
    let sign = run.event("sign");
    assert_eq!(
        (&sign["id"], &sign["ended_by"]),
        (&"take-00000".into(), &"pause".into())
    );
    let more = [
        "--at-once",
        "--gloss",
        "deaf",
        "--signer",
        "4",
        "--split",
        "val",
    ];
    let run = video(&device, &out, &more).ends(0);
    assert_eq!(run.event("done")["in_output"], 5);

    let mut joined = NpzReader::open(&out.join(FINAL_NAME)).unwrap();
    let labels = joined.strings("labels").unwrap();
    assert_eq!(labels, ["book", "book", "deaf", "deaf", "deaf"]);
    assert_eq!(joined.strings("glosses").unwrap(), ["book", "deaf"]);
    let mut batch = NpzReader::open(&batch_path(&out, 0)).unwrap();
    assert_eq!(batch.header("sequences").unwrap().1, [5, 32, 126]);
    assert_eq!(
        batch.numbers::<i64>("signer_id").unwrap().0,
        [-1, -1, 4, 4, 4]
    );
    let (times, _) = batch.numbers::<f32>("frame_time").unwrap();
    let (indexes, _) = batch.numbers::<i32>("frame_index").unwrap();
    assert_eq!(
        (times[1], indexes[1], times[31], indexes[31]),
        (0.08, 2, -1.0, -1)
    );
    let lines = manifest(&out);
    assert_eq!(lines.len(), 5);
    assert_eq!(
        (&lines[4]["state"], &lines[4]["split"]),
        (&"accepted".into(), &"val".into())
    );
    assert_eq!(lines[0]["clip"]["seen"], 30);
    handloom(["inspect", out.join(FINAL_NAME).to_str().unwrap()]).ends(0);
    // Fewer takes than requested are kept, but are no success.
    let run = video(
        &device,
        &out,
        &["--at-once", "--gloss", "cat", "--count", "5"],
    )
    .ends(65)
    .stderr_contains(&["film.mp4 ended after 3 of 5 takes", "kept"]);
    let done = run.event("done");
    let numbers = ["taken", "asked", "in_output"].map(|key| done[key].as_u64());
    assert_eq!(numbers, [Some(3), Some(5), Some(8)]);
    // A sign of 1.2 s is cut at the maximum.
    let cut = ["--at-once", "--max-seconds", "1"];
    let run = video(&device, &dir.path().join("cut"), &cut).ends(0);
    assert_eq!(run.event("sign")["ended_by"], "maximum");
    // All takes of a folder have the same settings.
    video(&device, &out, &["--at-once", "--frame-stride", "3"])
        .ends(73)
        .stderr_contains(&["frame_stride was 2, now 3"]);
}

#[test]
fn unusable_cameras_are_named() {
    let dir = scratch();
    let out = dir.path().join("takes");
    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "no film").unwrap();
    video("/dev/video99", &out, &[])
        .ends(66)
        .stderr_contains(&["/dev/video99 is not there", "--list"]);
    video("/dev/null", &out, &[])
        .ends(69)
        .stderr_contains(&["/dev/null cannot be used as a camera"]);
    video("gst:nosuchelement", &out, &[])
        .ends(69)
        .stderr_contains(&["nosuchelement"]);
    video(&format!("file:{}", text.display()), &out, &[])
        .ends(65)
        .stderr_contains(&["notes.txt", "give a clip"]);
    video("file:/nowhere.mp4", &out, &[])
        .ends(66)
        .stderr_contains(&["/nowhere.mp4"]);
    video("webcam", &out, &[])
        .ends(64)
        .stderr_contains(&["/dev/video0 or 0"]);
    video("0", &out, &["--at-once"])
        .ends(64)
        .stderr_contains(&["--at-once is for files"]);
    video("0", &out, &["--gloss", " "])
        .ends(64)
        .stderr_contains(&["is not valid"]);
    // Without a hand there is no take.
    let black = dir.path().join("black.mp4");
    encode_parts(&black, &[Part::Pause(20)], 25);
    video(&format!("file:{}", black.display()), &out, &["--at-once"])
        .ends(1)
        .stderr_contains(&["no take was kept"]);
    let list = handloom(["camera", "--list", "--progress", "json"]);
    assert!(matches!(list.code, Some(0 | 1)), "{}", list.stderr);
    assert!(!list.events().is_empty());
}

/// Each file ends the run with its reason, which does not mention a cable.
#[test]
fn a_file_that_is_no_video_ends_with_an_error() {
    let dir = scratch();
    let path = |name: &str| dir.path().join(name);
    let named = |name: &str| format!("file:{}", path(name).display());
    let frame = [
        &b"GIF89a\x02\x00\x02\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"[..],
        b",\x00\x00\x00\x00\x02\x00\x02\x00\x00\x02\x02\x84\x51\x00;",
    ];
    std::fs::write(path("gif.mp4"), frame.concat()).unwrap();
    std::fs::write(path("webp.mp4"), b"RIFF\x1a\x00\x00\x00WEBPVP8L").unwrap();
    std::fs::write(path("empty.mp4"), b"").unwrap();
    std::fs::create_dir(path("folder.mp4")).unwrap();
    let pipe = Command::new("mkfifo").arg(path("pipe.mp4")).status();
    assert!(pipe.unwrap().success());
    let out = path("takes");
    for (name, code, words) in [
        ("gif.mp4", 65, "a GIF is not a video"),
        ("webp.mp4", 65, "convert it to PNG or JPEG"),
        ("empty.mp4", 65, "empty"),
        ("folder.mp4", 66, "a folder"),
        ("pipe.mp4", 66, "a pipe"),
    ] {
        let run = video(&named(name), &out, &[])
            .ends(code)
            .stderr_contains(&[name, words]);
        assert!(!run.stderr.contains("plug"), "{}", run.stderr);
    }
    // All frames of a short video are captured.
    encode_parts(&path("short.mp4"), &[Part::Sign(1, 3)], 25);
    let run = video(&named("short.mp4"), &out, &["--at-once"]).ends(1);
    assert_eq!(run.event("ended")["frames"], 3);
}

/// The running program; killed when dropped.
struct CameraProcess {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl CameraProcess {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(test_support::binary())
            .args(["camera", "--progress", "json"])
            .args(args)
            .env("HANDLOOM_RUN_ACCELERATOR", "cpu")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn send_command(&mut self, words: &str) {
        writeln!(self.stdin, "{words}").unwrap();
    }

    /// The next event of this kind.
    fn event(&mut self, kind: &str) -> Value {
        let since = Instant::now();
        loop {
            assert!(since.elapsed() < Duration::from_mins(2), "no event {kind}");
            let mut line = String::new();
            assert!(
                self.stdout.read_line(&mut line).unwrap() > 0,
                "ended without {kind}"
            );
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["event"] == kind {
                return event;
            }
        }
    }
}

impl Drop for CameraProcess {
    fn drop(&mut self) {
        // The process may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn takes_are_recorded_and_discarded_by_typed_commands_with_a_preview() {
    let dir = scratch();
    let (still, out) = (dir.path().join("hand.png"), dir.path().join("takes"));
    let scene = signing_scene(0, 10, SIZE.0, SIZE.1);
    image::save_buffer(
        &still,
        scene.pixels(),
        320,
        240,
        image::ExtendedColorType::Rgb8,
    )
    .unwrap();
    let device = format!("file:{}", still.display());
    let mut camera = CameraProcess::start(&[
        "--device",
        &device,
        "--fps",
        "10",
        "--out",
        out.to_str().unwrap(),
        "--max-seconds",
        "1.2",
        "--gloss",
        "wave",
        "--countdown",
        "0.2",
        // A busy machine drops frames.
        "--min-frames",
        "1",
        "--preview",
        "127.0.0.1:0",
    ]);
    let url = camera.event("preview")["url"].as_str().unwrap().to_owned();
    assert_eq!(camera.event("camera")["fps"], 10.0);
    let first = camera.event("sign");
    assert_eq!(first["gloss"], "wave");
    // On a busy machine no frame may be processed for a while, which ends a sign too.
    let reason = first["ended_by"].as_str().unwrap();
    assert!(["maximum", "hole"].contains(&reason), "{first}");
    camera.send_command("make coffee");
    assert!(
        camera.event("refused")["reason"]
            .as_str()
            .unwrap()
            .contains("record GLOSS")
    );
    camera.send_command("record thank you 1");
    assert_eq!(camera.event("record")["gloss"], "thank you");
    assert_eq!(camera.event("sign")["gloss"], "thank you");
    camera.send_command("undo");
    assert_eq!(camera.event("undo")["gloss"], "thank you");
    // The undone take is requested again automatically.
    assert_eq!(camera.event("sign")["gloss"], "thank you");

    let address = url.strip_prefix("http://").unwrap();
    let mut browser = TcpStream::connect(address).unwrap();
    browser
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    write!(
        browser,
        "GET /frame.jpg HTTP/1.1\r\nHost: {address}\r\n\r\n"
    )
    .unwrap();
    let mut answer = Vec::new();
    browser.read_to_end(&mut answer).unwrap();
    let body = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let image = image::load_from_memory(&answer[body..])
        .unwrap()
        .into_rgb8();
    assert_eq!(image.dimensions(), (320, 240));
    // The skeleton is drawn: there is more red and orange than in the scene.
    let differing = image
        .as_raw()
        .iter()
        .zip(scene.pixels())
        .filter(|(a, b)| a.abs_diff(**b) > 60)
        .count();
    assert!(differing > 500, "{differing}");

    camera.send_command("quit");
    let done = camera.event("done");
    assert!(camera.child.wait().unwrap().success());
    let labels = NpzReader::open(&out.join(FINAL_NAME))
        .unwrap()
        .strings("labels")
        .unwrap();
    assert_eq!(Some(labels.len() as u64), done["in_output"].as_u64());
    assert_eq!(labels.last().map(String::as_str), Some("thank you"));
    let states: Vec<String> = manifest(&out)
        .iter()
        .map(|l| l["state"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(states.iter().filter(|s| *s == "discarded").count(), 1);
}
