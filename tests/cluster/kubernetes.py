#!/usr/bin/env python3
"""Tests the Kubernetes recipe without a cluster: schemas check the manifests, and podman runs their pods with our
image.

usage: kubernetes.py [manifests]     PROGRAM=target/release/handloom PACKAGES=target/deb OPTIONS=; manifests: only these

tests/interface/cluster.rs checks the rules of a server that no schema has. `Job` replaces the Job controller
(indexes, retries, podFailurePolicy): the recipe has not run on a real cluster.
"""
import copy
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import common
from common import OPTIONS, RECIPES, REPOSITORY, SCRATCH, expect, output_of, report, wait_for

PACKAGES = {"podman": "podman", "runc": "runc", "catatonit": "catatonit", "mmdebstrap": "mmdebstrap"}
MODELS = "kubernetes-models@4.5.1"
MANIFESTS = ["kubernetes.yaml", "kubernetes-merge.yaml", "kubernetes-claim.yaml", "kubernetes-copy.yaml"]
INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
PACKAGE_FOLDER = os.environ.get("PACKAGES", "target/deb")
IMAGE = "localhost/handloom:test"
LIMIT = "256Mi"
# Too little for the real models: the kernel kills the program, or its first decoder process (the job ends with 74).
LOW_LIMIT = "24Mi"
USER = 1000


