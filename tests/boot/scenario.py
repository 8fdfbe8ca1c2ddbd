#!/usr/bin/env python3
"""Installs, configures, kills, hangs, reboots, powers off, upgrades and purges one device; its job must still
complete.

usage: scenario.py FOLDER     FOLDER holds debian-12.tar, which tests/boot/run.sh makes

A subscriber outside the device receives the messages. The results must have the bytes of `handloom process`.
"""
import ast
import glob
import hashlib
import json
import os
import pathlib
import random
import re
import signal
import shutil
import subprocess
import sys
import time

from machine import Machine, wait_for

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
CLIPS = int(os.environ.get("CLIPS", "140"))
BATCH = 10
PASSWORD = "open sesame"
READY_S = 2.0

# Nodes as drivers make them, with numbers that no driver here has. "No such device" means that the sandbox allows the
# node; "not permitted" means that it denies it.
ALLOWED_NODES = {
    "video0": ("video4linux", 81, "root", "video"), "media0": ("media", 510, "root", "video"),
    "dma_heap/system": ("dma_heap", 509, "handloom", "root"), "dri/renderD128": ("drm", 226, "root", "render"),
    "accel/accel0": ("accel", 261, "handloom", "root"), "apex_0": ("apex", 508, "handloom", "root"),
    "galcore": ("galcore", 199, "handloom", "root"), "nvhost-gpu": ("nvhost", 507, "root", "video"),
    "bus/usb/001/002": ("usb_device", 189, "handloom", "root"),
}
# Nodes that their permissions open to all and the sandbox denies.
DENIED_NODES = {"loop7": ("b", 7, 7), "kmsg": ("c", 1, 11), "input/event9": ("c", 13, 73), "hidraw9": ("c", 245, 9)}
DEFAULT_NODES = {
    "/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero", "/dev/ptmx", "/dev/pts/ptmx",
}


def report(text):
    print("boot: " + text, flush=True)


def expect(found, expected, what):
    if found != expected:
        raise AssertionError("%s: %r, expected %r" % (what, found, expected))


class Broker:
    """A Mosquitto with a password, and a subscriber that records every message."""

    def __init__(self, folder):
        self.port = random.randrange(20000, 30000)
        (folder / "passwords").unlink(missing_ok=True)
        subprocess.run(["mosquitto_passwd", "-b", "-c", folder / "passwords", "box", PASSWORD], check=True)
        (folder / "mosquitto.conf").write_text("user root\nlistener %d 127.0.0.1\npassword_file %s/passwords\nmax_inflight_messages 0\nmax_queued_messages 0\n" % (self.port, folder))
        self.log = folder / "heard"
        self.processes = [subprocess.Popen(["mosquitto", "-c", folder / "mosquitto.conf"], stderr=subprocess.DEVNULL)]
        time.sleep(1)
        who = ["-h", "127.0.0.1", "-p", str(self.port), "-u", "box", "-P", PASSWORD]
        self.processes.append(subprocess.Popen(["mosquitto_sub"] + who + ["-q", "1", "-t", "handloom/#", "-F", "%t\t%p"], stdout=open(self.log, "wb")))

    def received(self, channel, device="box"):
        topic = "handloom/%s/%s\t" % (device, channel)
        lines = self.log.read_text().split("\n")[:-1]
        return [json.loads(line[len(topic):]) for line in lines if line.startswith(topic)]

    def is_done(self, device):
        states = self.received("state", device)
        return bool(states) and states[-1]["state"] == "idle" and "the job is done" in (states[-1]["reason"] or "")

    def batches(self, device="box"):
        return {message["batch"]: message["sha256"] for message in self.received("batch", device)}

    def wait_for_batch(self, number):
        wait_for("batch %d" % number, lambda: len(self.batches()) > number)
        if len(self.batches()) >= CLIPS // BATCH:
            raise AssertionError("the job was done too early for the test: set CLIPS to more")

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()


def npz(folder):
    names = sorted(p for p in pathlib.Path(folder).rglob("*.npz"))
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in names}


def files(root):
    """All files on the device's disk, except logs, dpkg's caches and file systems in memory."""
    skip = re.compile(r"/(proc|sys|dev|run|tmp|var/tmp|var/log|var/lib/(dpkg|systemd)|var/cache/(apt|debconf|ldconfig)|opt/test)(/|$)")
    found = set()
    for folder, folders, names in os.walk(root):
        inside = folder[len(str(root)):] or "/"
        if skip.match(inside):
            folders[:] = []
            continue
        found.update(os.path.join(inside, name) for name in names + folders if not skip.match(os.path.join(inside, name)))
    return found


