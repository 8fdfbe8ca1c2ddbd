#!/usr/bin/env python3
"""The Kubernetes recipe without a cluster: schemas judge the manifests, and podman runs their pods with our own image.

usage: kubernetes.py [manifests]     PROGRAM=target/release/handloom PACKAGES=target/deb OPTIONS=; manifests: judge them alone

The rules that a server has and no schema are tests/interface/cluster.rs. What the Job controller does (indexes, retries,
podFailurePolicy) is done here by `Job`, a stand-in: no real cluster has run the recipe.
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
from common import OPTIONS, RECIPES, REPOSITORY, SCRATCH, expect, said, tell, wait_for

PACKAGES = {"podman": "podman", "runc": "runc", "catatonit": "catatonit", "mmdebstrap": "mmdebstrap"}
MODELS = "kubernetes-models@4.5.1"
MANIFESTS = ["kubernetes.yaml", "kubernetes-merge.yaml", "kubernetes-claim.yaml", "kubernetes-copy.yaml"]
INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
PACKAGE_FOLDER = os.environ.get("PACKAGES", "target/deb")
IMAGE = "localhost/handloom:test"
LIMIT = "256Mi"
# Less than the real models need: the kernel kills the program, or its first decoder process, which stops the job with 74.
SCANT = "24Mi"
USER = 1000


def python():
    """A Python with what requirements.txt names."""
    pins = pathlib.Path(__file__).with_name("requirements.txt")
    folder = SCRATCH / "python"
    if not (folder / "installed").exists() or (folder / "installed").read_bytes() != pins.read_bytes():
        shutil.rmtree(folder, ignore_errors=True)
        said(sys.executable, "-m", "venv", folder)
        said(folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement", pins)
        shutil.copy(pins, folder / "installed")
    return folder / "bin/python"


def documents(name):
    import yaml

    return [one for one in yaml.safe_load_all((RECIPES / name).read_text()) if one]


def judge():
    validate = [sys.executable, "-m", "kubernetes_validate", "--strict", "--quiet"]
    for name in MANIFESTS:
        said(*validate, RECIPES / name)
    folder = common.scratch("manifests")
    broken = folder / "broken.yaml"
    whole = (RECIPES / MANIFESTS[0]).read_text()
    for before, after in [("completions: 4", "completions: four"), ("parallelism:", "paralelism:"), ("image:", "imag:"), ("containers:", "container:")]:
        broken.write_text(whole.replace(before, after, 1))
        said(*validate, broken, code=1)
    tell("kubernetes-validate --strict takes %s and refuses what is broken" % ", ".join(MANIFESTS))
    if not shutil.which("npm"):
        return tell("SKIPPED: kubernetes-models: no npm here")
    node = SCRATCH / "npm"
    if not (node / "node_modules/kubernetes-models").exists():
        node.mkdir(parents=True, exist_ok=True)
        said("npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", node, MODELS)
    script = pathlib.Path(__file__).with_name("models.js")
    environment = dict(os.environ, NODE_PATH=str(node / "node_modules"))
    objects = [one for name in MANIFESTS for one in documents(name)]
    for change, code in [({}, 0), ({"memory": "600 MB"}, 1), ({"cpu": "one"}, 1)]:
        changed = copy.deepcopy(objects)
        changed[0]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"].update(change)
        (folder / "objects.json").write_text(json.dumps(changed))
        said("node", script, folder / "objects.json", env=environment, code=code)
    tell("%s takes them and refuses bad quantities" % MODELS)


class Podman:
    """A podman with a store of its own."""

    def __init__(self):
        self.folder = SCRATCH / "podman"
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "containers.conf"
        config.write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\nnetns = "host"\n[network]\n[engine]\n')
        os.environ["CONTAINERS_CONF"] = str(config)
        places = [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")]
        self.command = ["podman"] + [word for flag, name in places for word in (flag, self.folder / name)]
        self.command += ["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]

    def __call__(self, *words, code=0, **more):
        return said(*self.command, *words, code=code, **more)

    def build(self):
        """The image of cross/container/Dockerfile with the newest package."""
        context = common.scratch("image")
        packages = sorted((REPOSITORY / PACKAGE_FOLDER).glob("handloom_*.deb"), key=lambda one: one.stat().st_mtime)
        expect(packages, "no package in %s: make deb" % PACKAGE_FOLDER)
        shutil.copy(packages[-1], context)
        text = (REPOSITORY / "cross/container/Dockerfile").read_text()
        base = re.search(r"^FROM (\S+) AS", text, re.M).group(1)
        begin = time.monotonic()
        if subprocess.run([*map(str, self.command), "pull", "--quiet", base], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            # No registry here: the same Debian from its packages.
            tree = SCRATCH / "debian-12.tar"
            if not tree.exists():
                # mmdebstrap writes a folder unless the name ends with .tar.
                part = tree.with_name("part-" + tree.name)
                said("mmdebstrap", "--quiet", "--variant=minbase", "--aptopt=APT::Install-Recommends \"false\"", "bookworm", part)
                os.rename(part, tree)
            self("import", "--quiet", tree, "localhost/debian-12")
            text = text.replace(base, "localhost/debian-12")
            tell("no registry here: a base image from Debian's packages")
        (context / "Dockerfile").write_text(text)
        self("build", "--quiet", "--network", "host", "--tag", IMAGE, "--file", context / "Dockerfile", context)
        tell("image built in %.0f s" % (time.monotonic() - begin))


class Job:
    """Runs the pods of a Job with podman, as the Job controller would."""

    def __init__(self, podman, manifest, data, options=()):
        self.podman, self.data, self.options = podman, data, list(options)
        self.job = next(one for one in documents(manifest) if one["kind"] == "Job")
        self.spec = self.job["spec"]
        self.log = []

    def pod(self, index, failures, memory):
        """The pod of the template, on a folder of this machine in place of the claim."""
        pod = copy.deepcopy(self.spec["template"])
        name = "%s-%d-%d" % (self.job["metadata"]["name"], index, failures)
        notes = {INDEX: str(index), FAILURES: str(failures)}
        pod.update(apiVersion="v1", kind="Pod", metadata={"name": name, "annotations": notes})
        # Of clusters with nodes.
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
        """Exit code, whether it ran out of memory, and the log of a pod that has ended."""
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
        """Until all indexes are complete. `memory` limits each attempt."""
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
                tell("%s: exit code %d%s" % (pod[0], code, ", killed for memory" if is_killed else ""))
                self.log.append((index, failures[index], code, is_killed))
                if code == 0:
                    continue
                failures[index] += 1
                expect(self.action(code) == "Count" and failures[index] <= limit, "%s is given up: %s\n%s" % (pod[0], self.action(code), text))
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
    scant = (2, 0)
    shards = Job(podman, MANIFESTS[0], data, options)
    begin = time.monotonic()
    shards.run(lambda index, failures: SCANT if (index, failures) == scant else LIMIT)
    tell("four pods with a limit of %s: %.1f s" % (LIMIT, time.monotonic() - begin))
    killed = [one for one in shards.log if one[:2] == scant]
    expect([one[2] in (74, 137) for one in killed] == [True], "the pod with %s was not killed for its memory: %s" % (SCANT, killed))
    expect(sorted(one[0] for one in shards.log if one[2] == 0) == [0, 1, 2, 3], "not all indexes are complete: %s" % shards.log)
    refused = Job(podman, MANIFESTS[0], data)
    container = refused.spec["template"]["spec"]["containers"][0]
    container["env"] = [one for one in container["env"] if one["name"] != "SHARD_COUNT"]
    pod = refused.start(0, 0, LIMIT)
    code, _, text = wait_for("the pod without a count ends", lambda: refused.ended(*pod))
    expect((code, refused.action(code)) == (64, "FailIndex") and "SHARD_COUNT" in text, "without SHARD_COUNT: %d %s" % (code, text))
    Job(podman, MANIFESTS[1], data).run()
    expect(common.digest(data / "merged") == sha, "the merge has other bytes than the unsharded run")
    tell("ok: pods of the recipe, one killed for memory and retried, merged to the same SHA-256; 64 without SHARD_COUNT fails the index")


def main():
    own = python()
    # PyYAML is there.
    if pathlib.Path(sys.executable) != own:
        os.execv(own, [str(own), "-B", *sys.argv])
    judge()
    if sys.argv[1:] != ["manifests"]:
        common.install(PACKAGES)
        common.program()
        pods()
    tell("all is well")


if __name__ == "__main__":
    main()