def python_with_packages():
    """A Python with the packages of requirements.txt."""
    pins = pathlib.Path(__file__).with_name("requirements.txt")
    folder = SCRATCH / "python"
    if not (folder / "installed").exists() or (folder / "installed").read_bytes() != pins.read_bytes():
        shutil.rmtree(folder, ignore_errors=True)
        output_of(sys.executable, "-m", "venv", folder)
        output_of(folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement", pins)
        shutil.copy(pins, folder / "installed")
    return folder / "bin/python"


def documents(name):
    import yaml

    return [one for one in yaml.safe_load_all((RECIPES / name).read_text()) if one]


def validate_manifests():
    validate = [sys.executable, "-m", "kubernetes_validate", "--strict", "--quiet"]
    for name in MANIFESTS:
        output_of(*validate, RECIPES / name)
    folder = common.scratch("manifests")
    broken = folder / "broken.yaml"
    whole = (RECIPES / MANIFESTS[0]).read_text()
    for before, after in [("completions: 4", "completions: four"), ("parallelism:", "paralelism:"), ("image:", "imag:"), ("containers:", "container:")]:
        broken.write_text(whole.replace(before, after, 1))
        output_of(*validate, broken, code=1)
    report("kubernetes-validate --strict accepts %s and refuses broken manifests" % ", ".join(MANIFESTS))
    if not shutil.which("npm"):
        return report("SKIPPED: kubernetes-models: no npm here")
    node = SCRATCH / "npm"
    if not (node / "node_modules/kubernetes-models").exists():
        node.mkdir(parents=True, exist_ok=True)
        output_of("npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", node, MODELS)
    script = pathlib.Path(__file__).with_name("models.js")
    environment = dict(os.environ, NODE_PATH=str(node / "node_modules"))
    objects = [one for name in MANIFESTS for one in documents(name)]
    for change, code in [({}, 0), ({"memory": "600 MB"}, 1), ({"cpu": "one"}, 1)]:
        changed = copy.deepcopy(objects)
        changed[0]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"].update(change)
        (folder / "objects.json").write_text(json.dumps(changed))
        output_of("node", script, folder / "objects.json", env=environment, code=code)
    report("%s accepts them and refuses bad quantities" % MODELS)


class Podman:
    """A podman with its own store."""

    def __init__(self):
        self.folder = SCRATCH / "podman"
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "containers.conf"
        config.write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\nnetns = "host"\n[network]\n[engine]\n')
        os.environ["CONTAINERS_CONF"] = str(config)
        places = [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")]
        self.command = ["podman"] + [word for flag, name in places for word in (flag, self.folder / name)]
        self.command += ["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]

    def __call__(self, *arguments, code=0, **options):
        return output_of(*self.command, *arguments, code=code, **options)

    def build(self):
        """Builds the image of cross/container/Dockerfile with the newest package."""
        context = common.scratch("image")
        packages = sorted((REPOSITORY / PACKAGE_FOLDER).glob("handloom_*.deb"), key=lambda one: one.stat().st_mtime)
        expect(packages, "no package in %s: make deb" % PACKAGE_FOLDER)
        shutil.copy(packages[-1], context)
        text = (REPOSITORY / "cross/container/Dockerfile").read_text()
        base = re.search(r"^FROM (\S+) AS", text, re.M).group(1)
        begin = time.monotonic()
        if subprocess.run([*map(str, self.command), "pull", "--quiet", base], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            # Without a registry, builds the same Debian from its packages.
            tree = SCRATCH / "debian-12.tar"
            if not tree.exists():
                # mmdebstrap writes a folder unless the name ends with .tar.
                part = tree.with_name("part-" + tree.name)
                output_of("mmdebstrap", "--quiet", "--variant=minbase", "--aptopt=APT::Install-Recommends \"false\"", "bookworm", part)
                os.rename(part, tree)
            self("import", "--quiet", tree, "localhost/debian-12")
            text = text.replace(base, "localhost/debian-12")
            report("no registry here: built the base image from Debian's packages")
        (context / "Dockerfile").write_text(text)
        self("build", "--quiet", "--network", "host", "--tag", IMAGE, "--file", context / "Dockerfile", context)
        report("image built in %.0f s" % (time.monotonic() - begin))


class Job:
    """Runs the pods of a Job with podman, as the Job controller does."""

    def __init__(self, podman, manifest, data, options=()):
        self.podman, self.data, self.options = podman, data, list(options)
        self.job = next(one for one in documents(manifest) if one["kind"] == "Job")
        self.spec = self.job["spec"]
        self.log = []

    def pod(self, index, failures, memory):
        """Name and pod of the template, with a folder of this machine in place of the claim."""
        pod = copy.deepcopy(self.spec["template"])
        name = "%s-%d-%d" % (self.job["metadata"]["name"], index, failures)
        notes = {INDEX: str(index), FAILURES: str(failures)}
        pod.update(apiVersion="v1", kind="Pod", metadata={"name": name, "annotations": notes})
        # There are no nodes to select.
        pod["spec"].pop("nodeSelector", None)
        for volume in pod["spec"]["volumes"]:
            if volume.pop("persistentVolumeClaim", None):
                volume["hostPath"] = {"path": str(self.data), "type": "Directory"}
        container = pod["spec"]["containers"][0]
        container.update(image=IMAGE, imagePullPolicy="Never")
        container["resources"]["limits"]["memory"] = memory
        container["resources"].pop("requests")
        if container["args"][0] == "process":
            container["args"] += self.options
        for variable in container.setdefault("env", []):
            path = variable.pop("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            if path:
                variable["value"] = notes[path[len("metadata.annotations['") : -2]]
        if self.spec.get("completionMode") == "Indexed":
            container["env"].append({"name": "JOB_COMPLETION_INDEX", "value": str(index)})
        return name, pod

    def start(self, index, failures, memory):
        import yaml

        name, pod = self.pod(index, failures, memory)
        path = SCRATCH / "manifests" / (name + ".yaml")
        path.write_text(yaml.safe_dump(pod))
        self.podman("kube", "play", "--network", "host", path)
        return name, path

    def ended(self, name, path):
        """Exit code, whether it was killed for memory, and log of a pod that has ended; `None` while it runs."""
        container = name + "-" + self.spec["template"]["spec"]["containers"][0]["name"]
        state = json.loads(self.podman("inspect", container))[0]["State"]
        if state["Status"] not in ("exited", "stopped"):
            return None
        text = self.podman("logs", container)
        self.podman("kube", "down", path)
        return state["ExitCode"], state.get("OOMKilled", False), text

    def action(self, code):
        for rule in self.spec["podFailurePolicy"]["rules"]:
            if code in rule.get("onExitCodes", {}).get("values", []):
                return rule["action"]
        return "Count"

    def run(self, memory=lambda index, failures: LIMIT):
        """Runs until all indexes are complete. `memory` gives the limit of each attempt."""
        indexes = range(self.spec.get("completions", 1))
        todo, failures, running = list(indexes), dict.fromkeys(indexes, 0), {}
        limit = self.spec.get("backoffLimitPerIndex", self.spec.get("backoffLimit"))
        while todo or running:
            while todo and len(running) < min(2, self.spec.get("parallelism", 1)):
                index = todo.pop(0)
                running[index] = self.start(index, failures[index], memory(index, failures[index]))
            for index, pod in list(running.items()):
                state = self.ended(*pod)
                if state is None:
                    continue
                del running[index]
                code, is_killed, text = state
                report("%s: exit code %d%s" % (pod[0], code, ", killed for memory" if is_killed else ""))
                self.log.append((index, failures[index], code, is_killed))
                if code == 0:
                    continue
                failures[index] += 1
                expect(self.action(code) == "Count" and failures[index] <= limit, "%s fails for good: %s\n%s" % (pod[0], self.action(code), text))
                todo.append(index)
            time.sleep(0.2)


def pods():
    clips = common.dataset()
    sha = common.reference(clips)
    podman = Podman()
    podman.build()
    data = common.scratch("data")
    shutil.copytree(clips, data / "wlasl")
    options = list(OPTIONS)
    if "--models" in options:
        place = options.index("--models") + 1
        shutil.copytree(options[place], data / "models")
        options[place] = "/data/models"
    for path in [data, *data.rglob("*")]:
        os.chown(path, USER, USER)
    low_memory_attempt = (2, 0)
    shards = Job(podman, MANIFESTS[0], data, options)
    begin = time.monotonic()
    shards.run(lambda index, failures: LOW_LIMIT if (index, failures) == low_memory_attempt else LIMIT)
    report("four pods with a limit of %s: %.1f s" % (LIMIT, time.monotonic() - begin))
    killed = [one for one in shards.log if one[:2] == low_memory_attempt]
    expect([one[2] in (74, 137) for one in killed] == [True], "the pod with %s was not killed for memory: %s" % (LOW_LIMIT, killed))
    expect(sorted(one[0] for one in shards.log if one[2] == 0) == [0, 1, 2, 3], "not all indexes are complete: %s" % shards.log)
    refused = Job(podman, MANIFESTS[0], data)
    container = refused.spec["template"]["spec"]["containers"][0]
    container["env"] = [one for one in container["env"] if one["name"] != "SHARD_COUNT"]
    pod = refused.start(0, 0, LIMIT)
    code, _, text = wait_for("the pod without a count ends", lambda: refused.ended(*pod))
    expect((code, refused.action(code)) == (64, "FailIndex") and "SHARD_COUNT" in text, "without SHARD_COUNT: %d %s" % (code, text))
    Job(podman, MANIFESTS[1], data).run()
    expect(common.digest(data / "merged") == sha, "the bytes of the merge differ from the unsharded run")
    report("ok: the recipe's pods, one killed for memory and retried, merge to the same SHA-256; without SHARD_COUNT the index fails with 64")


def main():
    own = python_with_packages()
    # PyYAML is installed in this one.
    if pathlib.Path(sys.executable) != own:
        os.execv(own, [str(own), "-B", *sys.argv])
    validate_manifests()
    if sys.argv[1:] != ["manifests"]:
        common.install(PACKAGES)
        common.program()
        pods()
    report("all checks pass")


if __name__ == "__main__":
    main()
