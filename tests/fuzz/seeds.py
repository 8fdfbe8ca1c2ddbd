"""Valid inputs for each fuzz target, with which libFuzzer begins. Built here, so that the repository has no binary
files."""
import io
import json
import struct
import zipfile


def zipped(members, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def array(kind, shape, data):
    """An array in numpy's format."""
    head = repr({"descr": kind, "fortran_order": False, "shape": tuple(shape)}).encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def strings(values):
    width = max(map(len, values))
    data = b"".join(value.encode("utf-32-le").ljust(4 * width, b"\0") for value in values)
    return array("<U%d" % width, [len(values)], data)


def numbers(kind, code, shape, value):
    count = 1
    for side in shape:
        count *= side
    return array(kind, shape, struct.pack("<%d%s" % (count, code), *[value] * count))


def row(length=2):
    """One row as the ledger stores it, with the keys of a batch file."""
    frames = [1, length]
    return zipped({
        "sequences.npy": numbers("<f4", "f", frames + [126], 0.5), "labels.npy": strings(["book"]),
        "video_ids.npy": strings(["00001"]), "glosses.npy": strings(["book"]), "split.npy": strings(["train"]),
        "landmarks.npy": numbers("<f4", "f", frames + [2, 21, 3], 0.25),
        "handedness.npy": numbers("|i1", "b", frames + [2], 1),
        "handedness_score.npy": numbers("<f4", "f", frames + [2], 0.9),
        "hand_count.npy": numbers("|u1", "B", frames, 2), "frame_index.npy": numbers("<i4", "i", frames, 3),
        "signer_id.npy": numbers("<i8", "q", [1], -1), "frame_time.npy": numbers("<f4", "f", frames, 0.04),
    }, zipfile.ZIP_STORED)


def box(kind, *content):
    content = b"".join(content)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def words(*values):
    return struct.pack(">%dI" % len(values), *values)


MATRIX = words(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
TURNED = words(0, 0x10000, 0, 0xFFFF0000, 0, 0, 0, 0, 0x40000000)


def mp4(matrix=MATRIX, edits=((4000, 0),), is_fragmented=False):
    samples = b"" if is_fragmented else words(0, 1, 4, 1000)
    entry = box(b"avc1", bytes(6) + b"\0\1" + bytes(16) + struct.pack(">HH", 64, 48) + bytes(50),
                box(b"avcC", b"\1\x64\0\x0a\xff\xe1\0\4\x67\x64\0\x0a\1\0\4\x68\xee\x3c\x80"))
    table = box(b"stbl", box(b"stsd", words(0, 1), entry), box(b"stts", samples or words(0, 0)),
                box(b"ctts", words(0, 1, 4, 2000)), box(b"stsc", words(0, 1, 1, 4, 1)),
                box(b"stsz", words(0, 10, 0 if is_fragmented else 4)), box(b"stco", words(0, 1, 800)),
                box(b"stss", words(0, 1, 1)))
    media = box(b"mdia", box(b"mdhd", words(0, 0, 0, 25000, 4000, 0)), box(b"hdlr", words(0, 0), b"vide" + bytes(13)),
                box(b"minf", box(b"vmhd", words(1, 0, 0)), table))
    listed = [words(length, start & 0xFFFFFFFF, 0x10000) for length, start in edits]
    track = box(b"trak", box(b"tkhd", words(7, 0, 0, 1, 0, 4000, 0, 0, 0, 0), matrix, words(64 << 16, 48 << 16)),
                box(b"edts", box(b"elst", words(0, len(edits)), *listed)), media)
    header = box(b"mvhd", words(0, 0, 0, 25000, 4000, 0x10000, 0x01000000, 0, 0), MATRIX, bytes(24), words(2))
    fragments = b""
    if is_fragmented:
        run = box(b"traf", box(b"tfhd", words(0x20000, 1)), box(b"trun", words(1, 4, 0)))
        fragments = box(b"moof", box(b"mfhd", words(0, 1)), run) * 2
    return box(b"ftyp", b"isom", words(512), b"isomavc1") + box(b"moov", header, track) + fragments + box(b"mdat", bytes(40))


INSTANCE = {"bbox": [0, 0, 64, 48], "fps": 25, "frame_end": -1, "frame_start": 1, "instance_id": 0, "signer_id": 7,
            "source": "x", "split": "train", "url": "http://x/1", "variation_id": 0, "video_id": "00001"}
METADATA = [{"gloss": "book", "instances": [INSTANCE, dict(INSTANCE, video_id="00002", frame_end=60)]}]
ODD = [{"gloss": None, "instances": [dict(INSTANCE, frame_start="12", signer_id=1.5)]}, {"gloss": "\ud800", "instances": {}}, 7]

CONFIG = b"""run.workers=2
[device]
id = "box"
[dataset]
path = "/data/wlasl"
[output]
path = "/tmp/out"
batch_size = 4
[plan]
selected_glosses = ["book", "drink"]
[mqtt]
url = "mqtts://user:secret@broker.example:8883"
[run]
accelerator = "prefer:custom"
clip_timeout_s = 30.0
[delegate]
library = "x.so"
options = ["key=value"]
[camera]
device = "/dev/video0"
[limits]
temperature_c = 80
"""

SEEDS = {
    "metadata": [json.dumps(METADATA).encode(), json.dumps(ODD).encode(), b"[]", b'{"a": 1}'],
    "table": [b"csv\npath,gloss,id,split,signer,start_frame,end_frame\nvideos/1.mp4,book,7,train,ann,1,30\n../x.mp4,\"a\nb\",,,,,\n",
              b"csv\nfile;label\nbook/2.MOV;3\n", b"folders\n0 book\n1 hello\n", b"autsl\nsigner1_sample2,4\nsigner0_sample1,0\n",
              b"asl-citizen\nParticipant ID,Video file,Gloss,ASL-LEX Code\nP1,1.mp4,BOOK,A_01\n",
              b'msasl\n[{"url": "www.youtube.com/watch?v=abcdefghijk", "start": 0, "end": 75, "label": 1, "signer_id": 2, "clean_text": "match"}]',
              b'splits\n{"00001": {"subset": "train", "action": [0, 1, 30]}}', b"splits\nvideo_id,split,label\n1,val,2\n"],
    "archive": [zipped({"WLASL_v0.3.json": "[]", "videos/00001.mp4": b"x" * 300}),
                zipped({"a/b/../c": "x", "a\\b": "y", "\u00e9": "z"}, zipfile.ZIP_STORED),
                zipped({"a": b"0" * 5000}, zipfile.ZIP_BZIP2), zipped({"a": b"0" * 5000}, zipfile.ZIP_LZMA)],
    "container": [mp4(), mp4(TURNED), mp4(edits=((1000, -1), (2000, 0), (0, 500))), mp4(is_fragmented=True)],
    "bundle": [zipped({"hand_detector.tflite": b"TFL3" * 8, "hand_landmarks_detector.tflite": b"TFL3" * 8}, zipfile.ZIP_STORED),
               b"\x1c\0\0\0TFL3" + bytes(64)],
    "request": [b'pause\n{"id": "a"}', b'record\n{"id": "b", "gloss": "book", "count": 5, "countdown": 3.5}',
                b'retry-failed\n{"id": "\\u00e9"}', b"rescan\n", b'undo\n{"id": 7, "more": [1]}'],
    "broker_address": [b"mqtt://localhost", b"mqtts://user:pass%20word@broker.example:8883", b"mqtt://[::1]:1883", b"tcp://x/y?z"],
    "config": [CONFIG, b"log.level=debug\n"],
    "npz": [row(), zipped({"a.npy": numbers("<f4", "f", [2, 3], 1.0), "b.npy": strings(["x", "yz"])}),
            zipped({"c.npy": array(">f8", [], struct.pack(">d", 1.5)), "d.npy": numbers("<i8", "q", [3], -1)})],
    "ledger_row": [row(), row(3)],
    "http_head": [b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8088\r\n\r\n", b"GET /stream.mjpg HTTP/1.1\r\nhost: localhost:8088\r\n\r\n",
                  b"POST /frame.jpg HTTP/1.0\r\nHost: [::1]:8088\r\nOrigin: http://x\r\n\r\n"],
}
