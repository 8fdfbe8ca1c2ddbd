use super::*;
use crate::dataset::dataset_rows::{ClipPaths, ROWS_MAX};
use crate::dataset::instance::{DatasetContents, Instance};
use std::fmt::Write as _;

mod odd;

/// The result of the detected format for a dataset with `tables` (name and content) and `clips`.
fn read(
    tables: &[(&str, &[u8])],
    clips: &[&str],
) -> Result<(FormatName, DatasetContents, ClipPaths), String> {
    let paths = tables
        .iter()
        .map(|(path, _)| *path)
        .chain(clips.iter().copied());
    let (folders, paths): (Vec<&str>, Vec<&str>) = paths.partition(|path| path.ends_with('/'));
    let folders = folders
        .iter()
        .map(|folder| folder.trim_end_matches('/').into());
    let mut files = FileTree::new(paths.into_iter().map(Box::from), folders);
    for (path, content) in tables {
        files.set_head(path, content[..content.len().min(4096)].to_vec());
    }
    let (format, found) = FormatName::detect(&files).ok_or_else(|| "no format".to_owned())?;
    let mut rows = DatasetRows::default();
    for table in &found.tables {
        let (_, content) = tables.iter().find(|(path, _)| **path == **table).unwrap();
        let mut rest = *content;
        let mut fill = |buffer: &mut [u8]| {
            // Pieces of an odd size, so that no result depends on where a piece ends.
            let (piece, others) = rest.split_at(rest.len().min(buffer.len()).min(1000));
            buffer[..piece.len()].copy_from_slice(piece);
            rest = others;
            Ok(piece.len())
        };
        let read = format.reader().read(table, &mut fill, &mut rows);
        read.map_err(|error| format!("{table}: {error}"))?;
    }
    format
        .reader()
        .complete(&files, &mut rows)
        .map_err(|error| error.to_string())?;
    let (contents, paths) = rows.finish(&files);
    Ok((format, contents, paths))
}

/// One line per instance: gloss, id, split, signer, frames and path, or why it is refused. `-` marks a missing clip.
fn lines(contents: &DatasetContents, paths: &ClipPaths) -> Vec<String> {
    let line = |gloss: &str, i: &Instance| {
        let source = i
            .source
            .as_ref()
            .map_or_else(String::new, ToString::to_string);
        if let Some(reason) = &i.refused {
            return format!("! {source}: {reason}");
        }
        let id = i.video_id.as_deref().unwrap();
        let missing = if paths.present.contains_key(id) {
            ""
        } else {
            "- "
        };
        let hint = paths
            .elsewhere
            .get(id)
            .map_or_else(String::new, |hint| format!("; {hint}"));
        let frame = |number: &Result<i64, String>| {
            number
                .as_ref()
                .map_or_else(Clone::clone, ToString::to_string)
        };
        let (start, end) = (frame(&i.frame_start), frame(&i.frame_end));
        let (split, signer, path) = (&i.split, i.signer_id, i.path.as_deref().unwrap());
        format!("{missing}{gloss} {id} {split} {signer} {start}..{end} {path}{hint}")
    };
    let mut lines = Vec::new();
    for entry in &contents.entries {
        let gloss = entry.gloss.as_deref().unwrap_or_default();
        lines.extend(entry.instances.iter().map(|instance| line(gloss, instance)));
    }
    lines
}

#[track_caller]
fn check(
    tables: &[(&str, &str)],
    clips: &[&str],
    format: FormatName,
    expected: &[&str],
) -> DatasetContents {
    let tables: Vec<_> = tables
        .iter()
        .map(|(path, text)| (*path, text.as_bytes()))
        .collect();
    let (found, contents, paths) = read(&tables, clips).unwrap();
    assert_eq!(found, format);
    assert_eq!(lines(&contents, &paths), expected);
    contents
}

#[track_caller]
fn refuses(tables: &[(&str, &str)], clips: &[&str], expected: &str) {
    let tables: Vec<_> = tables
        .iter()
        .map(|(path, text)| (*path, text.as_bytes()))
        .collect();
    let error = read(&tables, clips).unwrap_err();
    assert_eq!(error, expected);
}

