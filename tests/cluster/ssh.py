#!/usr/bin/env python3
"""Tests the recipe for GNU parallel over ssh with three machines, which are three sshd on this one.

usage: ssh.py     PROGRAM=target/release/handloom OPTIONS=
"""
import os
import shutil
import signal
import subprocess
import threading
import time

import common
from common import OPTIONS, RECIPES, expect, output_of, report, wait_for

MACHINES = 3
PACKAGES = {"parallel": "parallel", "sshd": "openssh-server", "ssh": "openssh-client"}


class SshMachines:
    """An sshd for each machine, on a free port, with its own keys."""

    def __init__(self):
        d = self.folder = common.socket_folder()
        self.servers, self.commands = [], []
        for key in ("host", "id"):
            output_of("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", d / key)
        shutil.copy(d / "id.pub", d / "authorized_keys")
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        user = output_of("id", "-un").strip()
        for port in common.free_ports(MACHINES):
            options = dict(Port=port, ListenAddress="127.0.0.1", HostKey=d / "host", PidFile="none", AuthorizedKeysFile=d / "authorized_keys",
                           StrictModes="no", UsePAM="no", PasswordAuthentication="no", MaxStartups=50)
            options = ["-o%s=%s" % pair for pair in options.items()]
            self.servers.append(subprocess.Popen([shutil.which("sshd"), "-D", "-e", "-f", "/dev/null", *options], stderr=subprocess.DEVNULL))
            client = dict(UserKnownHostsFile=d / "known", StrictHostKeyChecking="accept-new", LogLevel="ERROR")
            client = " ".join("-o %s=%s" % pair for pair in client.items())
            command = "ssh -F /dev/null -i %s %s -p %d %s@127.0.0.1" % (d / "id", client, port, user)
            wait_for("sshd answers", lambda: subprocess.run([*command.split(), "true"], stderr=subprocess.DEVNULL).returncode == 0, 20)
            self.commands.append(command)

    def end(self):
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def kill_one(ended):
    """Kills the program of shard 1 one second after it starts."""
    while not ended.is_set():
        for process in common.processes():
            if b"1/6" in open("/proc/%d/cmdline" % process, "rb").read().split(b"\0"):
                time.sleep(1)
                os.kill(process, signal.SIGKILL)
                report("killed the program of shard 1/6 with -9")
                return
        time.sleep(0.1)


def main():
    common.install(PACKAGES)
    common.program()
    clips = common.dataset()
    sha = common.reference(clips)
    folder = common.scratch("ssh")
    begin = time.monotonic()
    machines = SshMachines()
    report("%d sshd are up after %.1f s" % (MACHINES, time.monotonic() - begin))
    # Options go through OPTIONS: the recipe's last arguments are machines.
    environment = dict(os.environ, DATASET=str(clips), OUT=str(folder / "out"), MERGED=str(folder / "out-merged"), WORKERS="1",
                       PROGRAM=shutil.which("handloom"), OPTIONS=" ".join(OPTIONS))
    recipe = [RECIPES / "parallel.sh", *machines.commands]
    ended = threading.Event()
    killer = threading.Thread(target=kill_one, args=[ended])
    killer.start()
    try:
        begin = time.monotonic()
        text = output_of(*recipe, env=environment)
        report("six shards on three machines and their merge: %.1f s" % (time.monotonic() - begin))
        expect(common.digest(folder / "out-merged") == sha, "the bytes of the merge differ:\n" + text)
        output_of(*recipe, env=environment)
        common.merge_equals(sha, folder / "out", "a killed shard is retried, and repeating the command changes nothing")
    finally:
        ended.set()
        killer.join()
        machines.end()
    report("all checks pass")


if __name__ == "__main__":
    main()
