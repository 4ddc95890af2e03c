"""The story of soak-loop: two daemons, a function, and somebody who ends and kills them."""

import http.server
import itertools
import json
import pathlib
import signal
import subprocess
import sys
import threading
import time
import uuid

import botocore.session

URL, BINS, WORK, SECONDS = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), float(sys.argv[4])
REGION, ACCOUNT, NAME = "eu-west-1", "123456789012", "soak"
KEY = f"tidegate/v1/ecs/{ACCOUNT}/{REGION}/{NAME}/{NAME}.json"
FIRST_COUNT = 10
# A function that is invoked every 20 s and may take 15.
PERIOD, TIMEOUT = 20, 15


def client(name):
    keys = {"aws_access_key_id": ACCOUNT, "aws_secret_access_key": "emulator"}
    return botocore.session.Session().create_client(name, region_name=REGION, endpoint_url=URL, **keys)


sqs, ecs, s3 = client("sqs"), client("ecs"), client("s3")
began = time.monotonic()


def say(text):
    print(f"{time.monotonic() - began:6.1f} s  {text}", flush=True)


def create_world():
    queue = sqs.create_queue(QueueName=NAME)["QueueUrl"]
    s3.create_bucket(Bucket=NAME, CreateBucketConfiguration={"LocationConstraint": REGION})
    ecs.create_cluster(clusterName=NAME)
    container = {"name": "worker", "image": "worker", "memory": 128}
    task = ecs.register_task_definition(family="worker", containerDefinitions=[container])["taskDefinition"]
    ecs.create_service(
        cluster=NAME, serviceName=NAME, taskDefinition=task["taskDefinitionArn"], desiredCount=FIRST_COUNT
    )
    return queue


def environment(queue):
    return {
        "ECS_CLUSTER": NAME, "SERVICE_NAME": NAME, "SQS_QUEUE_URL": queue, "S3_CONFIG_BUCKET": NAME,
        "AWS_REGION": REGION, "AWS_ENDPOINT_URL": URL, "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": "emulator", "AWS_EC2_METADATA_DISABLED": "true",
        "LOOP_INTERVAL": "1", "LOOP_MAX_INTERVAL": "2", "MIN_TASKS": "1", "TASKS_PER_MESSAGE": "0.1",
        "SCALE_OUT_COOLDOWN": "4", "SCALE_IN_COOLDOWN": "8", "SCALING_STEP_COUNT": "1", "MAX_SCALE_DOWN_FACTOR": "0.5",
    }