#[test]
fn class_folders_are_read() {
    let clips = [
        "b/2.mp4",
        "b/1.MP4",
        "a b/é 1.webm",
        "b/notes.txt",
        "deep/er/x/3.mp4",
        "b/.x.mp4",
        "b/._1.mp4",
        "empty/",
    ];
    let found = check(
        &[],
        &clips,
        FormatName::Folders,
        &[
            "a b é 1  -1 0..-1 a b/é 1.webm",
            "b 1  -1 0..-1 b/1.MP4",
            "b 2  -1 0..-1 b/2.mp4",
        ],
    );
    assert_eq!(found.class_order, None);
    assert_eq!(
        found.warnings,
        [
            "1 class folders have no clip: empty",
            "1 clips are not directly in a class folder and are not read: move them to GLOSS/ or SPLIT/GLOSS/: deep/er/x/3.mp4",
        ]
    );
    // The same name in several folders.
    let clips = [
        "train/b/1.mp4",
        "train/a/1.mp4",
        "validation/b/2.mp4",
        "test/b/1.mp4",
    ];
    check(
        &[],
        &clips,
        FormatName::Folders,
        &[
            "a train/a/1.mp4 train -1 0..-1 train/a/1.mp4",
            "b train/b/1.mp4 train -1 0..-1 train/b/1.mp4",
            "b 2 val -1 0..-1 validation/b/2.mp4",
            "b test/b/1.mp4 test -1 0..-1 test/b/1.mp4",
        ],
    );
    // A class may have the name of a split.
    check(
        &[],
        &["train/1.mp4", "bus/2.mp4"],
        FormatName::Folders,
        &["bus 2  -1 0..-1 bus/2.mp4", "train 1  -1 0..-1 train/1.mp4"],
    );
    for none in [
        &["videos/1.mp4"][..],
        &["1.mp4"],
        &["a/b/c/1.mp4"],
        &["b/x.txt"],
        &[],
    ] {
        assert_eq!(read(&[], none).unwrap_err(), "no format", "{none:?}");
    }
    let renamed: &[(&str, &[u8])] = &[("meta.json", b"[{\"gloss\": \"a\"}]")];
    assert_eq!(
        read(renamed, &["videos/1.mp4", "more/2.mp4"]).unwrap_err(),
        "no format"
    );
}

#[test]
fn a_list_of_classes_gives_their_order() {
    let clips = ["1/x.mp4", "0/y.mp4", "7/z.mp4"];
    let found = check(
        &[("labels.txt", "0 book\r\n1 thank you\r\n")],
        &clips,
        FormatName::Folders,
        &[
            "book y  -1 0..-1 0/y.mp4",
            "thank you x  -1 0..-1 1/x.mp4",
            "! : the class 7 is not in the list of classes",
        ],
    );
    assert_eq!(
        found.class_order.unwrap(),
        ["book".into(), "thank you".into()]
    );
    assert_eq!(
        found.warnings,
        ["1 class folders are not in the list of classes and are not processed: 7"]
    );
    let found = check(
        &[("classes.txt", "\u{feff}b\na\nc\n")],
        &["a/1.mp4", "b/2.mp4"],
        FormatName::Folders,
        &["b 2  -1 0..-1 b/2.mp4", "a 1  -1 0..-1 a/1.mp4"],
    );
    assert_eq!(
        found.warnings,
        ["1 classes of the list have no folder with clips: c"]
    );
    let gap = "labels.txt: the numbers of the classes must go from 0 without a gap or a repetition";
    refuses(&[("labels.txt", "0 a\n2 b\n")], &clips, gap);
    refuses(
        &[("labels.txt", "a\nb\na\n")],
        &clips,
        "labels.txt: the class \"a\" is there twice",
    );
    refuses(
        &[("labels.txt", " \n")],
        &clips,
        "labels.txt: the file is empty",
    );
}

