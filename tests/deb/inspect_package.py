#!/usr/bin/env python3
"""Unpacks a .deb and checks it: the list of files, the units with systemd-analyze (valid, low exposure), and the
packed program with the packed config, models and library.

usage: inspect_package.py PACKAGE [FOLDER]     FOLDER, by default `inspect` beside the package, is emptied

Nothing is installed. `make test-boot` tests the package on a running system.
"""
import gzip
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
SIZE_MAX = 20_000_000
# The tests' build is larger. Only tests pack it.
IS_RELEASE = os.environ.get("DEB_PROFILE", "release") == "release"
# On systemd-analyze's scale from 0 (safe) to 10.
EXPOSURE_MAX = 1.5
UNITS = ["handloom.service", "handloom@job.service", "handloom-nightly@job.service"]
# Components compiled into the TFLite library, each with a text of its licence notice.
LINKED = {
    "TensorFlow Lite": "The TensorFlow Authors",
    "ruy": "Apache License, Version 2.0",
    "gemmlowp": "The Gemmlowp Authors",
    "FlatBuffers": "Apache License, Version 2.0",
    "XNNPACK": "Neither the name Facebook",
    "pthreadpool": "Redistributions in binary form",
    "cpuinfo": "Copyright (C) 2010-2012 Marat Dukhan",
    "FXdiv": "Copyright (c) 2016 Marat Dukhan",
    "FP16": "The above copyright notice and this permission notice",
    "FarmHash": "Copyright (c) 2014 Google, Inc.",
    "ARM_NEON_2_x86_SSE": "Intel Corporation",
    "FFT2D": "Takuya OOURA",
    "Eigen": "/usr/share/common-licenses/MPL-2.0",
}
EXPECTED = """
etc/handloom/handloom.toml
usr/bin/handloom
usr/lib/handloom/libtensorflowlite_c.so
usr/lib/handloom/models/hand_int8_cpu.tflite
usr/lib/handloom/models/hand_int8_npu.tflite
usr/lib/handloom/models/hand_landmark_full.tflite
usr/lib/handloom/models/hand_landmark_pruned.tflite
usr/lib/handloom/models/palm_detection_full.tflite
usr/lib/systemd/system/handloom-nightly@.service
usr/lib/systemd/system/handloom-nightly@.service.d/10-sandbox.conf
usr/lib/systemd/system/handloom-nightly@.timer
usr/lib/systemd/system/handloom.service
usr/lib/systemd/system/handloom.service.d/10-sandbox.conf
usr/lib/systemd/system/handloom@.service
usr/lib/systemd/system/handloom@.service.d/10-sandbox.conf
usr/lib/sysusers.d/handloom.conf
usr/lib/tmpfiles.d/handloom.conf
usr/lib/udev/rules.d/60-handloom.rules
usr/share/bash-completion/completions/handloom
usr/share/doc/handloom/examples/cluster/kubernetes-claim.yaml
usr/share/doc/handloom/examples/cluster/kubernetes-copy.yaml
usr/share/doc/handloom/examples/cluster/kubernetes-merge.yaml
usr/share/doc/handloom/examples/cluster/kubernetes.yaml
usr/share/doc/handloom/examples/cluster/parallel.sh
usr/share/doc/handloom/examples/cluster/slurm.sbatch
usr/share/doc/handloom/examples/handloom.toml
usr/share/doc/handloom/accelerators.md.gz
usr/share/doc/handloom/cluster.md.gz
usr/share/doc/handloom/data.md.gz
usr/share/doc/handloom/install.md.gz
usr/share/doc/handloom/operate.md.gz
usr/share/doc/handloom/scale.md.gz
usr/share/doc/handloom/tflite-licences.txt.gz
usr/share/doc/handloom/README.md.gz
usr/share/doc/handloom/changelog.Debian.gz
usr/share/doc/handloom/changelog.gz
usr/share/doc/handloom/copyright
usr/share/doc/handloom/third-party-licences.txt.gz
usr/share/fish/vendor_completions.d/handloom.fish
usr/share/lintian/overrides/handloom
usr/share/zsh/vendor-completions/_handloom
""".split()
EXPECTED_NAMES = {pathlib.Path(path).name for path in EXPECTED}


