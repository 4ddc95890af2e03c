"""Deploys the function to the emulator, sends messages, and prints what the function decides at each tick.

quickstart.py URL LOG FOLDER SECONDS: the emulator's address and log file, the folder with `bootstrap` and `tidegate`,
and how long scripts/quickstart, which calls this, has been running.
Exits 0 if everything that the story promises happened, else 1 with what did not.
"""

import base64
import json
import sys
import time
from pathlib import Path

from quickstart_world import FUNCTION, MIN_TASKS, SECONDS_PER_MESSAGE, SETTINGS, Emulator, Workers
from quickstart_world import create_world, deploy, send

MESSAGES = 600
SECONDS_BETWEEN_OUR_TICKS = 12  # Less than the cooldowns, so that some ticks have to wait for one.
SCHEDULED_TICKS = 2  # The story waits for at least so many of the schedule's own.
GIVE_UP_AFTER = 300.0  # Seconds. The story needs about 170.
ROW = "{:>5}  {:<10}  {:>7}  {:>9}  {:>7}  {:>8}  {:<13}  {}"


def main():
    began = time.monotonic()
    url, emulator_log, binaries, seconds_before = sys.argv[1:]
    sys.stdout.reconfigure(line_buffering=True)
    if not url.startswith("http://127.0.0.1:"):
        sys.exit(f"quickstart: {url} is not an emulator on this machine")
    aws = Emulator(url)
    settings = {**SETTINGS, "SQS_QUEUE_URL": create_world(aws), "AWS_ENDPOINT_URL": url}
    deploy(aws, Path(binaries).resolve(), settings)
    story = Story(aws, settings["SQS_QUEUE_URL"], float(seconds_before) + time.monotonic() - began)
    story.run()
    problems = story.problems or [f"not seen within {story.clock()}: {what}" for what in story.missing()]
    if problems:
        report(story.log, Path(emulator_log).read_text().splitlines(), problems)
        sys.exit(1)
    story.tell_summary()


def report(function_log, emulator_log, problems):
    lines = ["", "The last lines of the emulator's log:", *emulator_log[-15:]]
    lines += ["", "The last lines of the function's log:", *function_log[-15:]]
    lines += ["", "quickstart failed:", *problems]
    print(*lines, sep="\n", file=sys.stderr)


