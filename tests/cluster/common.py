"""Shared by the cluster tests: packages, the program, a dataset, and one unsharded run that every merge must
equal."""
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
# Exit code of a test whose packages cannot be installed.
SKIPPED = 77
# Small batches, so that each shard has several. OPTIONS of the caller may name the tests' quick models.
OPTIONS = ["--batch-size", "2", *os.environ.get("OPTIONS", "").split()]
STARTED = time.monotonic()


def report(text):
    print("[%6.1f s] %s" % (time.monotonic() - STARTED, text), flush=True)


def expect(holds, what):
    if not holds:
        sys.exit("FAILED: " + what)


def output_of(*command, code=0, **options):
    """Stdout and stderr of a command that must end with `code`."""
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    text = done.stdout.decode("utf-8", "replace")
    expect(code is None or done.returncode == code, "%s ends with %s, not %s:\n%s" % (" ".join(map(str, command)), done.returncode, code, text))
    return text


def wait_for(what, condition, seconds=120):
    """Polls `condition` and returns its first true value."""
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
    # RUNLEVEL=1: the installation starts no service.
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    apt = [*sudo, *environment, "apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    begin = time.monotonic()
    for arguments in (["update"], ["install", "--no-install-recommends", *missing]):
        if subprocess.run([*apt, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode:
            report("SKIPPED: cannot install %s: apt-get %s fails" % (" ".join(missing), arguments[0]))
            sys.exit(SKIPPED)
    report("installed %s in %.0f s" % (" ".join(missing), time.monotonic() - begin))


def program():
    """Puts a script named handloom on PATH that runs the program; returns the program's path."""
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
    """The public clips, or drawn ones where ../shared is missing."""
    public = REPOSITORY / "../shared/goldens/public"
    if public.exists():
        return public.resolve()
    drawn = SCRATCH / "drawn"
    if not drawn.exists():
        output_of("handloom", "demo", "--out", SCRATCH / "demo")
        (SCRATCH / "demo/dataset").rename(drawn)
    report("no clips in ../shared: using drawn ones")
    return drawn


def scratch(name):
    """An empty folder."""
    folder = SCRATCH / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def socket_folder():
    """A temporary folder whose path is short enough for sockets."""
    return pathlib.Path(tempfile.mkdtemp(prefix="handloom-"))


def free_ports(count):
    """Free TCP ports of this machine."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def digest(out):
    """SHA-256 of the results: arrays, kept frames, manifest and label map. It ignores the name of the folder."""
    names = ["wlasl_landmarks.npz", "manifest.jsonl", "label_map.json"]
    files = [out / name for name in names if (out / name).exists()]
    for folder in ("batches", "frames"):
        files += sorted((out / folder).glob("*.npz"))
    expect(len(files) > 3, "no results in %s" % out)
    total = hashlib.sha256()
    for path in files:
        total.update(b"%s %s\n" % (str(path.relative_to(out)).encode(), hashlib.sha256(path.read_bytes()).hexdigest().encode()))
    return total.hexdigest()


def reference(clips):
    """The digest of one unsharded run."""
    out = scratch("reference")
    begin = time.monotonic()
    output_of("handloom", "process", clips, "--out", out, *OPTIONS, "--progress", "json")
    sha = digest(out)
    report("unsharded: %.1f s, SHA-256 %s" % (time.monotonic() - begin, sha))
    return sha


def merge_equals(sha, out, what):
    """Merges the shards in `out` and compares."""
    merged = out.with_name(out.name + "-merged")
    begin = time.monotonic()
    output_of("handloom", "merge", merged, out)
    expect(digest(merged) == sha, "%s: the bytes of the merge differ from the unsharded run" % what)
    report("ok: %s; merged in %.1f s to the same SHA-256" % (what, time.monotonic() - begin))


def processes(**environment):
    """The ids of the running programs whose environment has these variables."""
    wanted = {("%s=%s" % pair).encode() for pair in environment.items()}
    built = pathlib.Path(os.environ.get("PROGRAM", REPOSITORY / "target/release/handloom")).resolve()
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                is_ours = os.readlink(folder / "exe") == str(built) and wanted <= set((folder / "environ").read_bytes().split(b"\0"))
                # Leaves out the decoder child processes.
                if is_ours and b"process" in (folder / "cmdline").read_bytes().split(b"\0")[1:2]:
                    found.append(int(folder.name))
            except OSError:
                # It has ended.
                pass
    return found