def report(text):
    print("package: " + text, flush=True)


def expect(holds, what):
    if not holds:
        sys.exit("package: " + what)


def output_of(*command, code=0, **options):
    """Stdout and stderr of a command that must end with `code`."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, **options)
    text = done.stdout.decode("utf-8", "replace")
    expect(done.returncode == code, "%s ends with %s, not %d:\n%s" % (" ".join(map(str, command)), done.returncode, code, text))
    return text


def check_control(package, tree):
    field = lambda name: output_of("dpkg-deb", "-f", package, name).strip()
    depends = field("Depends").split(", ")
    for name in ("libc6", "libssl3", "libstdc++6", "libglib2.0-0", "libgstreamer1.0-0", "gstreamer1.0-libav", "gstreamer1.0-plugins-good"):
        expect(any(one.startswith(name) for one in depends), "no %s in Depends: %s" % (name, depends))
    for name in ("base", "good", "bad"):
        fixed = r"gstreamer1\.0-plugins-%s \(>= 1\.22\.0-\d\+deb12u\d\) \|" % name
        expect(any(re.match(fixed, one) for one in depends), "Depends allows plugins-%s in a version with known faults: %s" % (name, depends))
    expect(output_of("dpkg-deb", "-I", package, "conffiles").strip() == "/etc/handloom/handloom.toml", "the config is not the only conffile")
    sums = dict(reversed(line.split("  ", 1)) for line in output_of("dpkg-deb", "-I", package, "md5sums").splitlines())
    files = {str(p.relative_to(tree)): p for p in (tree / "usr").rglob("*") if p.is_file()}
    expect(sums == {name: hashlib.md5(p.read_bytes()).hexdigest() for name, p in files.items()}, "md5sums do not match the files")
    for script in ("postinst", "prerm", "postrm"):
        expect(output_of("dpkg-deb", "-I", package, script).startswith("#!/bin/sh\nset -e\n"), "no %s" % script)
    loaded = [tree / "usr/bin/handloom", tree / "usr/lib/handloom/libtensorflowlite_c.so"]
    comment = re.search(r'^u handloom - "(\w+)"', (tree / "usr/lib/sysusers.d/handloom.conf").read_text(), re.M).group(1)
    expect('"$comment" = %s ]' % comment in output_of("dpkg-deb", "-I", package, "postrm"), "postrm does not recognise the package's own user by its comment")
    glibc = max(re.findall(r"GLIBC_([\d.]+)", output_of("readelf", "-V", "--wide", *loaded)), key=lambda v: [int(n) for n in v.split(".")])
    report("%s %s, glibc %s or newer, depends: %s" % (field("Version"), field("Architecture"), glibc, ", ".join(depends)))


def check_contents(package, tree):
    files = {str(p.relative_to(tree)) for p in tree.rglob("*") if not p.is_dir()}
    help_text = output_of(tree / "usr/bin/handloom", "help")
    # Deeper lines continue the one before.
    commands = re.findall(r"^  (\w[\w-]*)", help_text.split("Commands:\n")[1].split("\n\n")[0], re.M)
    pages = {"handloom"} | {"handloom-" + name for name in commands if name != "help"}
    expect(len(pages) > 6, "only these subcommands: %s" % sorted(pages))
    expected = set(EXPECTED) | {"usr/share/man/man1/%s.1.gz" % page for page in pages}
    expect(files == expected, "missing: %s; unexpected: %s" % (sorted(expected - files), sorted(files - expected)))
    for line in output_of("dpkg-deb", "-c", package).splitlines():
        mode, owner = line.split()[:2]
        is_program = line.endswith(" ./usr/bin/handloom")
        expect(owner in ("0/0", "root/root"), "not owned by root: " + line)
        expect(mode in ("drwxr-xr-x", "-rwxr-xr-x" if is_program else "-rw-r--r--"), "mode: " + line)
    program = tree / "usr/bin/handloom"
    size = program.stat().st_size
    expect(size <= SIZE_MAX or not IS_RELEASE, "the program has %d bytes, more than %d" % (size, SIZE_MAX))
    sections = output_of("readelf", "-S", "--wide", program)
    # .debug_gdb_scripts is allowed: it is part of the stripped program.
    expect(not any(name in sections for name in (".symtab", ".debug_info", ".debug_line")), "the program is not stripped")
    unzipped = lambda path: gzip.open(tree / "usr/share" / path, "rt", encoding="utf-8").read()
    version = output_of(program, "--version").strip()
    for name in pages:
        page = unzipped("man/man1/%s.1.gz" % name)
        expect(re.search(r'^\.TH %s 1 +"%s"$' % (name, version), page, re.M), "%s.1 does not name version %s" % (name, version))
        expect(".SH SYNOPSIS" in page, "no synopsis in %s.1" % name)
    guides = {
        "README": "`install.md.gz`",
        "data": "--keep-frames",
        "install": "/etc/credstore/handloom.mqtt-password",
        "operate": "`/etc/handloom/handloom.toml`",
        "accelerators": "require:NAME",
        "cluster": "`examples/cluster/slurm.sbatch`",
        "scale": "merge",
    }
    for guide, text_part in guides.items():
        text = unzipped("doc/handloom/%s.md.gz" % guide)
        expect(text_part in text, "%s.md.gz lacks %s" % (guide, text_part))
        expect("](" not in re.sub(r"\]\(https://[^)]*\)", "", text), "%s.md.gz has a link to a file outside the package" % guide)
        for name in re.findall(r"`(\w+\.md\.gz|changelog\.gz)`", text):
            expect(name in EXPECTED_NAMES, "%s.md.gz names %s, which is not in the package" % (guide, name))
    scripts = [(tree / path).read_text() for path in EXPECTED if "completions" in path]
    for name in commands:
        expect(all(name in script for script in scripts), "a completion script lacks %s" % name)
    output_of("bash", "-euc", 'source "$0"; complete -p handloom', tree / "usr/share/bash-completion/completions/handloom")
    licences = unzipped("doc/handloom/third-party-licences.txt.gz")
    crates = re.findall(r'^([a-z_][\w-]*) = ', (REPOSITORY / "Cargo.toml").read_text().split("[dependencies]")[1].split("\n[")[0], re.M)
    for crate in crates:
        expect(re.search(r"^  %s [\d.]+[^:]*: \w" % re.escape(crate), licences, re.M), "no licence of %s" % crate)
    linked = unzipped("doc/handloom/tflite-licences.txt.gz")
    for part, notice in LINKED.items():
        found = re.search(r"^=+\n[^\n]*%s[^\n]*\(.*?(?=^=+$|\Z)" % re.escape(part), linked, re.M | re.S)
        expect(found and notice in found.group(0), "no licence of %s with the text '%s'" % (part, notice))
    expect((tree / "usr/share/doc/handloom/examples/handloom.toml").read_bytes() == (tree / "etc/handloom/handloom.toml").read_bytes(), "the example config is not the packed one")
    report("%d files, program %d bytes, %d man pages, licences of %d direct dependencies" % (len(files), size, len(pages), len(crates)))


def check_units(tree, folder):
    """Checks copies that name the unpacked program, since systemd-analyze checks that it exists."""
    copy = folder / "units"
    shutil.copytree(tree / "usr/lib/systemd/system", copy)
    for unit in copy.glob("*.service"):
        text = unit.read_text()
        for page in re.findall(r"man:([\w-]+)\(1\)", text):
            expect((tree / ("usr/share/man/man1/%s.1.gz" % page)).exists(), "%s: no man page %s" % (unit.name, page))
        unit.write_text(text.replace("/usr/bin/handloom", str(tree / "usr/bin/handloom")))
    paths = [copy / unit for unit in UNITS + ["handloom-nightly@job.timer"]]
    # It always ends with 0, and also checks units of this machine.
    verify = output_of("systemd-analyze", "verify", "--man=no", *paths)
    ours = [line for line in verify.splitlines() if "handloom" in line or "sandbox" in line]
    expect(not ours, "systemd-analyze verify:\n" + "\n".join(ours))
    figures = []
    for unit in UNITS:
        text = output_of("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=100", copy / unit)
        figure = float(re.search(r"exposure level for \S+: ([\d.]+)", text).group(1))
        expect(figure <= EXPOSURE_MAX, "%s: exposure %s, more than %s\n%s" % (unit, figure, EXPOSURE_MAX, text))
        figures.append("%s %s" % (unit, figure))
    if re.search(r"--dry-run", output_of("systemd-sysusers", "--help")):
        text = output_of("systemd-sysusers", "--dry-run", "--root=%s" % tree)
        expect("Creating user 'handloom'" in text, "systemd-sysusers: " + text)
    report("systemd-analyze verify: clean; security: " + ", ".join(figures))


def plugins(package, folder):
    """The environment in which GStreamer finds only the plugins of the package's dependencies."""
    folder.mkdir()
    names = [one.split()[0] for one in output_of("dpkg-deb", "-f", package, "Depends").strip().split(", ")]
    for name in names:
        if name.startswith(("gstreamer1.0-", "libgstreamer1.0-")):
            for path in output_of("dpkg-query", "-L", name).split():
                if re.search(r"/gstreamer-1\.0/[^/]*\.so$", path):
                    (folder / pathlib.Path(path).name).symlink_to(path)
    expect((folder / "libgstlibav.so").exists(), "no libgstlibav.so in %s" % names)
    return {"GST_PLUGIN_SYSTEM_PATH_1_0": str(folder), "GST_PLUGIN_PATH_1_0": "", "GST_REGISTRY_1_0": str(folder / "registry")}


