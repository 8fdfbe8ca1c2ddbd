#!/usr/bin/env python3
"""One device's life: installed, configured, killed, hung, rebooted, cut off, upgraded, purged; its job is done all the same.

usage: story.py FOLDER     with debian-12.tar in it; tests/boot/run.sh makes it

Messages are read by a subscriber outside the device, bytes are held against those of `handloom process`.
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

# Nodes as drivers would make them, with numbers that no driver here has: "no such device" means that the sandbox let
# the service through to the kernel, "not permitted" that it did not.
LET_IN = {
    "video0": ("video4linux", 81, "root", "video"), "media0": ("media", 510, "root", "video"),
    "dma_heap/system": ("dma_heap", 509, "handloom", "root"), "dri/renderD128": ("drm", 226, "root", "render"),
    "accel/accel0": ("accel", 261, "handloom", "root"), "apex_0": ("apex", 508, "handloom", "root"),
    "galcore": ("galcore", 199, "handloom", "root"), "nvhost-gpu": ("nvhost", 507, "root", "video"),
    "bus/usb/001/002": ("usb_device", 189, "handloom", "root"),
}
# Open to all by their permissions, closed by the sandbox.
SHUT_OUT = {"loop7": ("b", 7, 7), "kmsg": ("c", 1, 11), "input/event9": ("c", 13, 73), "hidraw9": ("c", 245, 9)}
USUAL = {"/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero", "/dev/ptmx", "/dev/pts/ptmx"}


def tell(text):
    print("boot: " + text, flush=True)


def expect(found, wanted, what):
    if found != wanted:
        raise AssertionError("%s: %r, wanted %r" % (what, found, wanted))


class Listener:
    """Mosquitto with a password, and a subscriber that writes down all that is said."""

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

    def heard(self, channel, device="box"):
        topic = "handloom/%s/%s\t" % (device, channel)
        lines = self.log.read_text().split("\n")[:-1]
        return [json.loads(line[len(topic):]) for line in lines if line.startswith(topic)]

    def is_done(self, device):
        states = self.heard("state", device)
        return bool(states) and states[-1]["state"] == "idle" and "the job is done" in (states[-1]["reason"] or "")

    def batches(self, device="box"):
        return {message["batch"]: message["sha256"] for message in self.heard("batch", device)}

    def wait_for_batch(self, number):
        wait_for("batch %d" % number, lambda: len(self.batches()) > number)
        if len(self.batches()) >= CLIPS // BATCH:
            raise AssertionError("the job was done too early for the test: more clips, please")

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()


def npz(folder):
    names = sorted(p for p in pathlib.Path(folder).rglob("*.npz"))
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in names}


def files(root):
    """Everything on the device's disk but logs, caches of dpkg's own, and what is in memory."""
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
    """From the program's start to its word that it is ready."""
    began, ready = (int(machine.show(unit, key)) for key in ("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic"))
    return (ready - began) / 1e6


def states(machine, unit="handloom"):
    return tuple(machine.show(unit, key) for key in ("ActiveState", "Result", "ExecMainStatus"))


def main_pid(machine):
    """The program's process as this side of the system sees it."""
    pid = machine.show("handloom", "MainPID")
    for path in glob.glob("/proc/[0-9]*/status"):
        try:
            text = open(path).read()
        except OSError:
            continue
        if re.search(r"^NSpid:.*\t%s$" % pid, text, re.M) and re.search(r"^Name:\thandloom$", text, re.M):
            return int(path.split("/")[2])
    raise AssertionError("no process %s" % pid)


def config(listener, device, out, more=""):
    return (
        '[device]\nid = "%s"\n[dataset]\npath = "/var/lib/handloom/dataset"\n[output]\npath = "/var/lib/handloom/%s"\nbatch_size = %d\n'
        '[mqtt]\nurl = "mqtt://127.0.0.1:%d"\nusername = "box"\nreconnect_max_s = 1\n[run]\nworkers = 2\n'
        "[limits]\ntemperature_max_c = 125\nmemory_min_mib = 1\nmemory_resume_mib = 2\ndisk_reserve_mib = 1\ndisk_resume_mib = 2\n%s"
    ) % (device, out, BATCH, listener.port, more)


def install(machine, package):
    shutil.copy(package, machine.root / "opt/test.deb")
    machine.run("dpkg", "--install", "/opt/test.deb")