class Story:
    """Invokes the function now and then, prints each tick as it shows up in the log, knows what is still to come."""

    def __init__(self, aws, queue_url, seconds_before):
        self.aws, self.queue_url, self.seconds_before = aws, queue_url, seconds_before
        self.workers = Workers(aws, queue_url)
        self.started = time.monotonic()
        self.our_ticks = set()  # The ids of the ticks that we invoked; all others are the schedule's.
        self.streams = set()  # The log streams that were read. The emulator writes one for each invocation.
        self.log = []  # All lines of the function.
        self.ticks = []  # Pairs of who invoked and the record.
        self.first_decision = None  # When it was seen, in seconds of the story.
        self.worked_off = False
        self.problems = []

    def run(self):
        print()
        self.tell(f"{MESSAGES} messages are sent; a task works {SECONDS_PER_MESSAGE:.0f} s on each")
        send(self.aws, self.queue_url, MESSAGES)
        print(ROW.format("time", "invoked by", "backlog", "in flight", "running", "desired", "outcome", "why"))
        self.workers.start()
        next_tick = 0.0
        while not self.problems and self.elapsed() < GIVE_UP_AFTER:
            if self.at_rest() and not self.missing():
                break
            # At rest only the schedule's ticks are still waited for.
            if next_tick <= self.elapsed() and not self.at_rest():
                next_tick = self.elapsed() + SECONDS_BETWEEN_OUR_TICKS
                self.tick()
            self.read_log()
            self.watch_workers()
            time.sleep(0.5)
        self.workers.stop()

    def elapsed(self):
        return time.monotonic() - self.started

    def clock(self):
        minutes, seconds = divmod(int(self.elapsed()), 60)
        return f"{minutes}:{seconds:02}"

    def tell(self, text):
        print(f"{self.clock():>5}  {text}")

    def at_rest(self):
        service = self.aws.service()
        return self.worked_off and service["desiredCount"] == service["runningCount"] == MIN_TASKS

    def queue_is_empty(self):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counts = self.aws.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=names)["Attributes"]
        return all(counts[name] == "0" for name in names)

    def watch_workers(self):
        if self.workers.failure:
            self.problems.append(f"the workers stopped: {self.workers.failure}")
        if not self.worked_off and MESSAGES <= self.workers.done and self.queue_is_empty():
            self.worked_off = True
            self.tell(f"all {MESSAGES} messages are worked off")

    def tick(self):
        """Invokes the function by hand. Only one invocation runs at a time, so the schedule's may be in the way."""
        for _ in range(5):
            try:
                answer = self.aws.functions.invoke(FunctionName=FUNCTION, Payload=b"{}", LogType="Tail")
                break
            except self.aws.functions.exceptions.TooManyRequestsException:
                time.sleep(1)
        else:
            self.problems.append("the function was busy for 5 s")
            return
        log = base64.b64decode(answer.get("LogResult", "")).decode()
        self.our_ticks |= {record["tick"] for _, record in records(log)}
        if "FunctionError" in answer:
            self.problems.append(f"an invocation by hand failed: {answer['Payload'].read().decode()}")

    def read_log(self):
        """Prints the records of the invocations that ended since the last call."""
        streams = {}
        for page in self.aws.logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{FUNCTION}"):
            for event in page["events"]:
                streams[event["logStreamName"]] = streams.get(event["logStreamName"], "") + event["message"] + "\n"
        for name in [name for name in streams if name not in self.streams]:
            self.streams.add(name)
            self.log += streams[name].splitlines()
            self.read_invocation(streams[name])

    def read_invocation(self, log):
        if not records(log):
            self.problems.append("an invocation wrote no record")
        for message, record in records(log):
            by = "hand" if record["tick"] in self.our_ticks else "schedule"
            self.ticks.append((by, record))
            self.first_decision = self.first_decision or self.elapsed()
            self.tell_tick(by, record, message)
            if record["outcome"] == "failed" or record.get("failures"):
                self.problems.append(f"a tick by {by} failed: {json.dumps(record.get('failures'))}")

    def tell_tick(self, by, record, message):
        samples, status, decision = record.get("samples"), record.get("status") or {}, record.get("decision") or {}
        reading = samples[0].get("reading") or {} if samples else {}
        desired = f"{decision.get('current', '?')} -> {decision.get('desired', '?')}"
        counts = (reading.get("backlog", "?"), reading.get("in_flight", "?"), status.get("running", "?"))
        why = message.split(": ", 2)[-1]  # Without the service and the outcome, which have their own columns.
        print(ROW.format(self.clock(), by, *counts, desired, record["outcome"], why))

    def count(self, matches):
        return sum(1 for by, record in self.ticks if matches(by, record))

    def missing(self):
        """Returns what the story promises and has not shown yet."""
        shown = {
            "a scale-out": self.count(scaled_out),
            "a scale-in": self.count(scaled_in),
            "a hold because of a cooldown": self.count(held_by_cooldown),
            f"{SCHEDULED_TICKS} ticks of the schedule": self.count(by_schedule) >= SCHEDULED_TICKS,
            f"the queue worked off and the service back at {MIN_TASKS} tasks": self.at_rest(),
        }
        return [what for what, seen in shown.items() if not seen]

    def tell_summary(self):
        print()
        after = self.seconds_before + self.first_decision
        scheduled = self.count(by_schedule)
        print(f"First decision: {after:.0f} s after the start, {self.first_decision:.1f} s after the first message.")
        print(
            f"Then {self.count(scaled_out)} scale-outs, {self.count(scaled_in)} scale-ins and "
            f"{self.count(held_by_cooldown)} holds because of a cooldown in {len(self.ticks)} ticks, "
            f"{scheduled} of them by the schedule."
        )
        print(f"Now the queue is empty and the service back at {MIN_TASKS} tasks.")


def records(log):
    """Returns the message and the record of each line of the function's log that has one: one per service and tick."""
    entries = [json.loads(line) for line in log.splitlines() if line.startswith("{") and line.endswith("}")]
    return [(entry["message"], entry["record"]) for entry in entries if "record" in entry]


def changed(record):
    """Returns by how many tasks a tick changed the desired count."""
    decision = record.get("decision") or {}
    return decision["desired"] - decision["current"] if record["outcome"] == "changed" else 0


def scaled_out(_, record):
    return 0 < changed(record)


def scaled_in(_, record):
    return changed(record) < 0


def held_by_cooldown(_, record):
    reasons = (record.get("decision") or {}).get("reasons", [])
    return record["outcome"] == "held" and any(reason["code"] == "InCooldown" for reason in reasons)


def by_schedule(by, _):
    return by == "schedule"


if __name__ == "__main__":
    main()
