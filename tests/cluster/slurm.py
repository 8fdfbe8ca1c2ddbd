#!/usr/bin/env python3
"""Tests the Slurm recipe on a real Slurm: a controller and four nodes on this machine, without systemd, on free
ports.

usage: slurm.py [quick]     PROGRAM=target/release/handloom OPTIONS=; quick: one array and its merge

After each fault the merge must have the SHA-256 of the unsharded run.
"""
import os
import pathlib
import shutil
import signal
import socket
import sys
import time

import common
from common import OPTIONS, RECIPES, SHARDS, expect, output_of, report, wait_for

NODES = 4
PACKAGES = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}


class Slurm:
    """A Slurm cluster for this test only."""

    def __init__(self):
        self.folder = common.socket_folder()
        os.environ["SLURM_CONF"] = str(self.folder / "slurm.conf")
        for name in ("munge", "state", "spool", "log"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        key = self.folder / "munge/key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        (self.folder / "munge").chmod(0o711)

    def up(self):
        d, (port, *ports) = self.folder, common.free_ports(NODES + 1)
        host, user = socket.gethostname().split(".")[0], output_of("id", "-un").strip()
        memory = 4096
        # A requeued task waits for cred_expire. A node that does not respond for SlurmdTimeout is down.
        (d / "slurm.conf").write_text(f"""\
ClusterName=handloom
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={d}/munge/sock,cred_expire=6
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={d}/state
SlurmdSpoolDir={d}/spool/%n
SlurmctldPidFile={d}/state/slurmctld.pid
SlurmdPidFile={d}/spool/%n.pid
SlurmctldLogFile={d}/log/slurmctld.log
SlurmdLogFile={d}/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
SlurmdParameters=config_overrides
SlurmctldTimeout=10
SlurmdTimeout=8
InactiveLimit=0
KillWait=30
MinJobAge=600
ReturnToService=2
JobRequeue=1
MaxArraySize=1001
NodeName=n[1-{NODES}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{",".join(map(str, ports))}] CPUs=2 RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""")
        munge = d / "munge"
        output_of("munged", "--force", f"--key-file={munge}/key", f"--socket={munge}/sock", f"--pid-file={munge}/pid",
                  f"--log-file={munge}/log", f"--seed-file={munge}/seed", "--num-threads=1")
        output_of("slurmctld", "-c", "-f", d / "slurm.conf")
        for node in range(1, NODES + 1):
            self.start_node("n%d" % node)
        wait_for("all nodes are idle", lambda: output_of("sinfo", "-h", "-N", "-t", "idle", "-o", "%N", code=None).count("\n") == NODES, 30)
        report("Slurm %s is up: %d nodes" % (output_of("slurmctld", "-V").split()[1], NODES))

    def start_node(self, node):
        output_of("slurmd", "-N", node, "-f", self.folder / "slurm.conf")

    def kill_node(self, node):
        os.kill(int((self.folder / "spool" / (node + ".pid")).read_text()), signal.SIGKILL)

    def down(self):
        """Kills only processes that have this cluster's folder in their environment or command line."""
        mark, mine = str(self.folder).encode(), os.getpid()
        # A killed daemon leaves its steps, so each round searches again.
        for _ in range(50):
            left = []
            for one in pathlib.Path("/proc").iterdir():
                try:
                    if one.name.isdigit() and int(one.name) != mine and os.stat(one).st_uid == os.geteuid():
                        if mark in (one / "cmdline").read_bytes() or b"SLURM_JOB_ID=" in (one / "environ").read_bytes() and mark in (one / "environ").read_bytes():
                            left.append(int(one.name))
                except OSError:
                    pass
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.1)
        shutil.rmtree(self.folder, ignore_errors=True)


class Run:
    """One array job of the recipe, with its own output folder."""

    def __init__(self, name, clips, tasks="0-%d" % (SHARDS - 1), out=None, count=SHARDS, **options):
        self.folder = out.parent if out else common.scratch("slurm-" + name)
        self.out = out or self.folder / "out"
        environment = dict(os.environ, DATASET=str(clips), OUT=str(self.out), **options)
        environment.pop("SHARD_COUNT", None)
        if count:
            environment["SHARD_COUNT"] = str(count)
        submit = ["sbatch", "--parsable", "--array=" + tasks, "--cpus-per-task=1", "--mem=500", str(RECIPES / "slurm.sbatch"), *OPTIONS]
        self.job = output_of(*submit, cwd=self.folder, env=environment).strip()

    def log(self, task):
        path = self.folder / ("handloom-%s_%d.log" % (self.job, task))
        return path.read_text() if path.exists() else ""

    def wait_until_running(self, task, attempt=0):
        """Waits until the task has recorded a clip, and returns its program's process id."""
        wait_for("task %d works" % task, lambda: self.log(task).count('"event":"clip"') > 0)
        return wait_for("the process of task %d" % task, lambda: common.processes(SLURM_ARRAY_JOB_ID=self.job, SLURM_ARRAY_TASK_ID=task))[-1]

    def wait_until_ended(self):
        busy = lambda: output_of("squeue", "-h", "-j", self.job, "-t", "PD,R,CG,CF,S", code=None).strip()
        wait_for("the array has ended", lambda: not busy(), 300)

    def state(self, task):
        text = output_of("scontrol", "-o", "show", "job", "%s_%d" % (self.job, task))
        fields = dict(field.split("=", 1) for field in text.split() if "=" in field)
        return fields["JobState"], fields["ExitCode"], int(fields["Restarts"])