#[test]
fn a_list_of_clips_is_read() {
    let text = "\u{feff}File;Label;Signer ID;Start-Frame;end_frame;split;note\r\n\
        c/1.mp4;\"a; b\";P07;1;20;Validation;\"say \"\"hi\"\"\"\r\n\
        \r\n\
        c\\2.mov;b;P12;;;mine;\r\n\
        ./c//3;b;P07;x;;;\r\n";
    let clips = ["c/1.mp4", "c/2.mov", "c/3.mp4"];
    let contents = check(
        &[("list.csv", text)],
        &clips,
        FormatName::Csv,
        &[
            "a; b 1 val 7 1..20 c/1.mp4",
            "b 2 mine 12 0..-1 c/2.mov",
            "b 3  7 the number of the first frame is \"x\", a whole number is needed..-1 c/3.mp4",
        ],
    );
    let columns = contents.entries[0].instances[0].columns.clone().unwrap();
    assert_eq!(columns.iter().collect::<Vec<_>>(), [("note", "say \"hi\"")]);
    // Several tables, whose names are the splits, and names of signers.
    let (train, test) = (
        "path\tgloss\tsigner\n1.mp4\ta\tAnn\n",
        "path,gloss,id,signer\n2.mp4,a,two,Bob\n3.mp4,a,three,Ann\n",
    );
    let tables = [
        ("all.csv", train),
        ("train_list.tsv", train),
        ("test.csv", test),
    ];
    check(
        &tables,
        &["1.mp4", "2.mp4", "3.mp4"],
        FormatName::Csv,
        &[
            "a two test 0 0..-1 2.mp4",
            "a three test 1 0..-1 3.mp4",
            "a 1 train 1 0..-1 1.mp4",
        ],
    );
    // Several signs in one clip.
    let signs = "path,gloss,start_frame,end_frame\n1.mp4,a,1,9\n1.mp4,b,10,20\n";
    check(
        &[("x.csv", signs)],
        &["1.mp4"],
        FormatName::Csv,
        &["a 1:1-9  -1 1..9 1.mp4", "b 1:10-20  -1 10..20 1.mp4"],
    );
}

#[test]
fn odd_rows_of_a_list_are_refused_alone() {
    let long = "n".repeat(300);
    let text = format!(
        "path,gloss,id\n1.mp4,a,\n1.mp4,b,\n../2.mp4,a,\n/data/2.mp4,a,\nC:\\v\\2.mp4,a,\nx/../../2.mp4,a,\n,a,\n2.mp4,,\n\
         2.mp4,a,1\n2.mp4,thank you, bye,x\n{long}.mp4,{long},\n2.MP4,a,\nB/3.mp4,a,\n4.mp4,a,\n2,a,\n9,a,\n\"2.mp4\n5.mp4\",a,\n"
    );
    check(
        &[("list.csv", &text)],
        &["1.mp4", "2.mp4", "b/3.mp4", "x/9.mp4", "y/9.mp4"],
        FormatName::Csv,
        &[
            "a 1  -1 0..-1 1.mp4",
            "! list.csv, line 4: ../2.mp4 leads out of the folder of the dataset: move the clip into it",
            "! list.csv, line 5: /data/2.mp4 is an absolute path: write it relative to the folder of the dataset",
            "! list.csv, line 6: C:\\\\v\\\\2.mp4 is an absolute path: write it relative to the folder of the dataset",
            "! list.csv, line 7: x/../../2.mp4 leads out of the folder of the dataset: move the clip into it",
            "! list.csv, line 8: it names no file",
            "! list.csv, line 10: the id 1 is already used in list.csv, line 2",
            "- a 2.MP4  -1 0..-1 2.MP4; found 2.mp4: correct the path, or move the file",
            "- a 3  -1 0..-1 B/3.mp4; found b/3.mp4: correct the path, or move the file",
            "- a 4  -1 0..-1 4.mp4",
            "a 2.mp4  -1 0..-1 2.mp4",
            "- a 9  -1 0..-1 9.mp4; x/9.mp4 and y/9.mp4 have this name: write the whole path",
            "! list.csv, line 3: 1.mp4 is already named in list.csv, line 2",
            "! list.csv, line 9: it has no gloss",
            "! list.csv, line 11: it has 4 values for 3 columns: put a text with the divider in it into quotes",
            "! list.csv, line 12: its gloss has more than the 255 bytes allowed",
            "! list.csv, line 18: a quote in it does not end where it should, so that the 1 lines behind it are not read: end it, or remove it",
        ],
    );
    let latin = b"path,gloss\n1.mp4,caf\xe9\n2.mp4,a\n".as_slice();
    let (_, contents, paths) = read(&[("l.csv", latin)], &["1.mp4", "2.mp4"]).unwrap();
    let expected = [
        "! l.csv, line 2: it is not UTF-8: is the file in Latin-1?",
        "a 2  -1 0..-1 2.mp4",
    ];
    assert_eq!(lines(&contents, &paths), expected);
    let utf16: Vec<u8> = "\u{feff}path\tgloss\n1.mp4\tcafé\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let (_, contents, paths) = read(&[("l.csv", &utf16)], &["1.mp4"]).unwrap();
    assert_eq!(lines(&contents, &paths), ["café 1  -1 0..-1 1.mp4"]);
    let open = format!("path,gloss\n1.mp4,a\n2.mp4,\"b\n{}", "3.mp4,a\n".repeat(30));
    let (_, contents, paths) = read(&[("l.csv", open.as_bytes())], &["1.mp4"]).unwrap();
    let expected = "! l.csv, line 3: a quote in it does not end where it should, so that the 30 lines behind it are not read: \
        end it, or remove it";
    assert_eq!(lines(&contents, &paths)[1..], [expected]);
}

