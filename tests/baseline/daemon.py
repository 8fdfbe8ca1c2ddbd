"""Records `handloom run` with its own broker: topics, messages and the replies to commands."""
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

from program import TIMEOUT_S, ENUM_KEYS, shape

# Longest wait for a message, seconds.
WAIT_S = 120
CONFIG = """
[camera]
device = "file:{still}"
fps = 10
max_seconds = 2
[mqtt]
url = "mqtt://127.0.0.1:{port}"
home_assistant = true
commands = ["pause", "resume", "cancel", "rescan", "retry-failed", "snapshot", "record", "undo"]
"""
# Name, payload and number of replies. Sent when the job is done, each after the last reply to the previous one.
COMMANDS = [
    ("snapshot", '{"id": "1"}', 2), ("resume", '{"id": "2"}', 2), ("resume", '{"id": "2"}', 1),
    ("rescan", '{"id": "3"}', 2), ("retry-failed", '{"id": "4"}', 2), ("cancel", '{"id": "5"}', 2),
    ("rescan", '{"id": "6"}', 2), ("resume", '{"id": "7"}', 2),
    ("record", '{"id": "8", "gloss": "book", "count": 2, "countdown": 0.2}', 2),
    ("record", '{"id": "9", "gloss": " "}', 2), ("undo", '{"id": "10"}', 2), ("dance", '{"id": "11"}', 1),
    ("pause", "no JSON", 1), ("pause", "", 1), ("pause", '{"id": 12}', 1), ("pause", '{"id": "13", "x": 1}', 1),
]


class Broker:
    """A mosquitto on a free loopback port, and a subscriber that records all messages."""

    def __init__(self, program, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config, log = folder / "mosquitto.conf", folder / "mosquitto.log"
        # Without `user root`, mosquitto changes from root to a user that cannot read the folder.
        config.write_text(f"user root\nlistener {self.port} 127.0.0.1\nallow_anonymous true\nlog_dest file {log}\n")
        self.path = folder / "messages"
        self.path.touch()
        self.processes = [subprocess.Popen([program, "-c", config], stderr=subprocess.DEVNULL)]

    def subscribe(self):
        self.wait("the broker", lambda: not self.client("pub", "-t", "up", "-r", "-m", "1").wait())
        topics = ["-t", "up", "-t", "handloom/#", "-t", "homeassistant/#"]
        options = ["-V", "5", "--retain-as-published", "-q", "2", "-F", "%t %q %r %x"]
        with self.path.open("w") as file:
            self.processes.append(self.client("sub", *options, *topics, stdout=file))
        self.wait("the subscription", self.messages)

    def client(self, kind, *args, **options):
        command = [f"mosquitto_{kind}", "-p", str(self.port), *args]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL, **options)

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def send(self, name, payload):
        self.client("pub", "-q", "1", "-t", f"handloom/box/cmd/{name}", "-m", payload).wait()

    def messages(self):
        """Topic, QoS, retain flag and payload of each message; ignores a last line that is not complete."""
        fields = [line.split(" ") for line in self.path.read_text().split("\n")[:-1]]
        return [(topic, qos, retain, bytes.fromhex(payload)) for topic, qos, retain, payload in fields]

    def channel(self, name):
        """Each message once: the daemon sends a message again when the broker does not acknowledge it in time."""
        topic = f"handloom/box/{name}"
        return [json.loads(p) for p in dict.fromkeys(m[3] for m in self.messages() if m[0] == topic)]

    def last(self, name):
        return (self.channel(name) or [{}])[-1]

    def wait(self, what, holds):
        end = time.monotonic() + WAIT_S
        while not holds():
            if time.monotonic() > end:
                sys.exit(f"record: {what} did not come; the last messages are {self.messages()[-5:]}")
            time.sleep(0.05)


def record_daemon(program, config, still, record):
    mosquitto = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
    if mosquitto is None:
        print("record: SKIPPED: no mosquitto here, so MQTT is not recorded", file=sys.stderr)
        return
    with contextlib.closing(Broker(mosquitto, program.folder)) as broker:
        broker.subscribe()
        own = program.folder / "daemon.toml"
        own.write_text(config.read_text() + CONFIG.format(still=still, port=broker.port))
        (program.folder / "mirror").mkdir()
        record_session(program, broker, f"run --config {own} --set output.path=daemon --set output.mirror=mirror", record)
        record["mqtt"]["replies"] = [f"{reply['command']}: {reply['state']}" for reply in broker.channel("reply")]
        messages = {}
        for topic, qos, retain, payload in broker.messages():
            if topic.startswith("homeassistant/"):
                nameless = lambda item: {key: value for key, value in item.items() if key != "name"}
                record["mqtt"][topic] = json.loads(payload, object_hook=nameless)
            elif topic != "up" and "/cmd/" not in topic:
                message = "JPEG" if payload.startswith(b"\xff\xd8") else json.loads(payload)
                messages.setdefault(f"{topic} qos {qos} retain {retain}", []).append(message)
        # Which states of a job are published depends on timing.
        record["mqtt"] |= {topic: shape(all_, ENUM_KEYS - {"state"}) for topic, all_ in messages.items()}


def record_session(program, broker, command, record):
    """Pauses and resumes a job, sends every command and ends it cleanly; then sends a forbidden command and kills
    it."""
    count = 0

    def send(name, payload, replies):
        nonlocal count
        count += replies
        broker.send(name, payload)
        broker.wait(f"{replies} replies to {name} {payload}", lambda: len(broker.channel("reply")) >= count)

    def wait_for_last(channel, key, value):
        broker.wait(f"{key} {value}", lambda: broker.last(channel).get(key) == value)

    with program.start(command) as daemon:
        wait_for_last("status", "status", "online")
        send("pause", '{"id": "a"}', 2)
        wait_for_last("state", "state", "paused")
        send("resume", '{"id": "b"}', 2)
        broker.wait("the end of the job", lambda: (last := broker.last("progress")) and last["done"] == last["total"])
        for command_ in COMMANDS:
            send(*command_)
        broker.wait("the camera's health", lambda: "camera" in broker.last("health"))
        watch = f"watch --once --broker mqtt://127.0.0.1:{broker.port}"
        record["exit"]["watch --once, a daemon is there"] = program.run(watch)[0]
        daemon.send_signal(signal.SIGTERM)
        record["exit"]["run, SIGTERM, no work left"] = daemon.wait(TIMEOUT_S)
    wait_for_last("status", "status", "stopped")
    with program.start(f"{command} --set mqtt.commands=pause") as daemon:
        wait_for_last("status", "status", "online")
        send("undo", '{"id": "c"}', 1)
        daemon.kill()
    wait_for_last("status", "status", "offline")