def look_into_the_sandbox(machine):
    """With the probe in the program's place, in an instance of the packaged template."""
    lines = ["%d %s" % (major, name) for name, major, _, _ in LET_IN.values()]
    machine.write("/opt/test/devices", "Character devices:\n  1 mem\n  5 /dev/tty\n" + "\n".join(lines) + "\n\nBlock devices:\n  7 loop\n")
    machine.run("mount", "--bind", "/opt/test/devices", "/proc/devices")
    for name, (_, major, owner, group) in LET_IN.items():
        machine.run("sh", "-ec", 'mkdir -p "$(dirname /dev/%s)"; mknod -m 660 /dev/%s c %d 0; chown %s:%s /dev/%s' % (name, name, major, owner, group, name))
    for name, (kind, major, minor) in SHUT_OUT.items():
        machine.run("sh", "-ec", 'mkdir -p "$(dirname /dev/%s)"; rm -f /dev/%s; mknod -m 666 /dev/%s %s %d %d; chmod 666 /dev/%s' % (name, name, name, kind, major, minor, name))
    # Places that everyone may write to, but for the sandbox.
    machine.run("sh", "-ec", "mkdir -p -m 777 /srv/open /home/pi /mnt/usb /etc/handloom/open; chmod 777 /srv/open /home/pi /mnt/usb /etc/handloom/open; touch /srv/file; chmod 666 /srv/file")
    shutil.copy(HERE / "probe.py", machine.root / "opt/test/probe.py")
    every = ["/dev/" + name for name in list(LET_IN) + list(SHUT_OUT)]
    machine.write("/etc/systemd/system/handloom@probe.service.d/probe.conf", "[Service]\nType=oneshot\nWatchdogSec=0\nRestart=no\nExecStart=\nExecStart=/usr/bin/python3 /opt/test/probe.py %s\nStandardOutput=file:/opt/test/probe.out\nStandardError=file:/opt/test/probe.err\n" % " ".join(every))
    machine.run("systemctl", "daemon-reload")
    if machine.try_run("systemctl", "start", "handloom@probe").returncode != 0:
        raise AssertionError((machine.root / "opt/test/probe.err").read_text() + machine.run("journalctl", "-u", "handloom@probe", "-o", "cat"))
    seen = ast.literal_eval((machine.root / "opt/test/probe.out").read_text())
    for name in LET_IN:
        if seen["nodes"]["/dev/" + name] not in ("ok", "ENXIO", "ENODEV"):
            raise AssertionError("/dev/%s: %s" % (name, seen["nodes"]["/dev/" + name]))
    for name in SHUT_OUT:
        # The kernel's log is hidden besides, under a node that is open to nobody.
        expect(seen["nodes"]["/dev/" + name], "EACCES" if name == "kmsg" else "EPERM", "/dev/" + name)
    if not set(seen["openable"]) <= USUAL:
        raise AssertionError("openable: %s" % (set(seen["openable"]) - USUAL))
    own = {"/var/lib/handloom", "/var/cache/handloom", "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"}
    # In the probe's own instance those are /var/lib/handloom and what is below.
    if not set(seen["writable"]) <= own:
        raise AssertionError("writable: %s" % (set(seen["writable"]) - own))
    if not {"/var/lib/handloom", "/var/cache/handloom"} <= set(seen["writable"]):
        raise AssertionError("not writable: %s" % seen["writable"])
    expect(set(seen["capabilities"]), {"0" * 16}, "capabilities")
    expect((seen["no_new_privs"], seen["seccomp"], seen["password"]), ("1", "2", PASSWORD), "the sandbox")
    expect(seen["environment"]["CACHE_DIRECTORY"], "/var/cache/handloom:/var/cache/handloom/probe", "the cache")
    tell("sandbox: %d nodes let in, %d shut out, writable only %s" % (len(LET_IN), len(SHUT_OUT), " ".join(seen["writable"])))