#[test]
fn a_list_without_its_columns_is_none() {
    let files = |header: &str| {
        let mut files = FileTree::new(["l.csv".into()], []);
        files.set_head("l.csv", header.as_bytes().to_vec());
        FormatName::Csv.reader().recognise(&files).unwrap_err()
    };
    let error = files("video,sentence\n");
    assert!(
        error.starts_with("l.csv: line 1: no column names the gloss; the columns are [\"video\", \"sentence\"], and one of gloss"),
        "{error}"
    );
    let error = files("1.mp4;book\n");
    assert!(
        error.starts_with(
            "l.csv: line 1: no column names the clip's file; the columns are [\"1.mp4\", \"book\"]"
        ),
        "{error}"
    );
    let error = files("path,gloss,Gloss\n");
    let twice = "l.csv: line 1: two columns have the name gloss: remove one, or name it otherwise";
    assert_eq!(error, twice);
    let error = files(&"x,".repeat(100));
    assert!(
        error.contains("101 columns, more than the 64 allowed"),
        "{error}"
    );
}

#[test]
fn asl_citizen_is_read() {
    let header = "Participant ID,Video file,Gloss,ASL-LEX Code\n";
    let train = format!("{header}P5,1.2-A.mp4,BOOK,A_01\nP52,34-B.mp4,\"THANK, YOU\",A_02\n");
    let test = format!("{header}P9,gone.mp4,BOOK,A_01\nP5,1.2-A.mp4,BOOK,A_01\n");
    let tables = [("splits/train.csv", &*train), ("splits/test.csv", &test)];
    let contents = check(
        &tables,
        &["videos/1.2-A.mp4", "videos/34-B.mp4"],
        FormatName::AslCitizen,
        &[
            "BOOK 1.2-A train 5 0..-1 videos/1.2-A.mp4",
            "- BOOK gone test 9 0..-1 videos/gone.mp4",
            "! splits/test.csv, line 3: videos/1.2-A.mp4 is already named in splits/train.csv, line 2",
            "THANK, YOU 34-B train 52 0..-1 videos/34-B.mp4",
        ],
    );
    let columns = contents.entries[0].instances[0].columns.clone().unwrap();
    assert_eq!(columns.iter().next(), Some(("ASL-LEX Code", "A_01")));
    // Clips in other folders, a table without its column, and a web page in place of a table.
    let expected = [
        "- BOOK 1.2-A train 5 0..-1 videos/1.2-A.mp4; found clips/1.2-A.mp4: correct the path, or move the file",
    ];
    let one = format!("{header}P5,1.2-A.mp4,BOOK,A_01\n");
    check(
        &[("splits/train.csv", &one)],
        &["clips/1.2-A.mp4"],
        FormatName::AslCitizen,
        &expected,
    );
    let tables = [("splits/train.csv", "Participant ID,Gloss\nP5,BOOK\n")];
    let tables: Vec<_> = tables
        .iter()
        .map(|(path, text)| (*path, text.as_bytes()))
        .collect();
    let error = read(&tables, &[]).unwrap_err();
    assert!(
        error.starts_with("splits/train.csv: line 1: no column names the clip's file"),
        "{error}"
    );
    refuses(
        &[("splits/val.csv", "<!DOCTYPE html><html>")],
        &[],
        "splits/val.csv: a web page (HTML) where a table in text is needed: download the file itself: the address may need \
         a login, or the file has moved",
    );
}

