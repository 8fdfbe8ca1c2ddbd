"""A Debian tree booted with systemd as PID 1 in systemd-nspawn, driven from outside. Needs root.

It shares the host's network, so that a broker of the test's outlives it, and gets a control group hierarchy of its own,
so that it works where the host's PID 1 is no systemd, too.
"""
import os
import pathlib
import signal
import subprocess
import time

PATIENCE_S = 300

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
# bpf: so that systemd inside can keep devices from its units.
exec systemd-nspawn --quiet --system-call-filter=bpf --register=no --keep-unit --directory="$1" --boot --console=pipe --hostname=box
"""


def wait_for(what, look, patience_s=PATIENCE_S):
    """Looks until it gets something that counts, and returns that."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("waited %d s in vain for %s" % (patience_s, what))


def forget_group(pid):
    """Takes away the control groups of a system that has ended, where the host shows them; the last process of it may
    take a moment to go."""
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
        def look():
            if self.nspawn.poll() is not None:
                raise AssertionError("systemd-nspawn has ended; its log says why")
            self.leader = next(iter(self.children()), None)
            return self.leader and self.try_run("systemctl", "is-system-running").stdout.strip() == "running"
        wait_for("the booted system", look)

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
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def reboot(self):
        """systemd-nspawn ends with 133 where the system inside asks for a reboot."""
        self.try_run("systemctl", "reboot")
        code = self.nspawn.wait(PATIENCE_S)
        forget_group(self.nspawn.pid)
        if code != 133:
            raise AssertionError("the end before the reboot: %d" % code)
        self.boot()

    def cut_power(self):
        """Everything inside ends at once; nothing is said, nothing is saved."""
        os.kill(self.leader, signal.SIGKILL)
        self.nspawn.wait()
        forget_group(self.nspawn.pid)
        self.nspawn = None

    def off(self):
        if self.nspawn is None:
            return
        for pid in self.children():
            os.kill(pid, signal.SIGKILL)
        self.nspawn.kill()
        self.nspawn.wait()
        forget_group(self.nspawn.pid)
        self.nspawn = None
