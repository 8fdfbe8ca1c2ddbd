use super::*;

fn name(head: &[u8]) -> Option<&'static str> {
    FileKind::of(head).map(|kind| kind.name)
}

#[test]
fn files_are_named_by_their_first_bytes() {
    let mut tar = vec![0; 600];
    tar[..5].copy_from_slice(b"a.txt");
    tar[257..262].copy_from_slice(b"ustar");
    let wide = "\u{feff}<html>".encode_utf16().flat_map(u16::to_le_bytes);
    for (head, expected) in [
        (&tar[..], "a tar archive"),
        (b"\x1F\x8B\x08", "a gzip file"),
        (b"BZh91AY", "a bzip2 file"),
        (b"\xFD7zXZ\0\0", "an xz file"),
        (b"\x28\xB5\x2F\xFD\x04", "a zstd file"),
        (b"7z\xBC\xAF\x27\x1C\0\x04", "a 7z archive"),
        (b"Rar!\x1A\x07\x01\0", "a RAR archive"),
        (b"\0\0\0\x20ftypheic", "a HEIC image"),
        (b"\0\0\0\x20ftypisom", "a single video (MP4)"),
        (b"RIFF\0\0\0\0AVI LIST", "a single video (AVI)"),
        (b"YUV4MPEG2 W16 H16", "a single video (YUV4MPEG)"),
        (&[0; 64], "filled with zero bytes"),
        (&wide.collect::<Vec<_>>(), "a web page (HTML)"),
        (b"<html>caf\xe9", "a web page (HTML)"),
    ] {
        assert_eq!(name(head), Some(expected), "{head:?}");
    }
    for other in [
        b"".as_slice(),
        b"\0",
        b"[1, 2]",
        b"{",
        b"1, 2",
        b"path,gloss\n",
        &[0x5a, 0, 1],
        &[0xff; 40],
        &[0x47, 0x40, 0, 0x10],
    ] {
        assert_eq!(FileKind::of(other), None, "{other:?}");
    }
}

#[test]
fn pages_manifests_and_other_texts_have_names() {
    for (text, expected) in [
        ("<!DOCTYPE html><html>", "a web page (HTML)"),
        ("\u{feff}\r\n  <HTML lang=en>", "a web page (HTML)"),
        (
            "<!-- x --><?xml version='1.0'?>\n<!-- y --><html>",
            "a web page (HTML)",
        ),
        ("<script>location='x'</script>", "a web page (HTML)"),
        ("<?xml version=\"1.0\"?><svg xmlns='x'/>", "an SVG image"),
        ("<svg:svg>", "an SVG image"),
        (
            "<?xml version=\"1.0\"?>\n<MPD type='static'>",
            "a DASH manifest",
        ),
        (
            "<SmoothStreamingMedia MajorVersion=\"2\">",
            "a Smooth Streaming manifest",
        ),
        ("<asx version=\"3.0\">", "a playlist (ASX)"),
        (
            "<Error><Code>AccessDenied</Code></Error>",
            "a server's error message",
        ),
        ("<something/>", "an XML document"),
        ("<?xml version='1.0'", "an XML document"),
        ("#EXTM3U\n#EXT-X-VERSION:3\n", "an HLS manifest"),
        ("#EXTM3U\nhttp://a/b.mp4", "a playlist (M3U)"),
        ("[playlist]\nFile1=x", "a playlist (PLS)"),
        ("[Reference]\nRef1=http://x", "a playlist (ASX)"),
        (
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1",
            "a session description (SDP)",
        ),
        ("https://example.org/a.mp4\n", "a list of addresses"),
        ("ffconcat version 1.0\nfile x", "a list of files (ffconcat)"),
        (
            "version https://git-lfs.github.com/spec/v1\noid",
            "a Git LFS pointer",
        ),
        (
            "0\tbook\r\n1\tdrink",
            "a class list with a number and a gloss in each line, as wlasl_class_list.txt",
        ),
    ] {
        assert_eq!(name(text.as_bytes()), Some(expected), "{text}");
    }
    for (text, expected) in [("{\"error\": 404}", "a JSON text"), ("Not found", "a text")] {
        let kind = FileKind::of_text(text.as_bytes()).unwrap();
        assert_eq!((kind.name, name(text.as_bytes())), (expected, None));
    }
    assert_eq!(FileKind::of_text(&[0x47, 0x40, 0, 0x10]), None);
}

#[test]
fn one_jpeg_is_an_image_and_several_are_a_video() {
    let scan = [0xff, 0xda, 0, 2, 1, 0xff, 0, 2, 0xff, 0xd0, 3];
    let start = [0xff, 0xd8, 0xff, 0xe0, 0, 3, 0xff];
    let jpeg = [&start[..], &scan, &[0xff, 0xd9]].concat();
    let video = Some("a single video (Motion JPEG)");
    assert_eq!(name(&[&jpeg[..], &jpeg].concat()), video);
    assert_eq!(name(&[&jpeg[..], b"rest"].concat()), Some("a JPEG image"));
    for length in 3..=jpeg.len() {
        assert_eq!(name(&jpeg[..length]), Some("a JPEG image"));
    }
}