#[test]
fn autsl_is_read() {
    let train = "signer0_sample1,1\r\nsigner10_sample2,0\r\nsigner0_sample3,1\r\n";
    let validation = "signer1_sample1_color.mp4,0\nsigner2_sample9,x\nclip,1\nsigner1_sample1,1\n";
    let clips = [
        "train/signer0_sample1_color.mp4",
        "train/signer0_sample1_depth.mp4",
        "train/signer10_sample2_color.mp4",
        "validation/signer1_sample1_color.mp4",
        "val/signer0_sample3_color.mp4",
    ];
    let tables = [
        ("train_labels.csv", train),
        ("validation_labels.csv", validation),
    ];
    let contents = check(
        &tables,
        &clips,
        FormatName::Autsl,
        &[
            "0 signer10_sample2_color train 10 0..-1 train/signer10_sample2_color.mp4",
            "0 signer1_sample1_color val 1 0..-1 validation/signer1_sample1_color.mp4",
            "1 signer0_sample1_color train 0 0..-1 train/signer0_sample1_color.mp4",
            "1 signer0_sample3_color train 0 0..-1 val/signer0_sample3_color.mp4",
            "! validation_labels.csv, line 4: validation/signer1_sample1_color.mp4 is already named in validation_labels.csv, line 1",
            "! validation_labels.csv, line 2: \"x\" is no number of a class",
            "! validation_labels.csv, line 3: \"clip\" is no name as signer0_sample1",
        ],
    );
    assert_eq!(contents.class_order.unwrap(), ["0".into(), "1".into()]);
    let gap = check(
        &[("train_labels.csv", "signer0_sample1,5\n")],
        &[],
        FormatName::Autsl,
        &["- 5 signer0_sample1_color train 0 0..-1 train/signer0_sample1_color.mp4"],
    );
    assert_eq!(gap.class_order.unwrap().len(), 6);
    let far = check(
        &[(
            "train_labels.csv",
            "signer0_sample1,0\nsigner0_sample2,300\n",
        )],
        &[],
        FormatName::Autsl,
        &[
            "- 0 signer0_sample1_color train 0 0..-1 train/signer0_sample1_color.mp4",
            "- 300 signer0_sample2_color train 0 0..-1 train/signer0_sample2_color.mp4",
        ],
    );
    assert_eq!(far.class_order, None);
    assert_eq!(
        far.warnings,
        [
            "the numbers of the classes are not used: train_labels.csv, line 2, has the class 300, and no line has 1; correct \
             the number"
        ]
    );
}