def survive(machine, listener, packages):
    """One job, and all that happens while it runs. Returns how often each thing was survived."""
    listener.wait_for_batch(0)
    old = machine.show("handloom", "MainPID")
    os.kill(main_pid(machine), signal.SIGKILL)
    wait_for("a restart after kill -9", lambda: machine.show("handloom", "NRestarts") == "1" and machine.show("handloom", "ActiveState") == "active")
    expect(machine.show("handloom", "MainPID") == old, False, "the same process after kill -9")
    tell("kill -9 survived")

    listener.wait_for_batch(2)
    machine.write("/etc/systemd/system/handloom.service.d/hang.conf", "[Service]\nWatchdogSec=4\nTimeoutAbortSec=2\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "handloom")
    hung = time.monotonic()
    os.kill(main_pid(machine), signal.SIGSTOP)
    wait_for("a restart by the watchdog", lambda: machine.show("handloom", "NRestarts") == "1" and machine.show("handloom", "ActiveState") == "active")
    journal = machine.run("journalctl", "-u", "handloom", "-o", "cat", "--no-pager")
    expect("Watchdog timeout" in journal, True, "the watchdog in the journal")
    tell("a hang survived: restarted by the watchdog after %.1f s" % (time.monotonic() - hung))
    (machine.root / "etc/systemd/system/handloom.service.d/hang.conf").unlink()
    machine.run("systemctl", "daemon-reload")

    listener.wait_for_batch(4)
    machine.reboot()
    expect(machine.show("handloom", "ActiveState"), "active", "the service after a reboot")
    expect(listener.heard("status")[-2]["status"], "stopped", "the word before a reboot")
    tell("a reboot survived")

    listener.wait_for_batch(6)
    machine.cut_power()
    machine.boot()
    expect(machine.show("handloom", "ActiveState"), "active", "the service after a power cut")
    tell("a power cut survived")

    listener.wait_for_batch(8)
    old = machine.show("handloom", "MainPID")
    install(machine, packages[1])
    expect(machine.run("dpkg-query", "-W", "-f", "${Version}", "handloom")[-2:], "-2", "the new package")
    expect(states(machine), ("active", "success", "0"), "the service after an upgrade")
    expect(machine.show("handloom", "MainPID") == old, False, "the same process after an upgrade")
    expect("127.0.0.1" in (machine.root / "etc/handloom/handloom.toml").read_text(), True, "the config after an upgrade")
    tell("an upgrade survived")

    # SIGTERM from somebody else than systemd: work is left, which is no failure and nothing to repeat.
    os.kill(main_pid(machine), signal.SIGTERM)
    wait_for("the end after SIGTERM", lambda: machine.show("handloom", "ActiveState") == "inactive")
    expect(states(machine), ("inactive", "success", "75"), "the service after SIGTERM")
    machine.run("systemctl", "start", "handloom")
    machine.run("systemctl", "reload", "handloom")
    tell("exit 75 is no failure")


def check_the_work(machine, listener, reference):
    wait_for("the end of the job", lambda: listener.is_done("box"))
    out = machine.root / "var/lib/handloom/out"
    expect(npz(out), npz(reference), "the bytes of the results")
    batches = listener.batches()
    wanted = {n: digest for n, digest in enumerate(npz(reference)["batches/%05d.npz" % n] for n in range(len(npz(reference)) - 1))}
    wait_for("all batches on MQTT", lambda: listener.batches() == wanted)
    numbers = sorted({message["seq"] for message in listener.heard("batch")})
    expect(numbers, list(range(numbers[0], numbers[0] + len(numbers))), "the numbers of the batch messages")
    manifest = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    unreadable = {line["video_id"] for line in manifest if line["state"] == "unreadable"}
    expect({m["clip"]["video_id"] for m in listener.heard("fault") if m["component"] == "clip"}, unreadable, "the faults on MQTT")
    expect({"online", "offline", "stopped"} <= {m["status"] for m in listener.heard("status")}, True, "the words on status")
    owner = (out / "wlasl_landmarks.npz").stat()
    expect(owner.st_mode & 0o007, 0, "what others may do with the results")
    tell("%d files byte-equal, %d batches and %d faults heard" % (len(npz(out)), len(batches), len(unreadable)))


def several_jobs(machine, listener, packages, reference):
    machine.write("/etc/handloom/second.toml", config(listener, "second", "second"))
    machine.run("systemctl", "start", "handloom@second")
    wait_for("the second job", lambda: listener.is_done("second"))
    expect(npz(machine.root / "var/lib/handloom/second"), npz(reference), "the bytes of the second job")
    machine.run("systemctl", "stop", "handloom@second")
    expect(states(machine, "handloom@second")[:2], ("inactive", "success"), "the second job")

    machine.write("/etc/handloom/night.toml", config(listener, "night", "night"))
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
    tell("an instance and a nightly job in two nights: byte-equal")


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
    expect(states(machine)[0], "active", "the service with the config mended")
    tell("exit 78 is not tried again")


def main():
    work = pathlib.Path(sys.argv[1]).resolve()
    root = work / "root"
    places = {1: REPOSITORY / "target/deb", 2: work}
    packages = [max(place.glob("handloom_*-%d_amd64.deb" % n), key=os.path.getmtime) for n, place in places.items()]
    program = REPOSITORY / "target/release/handloom"
    os.environ["PATH"] += ":/usr/sbin"
    shutil.rmtree(root, ignore_errors=True)
    for name in ("demo", "dataset", "reference"):
        shutil.rmtree(work / name, ignore_errors=True)
    tell("drawing %d clips and processing them outside, to compare with" % CLIPS)
    subprocess.run([program, "demo", "--out", work / "demo"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([REPOSITORY / "tests/long/many_clips.py", work / "demo/dataset", work / "dataset", str(CLIPS)], check=True)
    subprocess.run([program, "process", work / "dataset", "--out", work / "reference", "--batch-size", str(BATCH), "--workers", "2"], check=True, stdout=subprocess.DEVNULL)
    root.mkdir()
    subprocess.run(["tar", "-C", root, "--numeric-owner", "-xpf", work / "debian-12.tar"], check=True)
    (root / "etc/hostname").write_text("box\n")
    listener = Listener(work)
    machine = Machine(root, work / "console.log")
    try:
        machine.boot()
        before = files(root)
        install(machine, packages[0])
        expect(machine.show("handloom", "ActiveState"), "active", "the service right after the installation")
        expect(machine.run("systemctl", "is-enabled", "handloom").strip(), "enabled", "the service at the next boot")
        first = start_time_s(machine)
        wait_for("a word on the missing dataset", lambda: "no dataset at" in machine.show("handloom", "StatusText"))
        machine.run("handloom", "check", "--print", "--config", "/etc/handloom/handloom.toml")
        # Nothing but what the package depends on is in this system; what the program keeps for itself goes to the test's folder.
        machine.run("env", "HOME=/opt/test", "handloom", "demo", "--out", "/opt/test/demo")
        tell("the demo runs on what the package brings along")
        machine.write("/etc/credstore/handloom.mqtt-password", PASSWORD + "\n", 0o600)
        look_into_the_sandbox(machine)

        machine.write("/etc/handloom/handloom.toml", config(listener, "box", "out"))
        subprocess.run(["cp", "-r", work / "dataset", root / "var/lib/handloom/dataset"], check=True)
        machine.run("chown", "-R", "handloom:handloom", "/var/lib/handloom/dataset")
        machine.run("systemctl", "restart", "handloom")
        second = start_time_s(machine)
        tell("ready after %.2f s at first, %.2f s then" % (first, second))
        if second > READY_S:
            raise AssertionError("more than %.1f s" % READY_S)
        survive(machine, listener, packages)
        check_the_work(machine, listener, work / "reference")
        bad_config(machine)
        several_jobs(machine, listener, packages, work / "reference")

        results = npz(root / "var/lib/handloom/out")
        # As a command that was run as the service's user leaves it.
        machine.run("runuser", "-u", "handloom", "--", "mkdir", "-p", "/var/lib/handloom/.cache/gstreamer-1.0")
        machine.run("dpkg", "--purge", "handloom")
        expect(listener.heard("status")[-1]["status"], "stopped", "the last word")
        left = {path for path in files(root) - before if not path.startswith(("/var/lib/handloom", "/opt/"))}
        # The test's own, and the configs and the password that the user has written.
        user = ("/etc/systemd/system/handloom", "/etc/handloom", "/etc/credstore", "/srv/", "/home/pi", "/mnt/usb")
        system = {"/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock"}
        expect({path for path in left if not path.startswith(user)} - system, set(), "what a purge leaves")
        expect(os.path.exists(root / "etc/handloom/handloom.toml"), False, "the packaged config after a purge")
        expect(os.path.exists(root / "var/lib/handloom/.cache"), False, "the cache in the service's home after a purge")
        expect(npz(root / "var/lib/handloom/out"), results, "the results after a purge")
        expect(machine.try_run("systemctl", "is-active", "handloom").stdout.strip(), "inactive", "the service after a purge")
        tell("a purge leaves only the user's data")
    except BaseException:
        if machine.nspawn is not None and machine.leader:
            print(machine.try_run("journalctl", "-u", "handloom*", "-n", "40", "--no-pager").stdout, file=sys.stderr)
        raise
    finally:
        machine.off()
        listener.end()
    tell("all is well")


if __name__ == "__main__":
    main()
