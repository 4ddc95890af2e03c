"""What quickstart.py works with: a deployment on the emulator, messages, and workers that work them off."""

import io
import json
import subprocess
import sys
import threading
import time
import zipfile

import botocore.session

REGION, ACCOUNT = "eu-west-1", "123456789012"
FUNCTION, CLUSTER, SERVICE, QUEUE, BUCKET = "tidegate", "quickstart", "orders", "orders", "tidegate-state"
MIN_TASKS, MAX_TASKS = 2, 20
SETTINGS = {
    "ECS_CLUSTER": CLUSTER,
    "SERVICE_NAME": SERVICE,
    "QUEUE_TYPE": "sqs",
    "MIN_TASKS": str(MIN_TASKS),
    "MAX_TASKS": str(MAX_TASKS),
    "SCALE_UP_THRESHOLD": "20",
    "SCALE_DOWN_THRESHOLD": "10",
    "TASKS_PER_MESSAGE": "0.02",
    "MAX_SCALE_DOWN_FACTOR": "0.5",
    "SCALE_OUT_COOLDOWN": "20",
    "SCALE_IN_COOLDOWN": "20",
    "S3_CONFIG_BUCKET": BUCKET,
}
SECONDS_PER_MESSAGE = 3.0  # What one task needs for one message.


class Emulator:
    """The emulator's clients. Credentials and address are given outright, so no others can be found."""

    def __init__(self, url):
        session = botocore.session.Session()
        credentials = {"aws_access_key_id": ACCOUNT, "aws_secret_access_key": "emulator"}

        def client(name):
            return session.create_client(name, region_name=REGION, endpoint_url=url, **credentials)

        self.sqs, self.ecs, self.s3, self.iam = client("sqs"), client("ecs"), client("s3"), client("iam")
        self.functions, self.events, self.logs = client("lambda"), client("events"), client("logs")

    def service(self):
        return self.ecs.describe_services(cluster=CLUSTER, services=[SERVICE])["services"][0]


def create_world(aws):
    """Creates what Tidegate finds: a queue, a service with the least tasks, a bucket. Returns the queue's URL."""
    queue_url = aws.sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
    aws.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    aws.ecs.create_cluster(clusterName=CLUSTER)
    container = {"name": "worker", "image": "worker", "memory": 128}
    task = aws.ecs.register_task_definition(family="worker", containerDefinitions=[container])["taskDefinition"]
    aws.ecs.create_service(
        cluster=CLUSTER, serviceName=SERVICE, taskDefinition=task["taskDefinitionArn"], desiredCount=MIN_TASKS
    )
    print(f"created the queue {QUEUE}, the bucket {BUCKET} and the service {CLUSTER}/{SERVICE} with {MIN_TASKS} tasks")
    return queue_url


def deploy(aws, binaries, settings):
    """Creates the role, the function and the schedule, as infra/ does on AWS."""
    policy = needed_policy(binaries / "tidegate", settings)
    lambda_may_assume = statement("sts:AssumeRole", Principal={"Service": "lambda.amazonaws.com"})
    role = aws.iam.create_role(RoleName=FUNCTION, AssumeRolePolicyDocument=json.dumps(document(lambda_may_assume)))
    aws.iam.put_role_policy(RoleName=FUNCTION, PolicyName=FUNCTION, PolicyDocument=json.dumps(policy))
    print("created the function's role, with exactly the policy that `tidegate iam` prints:")
    for allowed in policy["Statement"]:
        print("  " + one_line(allowed))

    package = zipped(binaries / "bootstrap")
    function = aws.functions.create_function(
        FunctionName=FUNCTION,
        Runtime="provided.al2023",
        Handler="bootstrap",
        Role=role["Role"]["Arn"],
        Code={"ZipFile": package},
        Timeout=60,
        MemorySize=128,
        Environment={"Variables": settings},
    )
    aws.functions.get_waiter("function_active_v2").wait(FunctionName=FUNCTION)
    aws.functions.put_function_concurrency(FunctionName=FUNCTION, ReservedConcurrentExecutions=1)
    aws.functions.put_function_event_invoke_config(
        FunctionName=FUNCTION, MaximumRetryAttempts=0, MaximumEventAgeInSeconds=60
    )
    rule = aws.events.put_rule(Name=FUNCTION, ScheduleExpression="rate(1 minute)")
    aws.functions.add_permission(
        FunctionName=FUNCTION,
        StatementId="schedule",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=rule["RuleArn"],
    )
    aws.events.put_targets(Rule=FUNCTION, Targets=[{"Id": FUNCTION, "Arn": function["FunctionArn"]}])
    print(f"created the function ({len(package) / 1e6:.1f} MB zipped) and a schedule that invokes it each minute, with")
    print("  " + " ".join(f"{name}={value}" for name, value in settings.items() if value.replace(".", "").isdigit()))