#[test]
fn ms_asl_is_read() {
    let item = |gloss: &str, label: i64, url: &str, start: i64, end: i64| {
        format!(
            r#"{{"org_text": "x", "clean_text": "{gloss}", "label": {label}, "url": "{url}", "signer_id": 4, "start": {start},
             "end": {end}, "box": [0.1, 0.2, 0.9, 0.8], "file": "some title", "fps": 29.97}}"#
        )
    };
    let url = |id: &str| format!("https://www.youtube.com/watch?v={id}&t=3");
    let train = [
        item("hello", 0, &url("AAAAAAAAAA1"), 0, 30),
        item("nice", 1, &url("AAAAAAAAAA2"), 5, 30),
        item("hello", 0, &url("AAAAAAAAAA2"), 30, 60),
        item("nice", 1, &url("AAAAAAAAAA3"), 1, 2),
        item("nice", 1, "https://example.org/x", 1, 2),
    ];
    let train = format!(
        "[{}, 7, {{\"url\": \"{}\"}}]",
        train.join(",\n"),
        url("AAAAAAAAAA1")
    );
    let test = format!("[{}]", item("nice", 1, "youtu.be/AAAAAAAAAA9", 3, 9));
    let clips = [
        "cut/AAAAAAAAAA1_0_30.mp4",
        "raw/AAAAAAAAAA2.webm",
        "test/0.mp4",
        "AAAAAAAAAA1.mp4",
    ];
    let tables = [("MSASL_train.json", &*train), ("MSASL_test.json", &test)];
    let contents = check(
        &tables,
        &clips,
        FormatName::MsAsl,
        &[
            "hello AAAAAAAAAA1_0_30 train 4 0..-1 cut/AAAAAAAAAA1_0_30.mp4",
            "hello AAAAAAAAAA2:31-60 train 4 31..60 raw/AAAAAAAAAA2.webm",
            "nice AAAAAAAAAA2:6-30 train 4 6..30 raw/AAAAAAAAAA2.webm",
            "- nice AAAAAAAAAA3_1_2 train 4 0..-1 AAAAAAAAAA3_1_2.mp4",
            "! MSASL_train.json, item 4: url \"https://example.org/x\" has no id of a video at YouTube",
            "nice 0 test 4 0..-1 test/0.mp4",
            "! MSASL_train.json, item 5: it is no object",
            "! MSASL_train.json, item 6: it has no gloss",
        ],
    );
    assert_eq!(
        contents.class_order.unwrap(),
        ["hello".into(), "nice".into()]
    );
    let broken = [
        (
            "{}",
            "MSASL_val.json: a list of objects with url and clean_text is needed",
        ),
        (" ", "MSASL_val.json: the file is empty"),
        (
            "<html>",
            "MSASL_val.json: a web page (HTML), and JSON is needed: download the file itself: the address may need a login, or the file has moved",
        ),
        (
            "[{\"url\": \"",
            "MSASL_val.json: not valid JSON: the file ends within a value, so it is cut short: compare its size with the original and copy it again",
        ),
    ];
    for (text, error) in broken {
        refuses(&[("MSASL_val.json", text)], &[], error);
    }
}

#[test]
fn many_rows_are_read_up_to_the_limit() {
    let mut text = "path,gloss,signer\n".to_owned();
    let mut clips = Vec::new();
    for n in 0..70_000 {
        writeln!(text, "clips/{n:06}.mp4,g{},P{}", n % 2000, n % 50).unwrap();
        clips.push(format!("clips/{n:06}.mp4"));
    }
    let names: Vec<_> = clips.iter().map(String::as_str).collect();
    let (_, contents, paths) = read(&[("l.csv", text.as_bytes())], &names).unwrap();
    assert_eq!(
        (contents.entries.len(), paths.present.len()),
        (2000, 70_000)
    );
    assert_eq!(contents.entries[49].instances[0].signer_id, 49);
    let many = format!("path,gloss\n{}", "1,a\n".repeat(ROWS_MAX + 1));
    refuses(
        &[("l.csv", &many)],
        &[],
        "l.csv: the dataset has more than the 200000 rows allowed: divide it, and give each part by itself",
    );
}

#[test]
fn wlasl_comes_before_the_others() {
    let json = r#"[{"gloss": "a", "instances": [{"video_id": "1"}]}]"#;
    let tables: [(&str, &[u8]); 2] = [
        ("WLASL_v0.3.json", json.as_bytes()),
        ("list.csv", b"path,gloss\n1.mp4,a\n"),
    ];
    let (format, contents, _) = read(&tables, &["videos/1.mp4"]).unwrap();
    assert_eq!(format, FormatName::Wlasl);
    assert_eq!(contents.entries, wlasl::parse(json.as_bytes()).unwrap());
}
