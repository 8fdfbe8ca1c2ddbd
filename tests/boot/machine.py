"""Boots a Debian tree with systemd as PID 1 in systemd-nspawn and controls it from outside. Needs root.

The system shares the host's network, so that the test's broker outlives it. It has its own control group hierarchy,
so that it also works where the host's PID 1 is not systemd.
"""
import os
import pathlib
import signal
import subprocess
import time

TIMEOUT_S = 300

BOOT = r"""
set -e
umount -R /sys/fs/cgroup 2>/dev/null || true
mkdir -p /sys/fs/cgroup /run/systemd/nspawn
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run/systemd/nspawn
group=/sys/fs/cgroup/handloom-boot-$$
mkdir -p "$group"
echo $$ >"$group/cgroup.procs"
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_USE_CGNS=1
# bpf: systemd inside needs it to deny devices to units.
exec systemd-nspawn --quiet --system-call-filter=bpf --register=no --keep-unit --directory="$1" --boot --console=pipe --hostname=box
"""


def wait_for(what, poll, timeout_s=TIMEOUT_S):
    """Polls until the result is true, and returns it."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = poll()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("waited %d s for %s" % (timeout_s, what))


def remove_control_groups(pid):
    """Removes the control groups of a system that has ended, where the host shows them. Retries, since its last
    process may still be ending."""
    for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        top = "%s/handloom-boot-%d" % (top, pid)
        for _ in range(20):
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    pass
            if not os.path.exists(top):
                break
            time.sleep(0.1)


class Machine:
    def __init__(self, root, log):
        self.root = pathlib.Path(root)
        self.log = open(log, "ab")
        self.nspawn = None
        self.leader = None

    def boot(self):
        command = ["unshare", "-m", "--propagation", "private", "bash", "-c", BOOT, "boot", str(self.root)]
        self.nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.wait_until_up()

    def children(self):
        path = "/proc/%d/task/%d/children" % (self.nspawn.pid, self.nspawn.pid)
        try:
            return [int(pid) for pid in pathlib.Path(path).read_text().split()]
        except OSError:
            return []

    def wait_until_up(self):
        def poll():
            if self.nspawn.poll() is not None:
                raise AssertionError("systemd-nspawn has ended; see its log")
            self.leader = next(iter(self.children()), None)
            return self.leader and self.try_run("systemctl", "is-system-running").stdout.strip() == "running"
        wait_for("the booted system", poll)

    def try_run(self, *command):
        enter = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-p", "-C", "--"]
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"]
        return subprocess.run(enter + clean + list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, *command):
        done = self.try_run(*command)
        if done.returncode != 0:
            raise AssertionError("%s: %d: %s" % (" ".join(command), done.returncode, done.stdout))
        return done.stdout

    def show(self, unit, key):
        return self.run("systemctl", "show", "-P", key, unit).strip()

    def write(self, path, text, mode=0o644):
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def reboot(self):
        """Reboots. systemd-nspawn ends with 133 when the system inside requests a reboot."""
        self.try_run("systemctl", "reboot")
        code = self.nspawn.wait(TIMEOUT_S)
        remove_control_groups(self.nspawn.pid)
        if code != 133:
            raise AssertionError("exit code before the reboot: %d" % code)
        self.boot()

    def cut_power(self):
        """Kills every process inside at once, without a clean shutdown."""
        os.kill(self.leader, signal.SIGKILL)
        self.nspawn.wait()
        remove_control_groups(self.nspawn.pid)
        self.nspawn = None

    def off(self):
        if self.nspawn is None:
            return
        for pid in self.children():
            os.kill(pid, signal.SIGKILL)
        self.nspawn.kill()
        self.nspawn.wait()
        remove_control_groups(self.nspawn.pid)
        self.nspawn = None