class RuntimeApi(http.server.ThreadingHTTPServer):
    """Invokes a function again and again: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(max(0.0, self.server.next_at - time.monotonic()))
            self.server.next_at = max(time.monotonic(), self.server.next_at) + PERIOD
            self.server.asked = time.monotonic()
            self.send_response(200)
            self.send_header("Lambda-Runtime-Aws-Request-Id", str(uuid.uuid4()))
            self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + TIMEOUT) * 1000)))
            arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:tidegate"
            self.send_header("Lambda-Runtime-Invoked-Function-Arn", arn)
            self.answer(b"{}")

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            took = time.monotonic() - self.server.asked
            ended = "answered" if self.path.endswith("/response") else f"failed: {body.decode()[:300]}"
            say(f"function: {ended} after {took:.1f} of {TIMEOUT} s")
            self.server.failures += not self.path.endswith("/response") or TIMEOUT <= took
            self.send_response(202)
            self.answer(b"")

        def answer(self, body):
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    daemon_threads = True
    next_at, asked, failures = 0.0, 0.0, 0

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Loop:
    """A process that loops, with its log in a file."""

    numbers = itertools.count(1)

    def __init__(self, command, env):
        self.log = WORK / f"loop-{next(self.numbers)}.log"
        with self.log.open("w") as out:
            self.process = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)

    def lines(self):
        for line in self.log.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                pass

    def holder(self):
        return next((line["holder"] for line in self.lines() if line.get("message") == "the loop begins"), None)


class Story:
    def __init__(self):
        self.queue = create_world()
        self.env = environment(self.queue)
        self.api = RuntimeApi()
        port = self.api.server_address[1]
        own = {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}", "AWS_LAMBDA_FUNCTION_NAME": "tidegate",
               "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128"}
        self.loops = [Loop([BINS / "bootstrap"], self.env | own)]
        self.start_daemon()
        self.start_daemon()
        self.seen = None

    def start_daemon(self):
        self.loops.append(Loop([BINS / "tidegate", "run"], self.env))

    def look(self):
        """Prints what has changed since the last look, and returns who holds the lease."""
        try:
            state = json.loads(s3.get_object(Bucket=NAME, Key=KEY)["Body"].read())
        except s3.exceptions.NoSuchKey:
            state = {}
        holder = (state.get("lease") or {}).get("holder")
        desired = ecs.describe_services(cluster=NAME, services=[NAME])["services"][0]["desiredCount"]
        if (holder, desired) != self.seen:
            say(f"{desired:4} tasks, lease of {holder}")
            self.seen = (holder, desired)
        return holder

    def disturb(self, sig, holder):
        """Sends a signal to the daemon that acts, and starts another; to none if the function acts."""
        for loop in self.loops[1:]:
            if loop.process.poll() is None and loop.holder() == holder:
                loop.process.send_signal(sig)
                code = loop.process.wait(30)
                say(f"{signal.Signals(sig).name} to {holder}, which ended with {code}; another begins")
                assert sig != signal.SIGTERM or code == 0, loop.log.read_text()[-2000:]
                self.start_daemon()
                return True
        return False

    def send(self, count):
        entries = [{"Id": str(number), "MessageBody": "work"} for number in range(10)]
        for _ in range(count // 10):
            sqs.send_message_batch(QueueUrl=self.queue, Entries=entries)
        say(f"{count} more messages")

    def play(self):
        plans = [(0.2, signal.SIGTERM), (0.4, signal.SIGKILL), (0.85, signal.SIGTERM)]
        work = [(at / 100, "send") for at in (2, 10, 25, 38, 50, 90)] + [(0.7, "purge")]
        while (part := (time.monotonic() - began) / SECONDS) < 1:
            holder = self.look()
            if plans and plans[0][0] <= part and self.disturb(plans[0][1], holder):
                plans.pop(0)
            for item in [item for item in work if item[0] <= part]:
                work.remove(item)
                if item[1] == "send":
                    self.send(150)
                else:
                    sqs.purge_queue(QueueUrl=self.queue)
                    say("the queue is empty")
            time.sleep(0.1)
        for loop in self.loops:
            if loop.process.poll() is None:
                loop.process.send_signal(signal.SIGTERM)
        for loop in self.loops[1:]:
            loop.process.wait(30)
        self.look()
        assert not plans, f"the daemons never held the lease for {plans}"

    def check(self):
        """Each change began where the one before ended, so that none was made twice or lost."""
        records = [line["record"] for loop in self.loops for line in loop.lines() if "record" in line]
        changes = sorted((r for r in records if r["outcome"] == "changed"), key=lambda r: r["at"])
        count = FIRST_COUNT
        for record in changes:
            decision = record["decision"]
            assert decision["current"] == count, f"{record['at']}: from {decision['current']}, not from {count}"
            count = decision["desired"]
        desired = ecs.describe_services(cluster=NAME, services=[NAME])["services"][0]["desiredCount"]
        assert desired == count, f"{desired} tasks, and the last change was to {count}"
        failures = [failure["message"] for record in records for failure in record["failures"]]
        assert not failures and not self.api.failures, failures[:5]
        by = {outcome: sum(r["outcome"] == outcome for r in records) for outcome in {r["outcome"] for r in records}}
        say(f"{len(changes)} changes, each made once: {count} tasks; ticks of all loops: {by}")


def main():
    story = Story()
    try:
        story.play()
        story.check()
    finally:
        for loop in story.loops:
            if loop.process.poll() is None:
                loop.process.kill()


if __name__ == "__main__":
    main()