def start_time_s(machine, unit="handloom"):
    """Seconds from the program's start until it reports that it is ready."""
    began, ready = (int(machine.show(unit, key)) for key in ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic"))
    return (ready - began) / 1e6


def states(machine, unit="handloom"):
    return tuple(machine.show(unit, key) for key in ("ActiveState", "Result", "ExecMainStatus"))


def main_pid(machine):
    """The host's process id of the program."""
    pid = machine.show("handloom", "MainPID")
    for path in glob.glob("/proc/[0-9]*/status"):
        try:
            text = open(path).read()
        except OSError:
            continue
        if re.search(r"^NSpid:.*\t%s$" % pid, text, re.M) and re.search(r"^Name:\thandloom$", text, re.M):
            return int(path.split("/")[2])
    raise AssertionError("no process %s" % pid)


def config(broker, device, out, more=""):
    return (
        '[device]\nid = "%s"\n[dataset]\npath = "/var/lib/handloom/dataset"\n[output]\npath = "/var/lib/handloom/%s"\nbatch_size = %d\n'
        '[mqtt]\nurl = "mqtt://127.0.0.1:%d"\nusername = "box"\nreconnect_max_s = 1\n[run]\nworkers = 2\n'
        "[limits]\ntemperature_max_c = 125\nmemory_min_mib = 1\nmemory_resume_mib = 2\ndisk_reserve_mib = 1\ndisk_resume_mib = 2\n%s"
    ) % (device, out, BATCH, broker.port, more)


def install(machine, package):
    shutil.copy(package, machine.root / "opt/test.deb")
    machine.run("dpkg", "--install", "/opt/test.deb")


def check_sandbox(machine):
    """Runs the probe in place of the program, in an instance of the packaged template."""
    lines = ["%d %s" % (major, name) for name, major, _, _ in ALLOWED_NODES.values()]
    machine.write("/opt/test/devices", "Character devices:\n  1 mem\n  5 /dev/tty\n" + "\n".join(lines) + "\n\nBlock devices:\n  7 loop\n")
    machine.run("mount", "--bind", "/opt/test/devices", "/proc/devices")
    for name, (_, major, owner, group) in ALLOWED_NODES.items():
        machine.run("sh", "-ec", 'mkdir -p "$(dirname /dev/%s)"; mknod -m 660 /dev/%s c %d 0; chown %s:%s /dev/%s' % (name, name, major, owner, group, name))
    for name, (kind, major, minor) in DENIED_NODES.items():
        machine.run("sh", "-ec", 'mkdir -p "$(dirname /dev/%s)"; rm -f /dev/%s; mknod -m 666 /dev/%s %s %d %d; chmod 666 /dev/%s' % (name, name, name, kind, major, minor, name))
    # Places that everyone may write to outside the sandbox.
    machine.run("sh", "-ec", "mkdir -p -m 777 /srv/open /home/pi /mnt/usb /etc/handloom/open; chmod 777 /srv/open /home/pi /mnt/usb /etc/handloom/open; touch /srv/file; chmod 666 /srv/file")
    shutil.copy(HERE / "probe.py", machine.root / "opt/test/probe.py")
    every = ["/dev/" + name for name in list(ALLOWED_NODES) + list(DENIED_NODES)]
    machine.write("/etc/systemd/system/handloom@probe.service.d/probe.conf", "[Service]\nType=oneshot\nWatchdogSec=0\nRestart=no\nExecStart=\nExecStart=/usr/bin/python3 /opt/test/probe.py %s\nStandardOutput=file:/opt/test/probe.out\nStandardError=file:/opt/test/probe.err\n" % " ".join(every))
    machine.run("systemctl", "daemon-reload")
    if machine.try_run("systemctl", "start", "handloom@probe").returncode != 0:
        raise AssertionError((machine.root / "opt/test/probe.err").read_text() + machine.run("journalctl", "-u", "handloom@probe", "-o", "cat"))
    seen = ast.literal_eval((machine.root / "opt/test/probe.out").read_text())
    for name in ALLOWED_NODES:
        if seen["nodes"]["/dev/" + name] not in ("ok", "ENXIO", "ENODEV"):
            raise AssertionError("/dev/%s: %s" % (name, seen["nodes"]["/dev/" + name]))
    for name in DENIED_NODES:
        # systemd also hides the kernel's log behind a node without permissions.
        expect(seen["nodes"]["/dev/" + name], "EACCES" if name == "kmsg" else "EPERM", "/dev/" + name)
    if not set(seen["openable"]) <= DEFAULT_NODES:
        raise AssertionError("openable: %s" % (set(seen["openable"]) - DEFAULT_NODES))
    own = {"/var/lib/handloom", "/var/cache/handloom", "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"}
    # The directories of the probe's own instance are below these.
    if not set(seen["writable"]) <= own:
        raise AssertionError("writable: %s" % (set(seen["writable"]) - own))
    if not {"/var/lib/handloom", "/var/cache/handloom"} <= set(seen["writable"]):
        raise AssertionError("not writable: %s" % seen["writable"])
    expect(set(seen["capabilities"]), {"0" * 16}, "capabilities")
    expect((seen["no_new_privs"], seen["seccomp"], seen["password"]), ("1", "2", PASSWORD), "the sandbox")
    expect(seen["environment"]["CACHE_DIRECTORY"], "/var/cache/handloom:/var/cache/handloom/probe", "the cache")
    counts = len(ALLOWED_NODES), len(DENIED_NODES)
    report("sandbox: %d nodes allowed, %d denied, writable only %s" % (*counts, " ".join(seen["writable"])))


def check_interruptions(machine, broker, packages):
    """Interrupts one job in every way; the service must continue each time."""
    broker.wait_for_batch(0)
    old = machine.show("handloom", "MainPID")
    os.kill(main_pid(machine), signal.SIGKILL)
    wait_for("a restart after kill -9", lambda: machine.show("handloom", "NRestarts") == "1" and machine.show("handloom", "ActiveState") == "active")
    expect(machine.show("handloom", "MainPID") == old, False, "the same process after kill -9")
    report("kill -9 survived")

    broker.wait_for_batch(2)
    machine.write("/etc/systemd/system/handloom.service.d/hang.conf", "[Service]\nWatchdogSec=4\nTimeoutAbortSec=2\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "handloom")
    hung = time.monotonic()
    os.kill(main_pid(machine), signal.SIGSTOP)
    wait_for("a restart by the watchdog", lambda: machine.show("handloom", "NRestarts") == "1" and machine.show("handloom", "ActiveState") == "active")
    journal = machine.run("journalctl", "-u", "handloom", "-o", "cat", "--no-pager")
    expect("Watchdog timeout" in journal, True, "the watchdog in the journal")
    expect(bool(re.search(r'^clip unreadable .*reason="', journal, re.M)), True, "a clip's reason in the journal")
    report("a hang survived: restarted by the watchdog after %.1f s" % (time.monotonic() - hung))
    (machine.root / "etc/systemd/system/handloom.service.d/hang.conf").unlink()
    machine.run("systemctl", "daemon-reload")

    broker.wait_for_batch(4)
    machine.reboot()
    expect(machine.show("handloom", "ActiveState"), "active", "the service after a reboot")
    expect(broker.received("status")[-2]["status"], "stopped", "the last status before the reboot")
    report("a reboot survived")

    broker.wait_for_batch(6)
    machine.cut_power()
    machine.boot()
    expect(machine.show("handloom", "ActiveState"), "active", "the service after a power cut")
    report("a power cut survived")

    broker.wait_for_batch(8)
    old = machine.show("handloom", "MainPID")
    install(machine, packages[1])
    expect(machine.run("dpkg-query", "-W", "-f", "${Version}", "handloom")[-2:], "-2", "the new package")
    expect(states(machine), ("active", "success", "0"), "the service after an upgrade")
    expect(machine.show("handloom", "MainPID") == old, False, "the same process after an upgrade")
    expect("127.0.0.1" in (machine.root / "etc/handloom/handloom.toml").read_text(), True, "the config after an upgrade")
    report("an upgrade survived")

    # SIGTERM that systemd did not send: work is left, which is no failure, and systemd does not restart the service.
    os.kill(main_pid(machine), signal.SIGTERM)
    wait_for("the end after SIGTERM", lambda: machine.show("handloom", "ActiveState") == "inactive")
    expect(states(machine), ("inactive", "success", "75"), "the service after SIGTERM")
    machine.run("systemctl", "start", "handloom")
    machine.run("systemctl", "reload", "handloom")
    report("exit 75 is no failure")


def check_results(machine, broker, reference):
    wait_for("the end of the job", lambda: broker.is_done("box"))
    out = machine.root / "var/lib/handloom/out"
    expect(npz(out), npz(reference), "the bytes of the results")
    batches = broker.batches()
    expected = {n: digest for n, digest in enumerate(npz(reference)["batches/%05d.npz" % n] for n in range(len(npz(reference)) - 1))}
    wait_for("all batches on MQTT", lambda: broker.batches() == expected)
    numbers = sorted({message["seq"] for message in broker.received("batch")})
    expect(numbers, list(range(numbers[0], numbers[0] + len(numbers))), "the numbers of the batch messages")
    manifest = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    unreadable = {line["video_id"] for line in manifest if line["state"] == "unreadable"}
    expect({m["clip"]["video_id"] for m in broker.received("fault") if m["component"] == "clip"}, unreadable, "the faults on MQTT")
    expect({"online", "offline", "stopped"} <= {m["status"] for m in broker.received("status")}, True, "the states on status")
    owner = (out / "wlasl_landmarks.npz").stat()
    expect(owner.st_mode & 0o007, 0, "the permissions of others on the results")
    report("%d files byte-equal, %d batches and %d faults received" % (len(npz(out)), len(batches), len(unreadable)))


def several_jobs(machine, broker, packages, reference):
    machine.write("/etc/handloom/second.toml", config(broker, "second", "second"))
    machine.run("systemctl", "start", "handloom@second")
    wait_for("the second job", lambda: broker.is_done("second"))
    expect(npz(machine.root / "var/lib/handloom/second"), npz(reference), "the bytes of the second job")
    machine.run("systemctl", "stop", "handloom@second")
    expect(states(machine, "handloom@second")[:2], ("inactive", "success"), "the second job")

    machine.write("/etc/handloom/night.toml", config(broker, "night", "night"))
    machine.write("/etc/systemd/system/handloom-nightly@night.service.d/short.conf", "[Service]\nEnvironment=NIGHT=4s\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "handloom-nightly@night.timer", "handloom-nightly@night.service")
    expect("handloom-nightly@night.service" in machine.run("systemctl", "list-timers", "--no-pager"), True, "the timer")
    ended = lambda: machine.show("handloom-nightly@night", "ActiveState") == "inactive"
    wait_for("the end of the night", ended)
    expect(states(machine, "handloom-nightly@night"), ("inactive", "success", "75"), "the first night")
    machine.write("/etc/systemd/system/handloom-nightly@night.service.d/short.conf", "")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "handloom-nightly@night.service")
    wait_for("the end of the job at night", ended)
    expect(states(machine, "handloom-nightly@night"), ("inactive", "success", "0"), "the second night")
    expect(npz(machine.root / "var/lib/handloom/night"), npz(reference), "the bytes of the nightly job")
    began = machine.show("handloom-nightly@night", "ExecMainStartTimestampMonotonic")
    install(machine, packages[1])
    expect(states(machine, "handloom-nightly@night"), ("inactive", "success", "0"), "the nightly job after an upgrade")
    expect(machine.show("handloom-nightly@night", "ExecMainStartTimestampMonotonic"), began, "the start of the nightly job")
    machine.run("systemctl", "stop", "handloom-nightly@night.timer")
    shutil.rmtree(machine.root / "etc/systemd/system/handloom-nightly@night.service.d")
    report("an instance and a nightly job in two nights: byte-equal")


def bad_config(machine):
    path = machine.root / "etc/handloom/handloom.toml"
    good = path.read_text()
    path.write_text(good + "\n[typo]\n")
    machine.try_run("systemctl", "restart", "handloom")
    wait_for("the end over a bad config", lambda: machine.show("handloom", "ActiveState") == "failed")
    time.sleep(7)
    expect(states(machine), ("failed", "exit-code", "78"), "the service with a bad config")
    expect(machine.show("handloom", "NRestarts"), "0", "restarts with a bad config")
    path.write_text(good)
    machine.run("systemctl", "restart", "handloom")
    expect(states(machine)[0], "active", "the service with the config repaired")
    report("exit 78 causes no restart")


def main():
    work = pathlib.Path(sys.argv[1]).resolve()
    root = work / "root"
    package_folders = {1: REPOSITORY / "target/deb", 2: work}
    packages = [max(folder.glob("handloom_*-%d_amd64.deb" % n), key=os.path.getmtime) for n, folder in package_folders.items()]
    program = REPOSITORY / "target/release/handloom"
    os.environ["PATH"] += ":/usr/sbin"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("demo", "dataset", "reference"):
        shutil.rmtree(work / name, ignore_errors=True)
    report("drawing %d clips and processing them on the host as the reference" % CLIPS)
    subprocess.run([program, "demo", "--out", work / "demo"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([REPOSITORY / "tests/long/many_clips.py", work / "demo/dataset", work / "dataset", str(CLIPS)], check=True)
    subprocess.run([program, "process", work / "dataset", "--out", work / "reference", "--batch-size", str(BATCH), "--workers", "2"], check=True, stdout=subprocess.DEVNULL)
    root.mkdir()
    subprocess.run(["tar", "-C", root, "--numeric-owner", "-xpf", work / "debian-12.tar"], check=True)
    (root / "etc/hostname").write_text("box\n")
    broker = Broker(work)
    machine = Machine(root, work / "console.log")
    try:
        machine.boot()
        before = files(root)
        install(machine, packages[0])
        expect(machine.show("handloom", "ActiveState"), "active", "the service right after the installation")
        expect(machine.run("systemctl", "is-enabled", "handloom").strip(), "enabled", "the service at the next boot")
        first = start_time_s(machine)
        wait_for("a status text on the missing dataset", lambda: "no dataset at" in machine.show("handloom", "StatusText"))
        machine.run("handloom", "check", "--print", "--config", "/etc/handloom/handloom.toml")
        # This system has only the package's dependencies. HOME keeps the program's own files in the test's folder.
        machine.run("env", "HOME=/opt/test", "handloom", "demo", "--out", "/opt/test/demo")
        report("the demo runs with the package's dependencies alone")
        machine.write("/etc/credstore/handloom.mqtt-password", PASSWORD + "\n", 0o600)
        check_sandbox(machine)

        machine.write("/etc/handloom/handloom.toml", config(broker, "box", "out"))
        subprocess.run(["cp", "-r", work / "dataset", root / "var/lib/handloom/dataset"], check=True)
        machine.run("chown", "-R", "handloom:handloom", "/var/lib/handloom/dataset")
        machine.run("systemctl", "restart", "handloom")
        second = start_time_s(machine)
        report("ready after %.2f s at the first start, %.2f s at the second" % (first, second))
        if second > READY_S:
            raise AssertionError("more than %.1f s" % READY_S)
        check_interruptions(machine, broker, packages)
        check_results(machine, broker, work / "reference")
        bad_config(machine)
        several_jobs(machine, broker, packages, work / "reference")

        results = npz(root / "var/lib/handloom/out")
        # A command that runs as the service's user leaves this folder.
        machine.run("runuser", "-u", "handloom", "--", "mkdir", "-p", "/var/lib/handloom/.cache/gstreamer-1.0")
        machine.run("dpkg", "--purge", "handloom")
        expect(broker.received("status")[-1]["status"], "stopped", "the last status")
        left = {path for path in files(root) - before if not path.startswith(("/var/lib/handloom", "/opt/"))}
        # Files of the test, and the user's configs and password.
        user = ("/etc/systemd/system/handloom", "/etc/handloom", "/etc/credstore", "/srv/", "/home/pi", "/mnt/usb")
        system = {"/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock"}
        expect({path for path in left if not path.startswith(user)} - system, set(), "what a purge leaves")
        expect(os.path.exists(root / "etc/handloom/handloom.toml"), False, "the packaged config after a purge")
        expect(os.path.exists(root / "var/lib/handloom/.cache"), False, "the cache in the service's home after a purge")
        expect(npz(root / "var/lib/handloom/out"), results, "the results after a purge")
        expect(machine.try_run("systemctl", "is-active", "handloom").stdout.strip(), "inactive", "the service after a purge")
        report("a purge leaves only the user's data")
    except BaseException:
        if machine.nspawn is not None and machine.leader:
            print(machine.try_run("journalctl", "-u", "handloom*", "-n", "40", "--no-pager").stdout, file=sys.stderr)
        raise
    finally:
        machine.off()
        broker.end()
    report("all checks pass")


if __name__ == "__main__":
    main()