def suspend(process):
    """Stops a program in the middle of its shard."""
    os.kill(process, signal.SIGSTOP)


def array_and_merge(clips, sha):
    run = Run("array", clips, count=None)
    out, merged = run.out, run.folder / "out-merged"
    wrap = "handloom merge %s %s" % (merged, out)
    merge = output_of("sbatch", "--parsable", "--dependency=afterany:" + run.job, "--wrap", wrap, "--output=merge.log", cwd=run.folder).strip()
    begin = time.monotonic()
    run.wait_until_ended()
    array = time.monotonic() - begin
    wait_for("the merge has ended", lambda: not output_of("squeue", "-h", "-j", merge, "-t", "PD,R,CG,CF", code=None).strip())
    expect(common.digest(merged) == sha, "the bytes of the array's merge differ: " + (run.folder / "merge.log").read_text())
    expect("SLURM_ARRAY_TASK_MAX=3" in run.log(0), "the log does not name the source of the shard:\n" + run.log(0))
    report("ok: array of %d in %.1f s, merge as a job in %.1f s more: the same SHA-256" % (SHARDS, array, time.monotonic() - begin - array))


def stopped_and_requeued(clips, sha):
    run = Run("stopped", clips)
    os.kill(run.wait_until_running(2), signal.SIGTERM)
    run.wait_until_ended()
    state = run.state(2)
    expect(state == ("COMPLETED", "0:0", 1), "task 2 was stopped: %s\n%s" % (state, run.log(2)))
    expect("ended with 75" in run.log(2), run.log(2))
    common.merge_equals(sha, run.out, "a task that ends with 75 is requeued and resumes")


def killed(clips, sha):
    run = Run("killed", clips)
    os.kill(run.wait_until_running(1), signal.SIGKILL)
    run.wait_until_ended()
    state = run.state(1)
    expect(state == ("COMPLETED", "0:0", 1), "task 1 was killed: %s\n%s" % (state, run.log(1)))
    common.merge_equals(sha, run.out, "a task whose program is killed with -9 is requeued and resumes")


def requeued(clips, sha):
    run = Run("requeued", clips)
    run.wait_until_running(3)
    output_of("scontrol", "requeue", run.job + "_3")
    run.wait_until_ended()
    state = run.state(3)
    expect(state == ("COMPLETED", "0:0", 1), "task 3 was requeued: %s\n%s" % (state, run.log(3)))
    common.merge_equals(sha, run.out, "a task is requeued with scontrol during its shard")


def cancelled_and_resubmitted(clips, sha):
    run = Run("again", clips)
    run.wait_until_running(2)
    output_of("scancel", run.job + "_2")
    run.wait_until_ended()
    expect(run.state(2)[0] == "CANCELLED", "task 2 was cancelled: %s\n%s" % (run.state(2), run.log(2)))
    text = output_of("handloom", "merge", run.folder / "early", run.out, code=None)
    expect("2/4" in text, "the merge does not report that shard 2/4 is missing: " + text)
    refused = Run("again", clips, tasks="2", out=run.out, count=None)
    refused.wait_until_ended()
    expect(refused.state(2)[:2] == ("FAILED", "64:0"), "a single index without a count: %s\n%s" % (refused.state(2), refused.log(2)))
    expect("SHARD_COUNT" in refused.log(2), refused.log(2))
    resubmitted = Run("again", clips, tasks="2", out=run.out)
    resubmitted.wait_until_ended()
    expect(resubmitted.state(2)[0] == "COMPLETED", "a single index with its count: %s\n%s" % (resubmitted.state(2), resubmitted.log(2)))
    common.merge_equals(sha, run.out, "a cancelled task runs alone when submitted with SHARD_COUNT, and is refused with 64 without it")


def node_cut_off(clips, sha, slurm):
    run = Run("node", clips)
    first = run.wait_until_running(1)
    suspend(first)
    node = output_of("squeue", "-h", "-j", run.job + "_1", "-o", "%N").strip()
    slurm.kill_node(node)
    report("killed the slurmd of %s; its task is still running" % node)
    wanted = dict(SLURM_ARRAY_JOB_ID=run.job, SLURM_ARRAY_TASK_ID=1)
    second = wait_for("a second attempt", lambda: [one for one in common.processes(**wanted) if one != first], 120)[0]
    os.kill(first, signal.SIGCONT)
    report("both attempts are running: %d and %d" % (first, second))
    run.wait_until_ended()
    wait_for("both attempts have ended", lambda: not common.processes(**wanted))
    common.merge_equals(sha, run.out, "a node fails and two attempts of one shard run at once")
    left = [one.name for one in run.out.iterdir() if one.name.startswith(".")]
    expect(not left, "an attempt leaves its folder: %s" % left)
    slurm.start_node(node)
    wait_for("the node is back", lambda: output_of("sinfo", "-h", "-n", node, "-o", "%T").strip().startswith("idle"), 60)


def main():
    common.install(PACKAGES)
    common.program()
    clips = common.dataset()
    sha = common.reference(clips)
    slurm = Slurm()
    try:
        slurm.up()
        array_and_merge(clips, sha)
        if sys.argv[1:] != ["quick"]:
            stopped_and_requeued(clips, sha)
            killed(clips, sha)
            requeued(clips, sha)
            cancelled_and_resubmitted(clips, sha)
            node_cut_off(clips, sha, slurm)
    finally:
        slurm.down()
    report("all checks pass")


if __name__ == "__main__":
    main()
