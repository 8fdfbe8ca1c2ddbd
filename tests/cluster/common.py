"""What the tests of clusters share: packages, the program, a dataset, and one unsharded run to which every merge is equal."""
import hashlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
RECIPES = REPOSITORY / "systemd/cluster"
SCRATCH = REPOSITORY / "target/cluster"
SHARDS = 4
# What a test ends with where its packages cannot be installed.
SKIPPED = 77
# Few clips a batch, so that each shard has several. The models of the tests are quicker than the real ones.
OPTIONS = ["--batch-size", "2", *os.environ.get("OPTIONS", "").split()]
STARTED = time.monotonic()


def tell(text):
    print("[%6.1f s] %s" % (time.monotonic() - STARTED, text), flush=True)


def expect(holds, what):
    if not holds:
        sys.exit("FAILED: " + what)


def said(*command, code=0, **more):
    """Both streams of a command that must end with `code`."""
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    text = done.stdout.decode("utf-8", "replace")
    expect(code is None or done.returncode == code, "%s ends with %s, not %s:\n%s" % (" ".join(map(str, command)), done.returncode, code, text))
    return text


def wait_for(what, condition, seconds=120):
    """What `condition` returns once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    sys.exit("FAILED: %s: not within %d s" % (what, seconds))


def install(programs):
    """Installs the Debian packages of the programs that are missing: {program: package}."""
    path = os.environ["PATH"] + ":/usr/sbin"
    missing = sorted({package for program, package in programs.items() if not shutil.which(program, path=path)})
    if not missing:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    # RUNLEVEL=1: no service starts because of us.
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    apt = [*sudo, *environment, "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    begin = time.monotonic()
    for words in (["update"], ["install", "--no-install-recommends", *missing]):
        if subprocess.run([*apt, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode:
            tell("SKIPPED: cannot install %s: apt-get %s fails" % (" ".join(missing), words[0]))
            sys.exit(SKIPPED)
    tell("installed %s in %.0f s" % (" ".join(missing), time.monotonic() - begin))


def program():
    """A folder with the program under its own name."""
    built = pathlib.Path(os.environ.get("PROGRAM", REPOSITORY / "target/release/handloom")).resolve()
    expect(built.exists(), "no %s; build first, or set PROGRAM" % built)
    folder = SCRATCH / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "handloom"
    script.write_text('#!/bin/sh\nexec "%s" "$@"\n' % built)
    script.chmod(0o755)
    os.environ["PATH"] = "%s:%s:/usr/sbin" % (folder, os.environ["PATH"])
    return built


def dataset():
    """The public clips, or drawn ones where they are not here."""
    public = REPOSITORY / "../shared/goldens/public"
    if public.exists():
        return public.resolve()
    drawn = SCRATCH / "drawn"
    if not drawn.exists():
        said("handloom", "demo", "--out", SCRATCH / "demo")
        (SCRATCH / "demo/dataset").rename(drawn)
    tell("no clips in ../shared: drawn ones instead")
    return drawn


def scratch(name):
    """An empty folder."""
    folder = SCRATCH / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def sockets():
    """A folder with a path that is short enough for sockets."""
    return pathlib.Path(tempfile.mkdtemp(prefix="handloom-"))


def free_ports(count):
    """Ports of this machine that nobody uses."""
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def digest(out):
    """SHA-256 of the results: arrays, kept frames, manifest and label map. Where they come from is not in it."""
    names = ["wlasl_landmarks.npz", "manifest.jsonl", "label_map.json"]
    files = [out / name for name in names if (out / name).exists()]
    for folder in ("batches", "frames"):
        files += sorted((out / folder).glob("*.npz"))
    expect(len(files) > 3, "%s holds no results" % out)
    total = hashlib.sha256()
    for path in files:
        total.update(b"%s %s\n" % (str(path.relative_to(out)).encode(), hashlib.sha256(path.read_bytes()).hexdigest().encode()))
    return total.hexdigest()


def reference(clips):
    """The digest of one unsharded run."""
    out = scratch("reference")
    begin = time.monotonic()
    said("handloom", "process", clips, "--out", out, *OPTIONS, "--progress", "json")
    sha = digest(out)
    tell("unsharded: %.1f s, SHA-256 %s" % (time.monotonic() - begin, sha))
    return sha


def merge_equals(sha, out, what):
    """Merges the shards in `out` and compares."""
    merged = out.with_name(out.name + "-merged")
    begin = time.monotonic()
    said("handloom", "merge", merged, out)
    expect(digest(merged) == sha, "%s: the merge has other bytes than the unsharded run" % what)
    tell("ok: %s; merged in %.1f s to the same SHA-256" % (what, time.monotonic() - begin))


def processes(**environment):
    """The ids of the running programs whose environment has these variables."""
    wanted = {("%s=%s" % pair).encode() for pair in environment.items()}
    built = pathlib.Path(os.environ.get("PROGRAM", REPOSITORY / "target/release/handloom")).resolve()
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                is_ours = os.readlink(folder / "exe") == str(built) and wanted <= set((folder / "environ").read_bytes().split(b"\0"))
                # Not the children that decode.
                if is_ours and b"process" in (folder / "cmdline").read_bytes().split(b"\0")[1:2]:
                    found.append(int(folder.name))
            except OSError:
                # It has ended.
                pass
    return found