def check_program(package, tree, folder):
    """Runs the packed program outside the repository, with the packed files and the package's dependencies only."""
    program, config = tree / "usr/bin/handloom", tree / "etc/handloom/handloom.toml"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HANDLOOM_", "LD_LIBRARY", "CACHE_", "CARGO", "TFLITE"))}
    environment.update(plugins(package, folder / "plugins"), XDG_CACHE_HOME=str(folder / "cache"))
    options = {"cwd": folder, "env": environment}
    text = output_of(program, "check", "--print", "--config", config, **options)
    for line in ('path = "/var/lib/handloom/dataset"', 'path = "/var/lib/handloom/out"'):
        expect(line in text, "no %s in the config:\n%s" % (line, text))
    (folder / "bad.toml").write_text(config.read_text() + "\n[typo]\n")
    output_of(program, "check", "--print", "--config", folder / "bad.toml", code=78, **options)
    output_of(program, "demo", "--out", folder / "demo", **options)
    out = ["--set", "output.path=%s" % (folder / "out")]
    text = output_of(program, "check", "--config", config, "--set", "dataset.path=%s" % (folder / "demo/dataset"), *out, **options)
    for part in ("libtensorflowlite_c.so", "models/palm_detection_full.tflite", "models/hand_landmark_full.tflite"):
        paths = re.findall(r"\S*/%s" % re.escape(part), text)
        expect(paths and all(pathlib.Path(p).is_relative_to(tree) and ".." not in p for p in paths), "%s does not come from the package:\n%s" % (part, text))
    expect("INFO" not in text, "the runtime prints INFO lines:\n" + text)
    states = [json.loads(line)["state"] for line in (folder / "demo/result/manifest.jsonl").read_text().splitlines()]
    expect(states.count("accepted") > 0, "the packed program has accepted no clip: %s" % states)
    report("the packed program reads the packed config and accepts %d of %d drawn clips" % (states.count("accepted"), len(states)))


def main():
    package = pathlib.Path(sys.argv[1]).resolve()
    folder = pathlib.Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else package.parent / "inspect"
    shutil.rmtree(folder, ignore_errors=True)
    tree = folder / "tree"
    tree.mkdir(parents=True)
    output_of("dpkg-deb", "-x", package, tree)
    check_control(package, tree)
    check_contents(package, tree)
    check_units(tree, folder)
    check_program(package, tree, folder)
    shutil.rmtree(folder)
    report("%s, %d bytes: all checks pass" % (package.name, package.stat().st_size))


if __name__ == "__main__":
    main()
