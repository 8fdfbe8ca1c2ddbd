use handloom::frame::FrameSource;
use handloom::source::decoder::Choice;
use handloom::source::video::*;
fn main() {
    let mut files: Vec<_> = std::fs::read_dir("/work/shared/goldens/public/videos")
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    let o = VideoOptions {
        decoder: Choice::Software,
        timeout: std::time::Duration::from_secs(60),
    };
    for f in files {
        let t = std::time::Instant::now();
        let name = f.file_name().unwrap().to_string_lossy().to_string();
        match VideoClip::open(&f, &o) {
            Err(e) => println!("{name} closed {e} {:?}", t.elapsed()),
            Ok(mut c) => {
                let mut n = 0;
                while c.advance().unwrap() {
                    n += 1;
                    if std::env::args().nth(1).is_some() {
                        c.picture().unwrap();
                    }
                }
                let _ = &c;
                println!(
                    "{name} {} {n} {:?} {:?}",
                    c.declared_frames(),
                    c.stopped_early(),
                    c.decoder()
                );
                eprintln!("{name} {:?}", t.elapsed());
            }
        }
    }
}