def needed_policy(tidegate, settings):
    """Returns the policy that Tidegate says it needs with these settings, and nothing else in its environment."""
    command = [tidegate, "iam", "--account", ACCOUNT, "--region", REGION]
    done = subprocess.run(command, env={**settings, "AWS_REGION": REGION}, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"quickstart: `tidegate iam` failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def document(*statements):
    return {"Version": "2012-10-17", "Statement": statements}


def statement(action, **more):
    return {"Effect": "Allow", "Action": action, **more}


def one_line(allowed):
    def listed(value):
        return ", ".join([value] if isinstance(value, str) else value)

    line = f"{allowed['Effect'].lower()} {listed(allowed['Action'])} on {listed(allowed['Resource'])}"
    return f"{line} if {json.dumps(allowed['Condition'])}" if "Condition" in allowed else line


def zipped(bootstrap):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as package:
        entry = zipfile.ZipInfo("bootstrap")
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o755 << 16
        package.writestr(entry, bootstrap.read_bytes())
    return archive.getvalue()


def send(aws, queue_url, count):
    for first in range(0, count, 10):
        batch = [{"Id": str(i), "MessageBody": f"order {i}"} for i in range(first, min(first + 10, count))]
        aws.sqs.send_message_batch(QueueUrl=queue_url, Entries=batch)


class Workers(threading.Thread):
    """What the service's tasks would do: each running task receives a message, works on it, deletes it, and so on."""

    def __init__(self, aws, queue_url):
        super().__init__(daemon=True)
        self.aws, self.queue_url = aws, queue_url
        self.in_hand = []  # Pairs of the time when the work is done and the receipt, oldest first.
        self.done = 0
        self.failure = None
        self.stopping = threading.Event()

    def run(self):
        try:
            while not self.stopping.wait(0.25):
                self.delete_what_is_done()
                self.receive(self.aws.service()["runningCount"] - len(self.in_hand))
        except Exception as error:  # The story reports it.
            self.failure = error

    def delete_what_is_done(self):
        now = time.monotonic()
        due = [receipt for done_at, receipt in self.in_hand if done_at <= now]
        for first in range(0, len(due), 10):
            batch = [{"Id": str(i), "ReceiptHandle": receipt} for i, receipt in enumerate(due[first : first + 10])]
            self.aws.sqs.delete_message_batch(QueueUrl=self.queue_url, Entries=batch)
        self.in_hand = self.in_hand[len(due) :]
        self.done += len(due)

    def receive(self, idle):
        while 0 < idle:
            wanted = min(idle, 10)
            got = self.aws.sqs.receive_message(QueueUrl=self.queue_url, MaxNumberOfMessages=wanted).get("Messages", [])
            done_at = time.monotonic() + SECONDS_PER_MESSAGE
            self.in_hand += [(done_at, message["ReceiptHandle"]) for message in got]
            idle = idle - len(got) if len(got) == wanted else 0

    def stop(self):
        self.stopping.set()
        if self.is_alive():
            self.join()
