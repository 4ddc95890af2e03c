"""Checks what infra/ deployed to the emulator: first as a dry run, then armed. Run by scripts/check-infra.

check_deployment.py world                       creates a queue with messages and a service for them
check_deployment.py create-stack FOLDER ZIP     creates the stack of FOLDER/template.json with the code of ZIP
check_deployment.py arm-stack                   updates that stack: no dry run any more
check_deployment.py delete-stack                deletes it and checks what is left
check_deployment.py dry-run EVENTS              every event in the folder EVENTS that suits is decided and nothing changes
check_deployment.py policy TIDEGATE             the role allows what `tidegate iam` says is needed, and nothing else
check_deployment.py tick                        the schedule scales the service out, once, and keeps state and a record
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import botocore.session
from botocore.exceptions import ClientError

CLUSTER, SERVICE, QUEUE, FUNCTION, STACK = "demo", "orders", "orders", "tidegate", "tidegate"
TASKS, MAX_TASKS, MESSAGES = 2, 10, 350
SCALED_OUT = TASKS + 3  # 350 messages at 0.01 tasks each.
# What the deployment adds to what `tidegate iam` knows of: the log and the queue for failed ticks.
OF_THE_DEPLOYMENT = {"logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage"}
# These support no resource that could be named: the service authorization reference says so.
WITHOUT_RESOURCE = {"application-autoscaling:DescribeScalableTargets", "ecs:ListTasks"}
# They describe services of their own, which this deployment refuses.
OF_ANOTHER_DEPLOYMENT = {"http_json.json", "services.json", "stepscale_flat.json"}


def main():
    refuse_anything_but_an_emulator()
    commands = {
        "world": world,
        "create-stack": create_stack,
        "arm-stack": arm_stack,
        "delete-stack": delete_stack,
        "dry-run": dry_run,
        "policy": policy,
        "tick": tick,
    }
    commands[sys.argv[1]](*sys.argv[2:])


def refuse_anything_but_an_emulator():
    if not os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://127.0.0.1:"):
        sys.exit("AWS_ENDPOINT_URL is not an emulator on this machine")


def client(name):
    return botocore.session.get_session().create_client(name)


def check(holds, claim, seen=""):
    if not holds:
        sys.exit(f"check_deployment: not so: {claim}. Seen: {seen}")
    print(f"  {claim}")


def desired_count():
    return client("ecs").describe_services(cluster=CLUSTER, services=[SERVICE])["services"][0]["desiredCount"]


# What Tidegate finds at its users


def world():
    ecs, sqs = client("ecs"), client("sqs")
    queue = sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
    for first in range(0, MESSAGES, 10):
        batch = [{"Id": str(i), "MessageBody": f"order {i}"} for i in range(first, first + 10)]
        sqs.send_message_batch(QueueUrl=queue, Entries=batch)
    ecs.create_cluster(clusterName=CLUSTER)
    container = {"name": "worker", "image": "worker", "memory": 128}
    task = ecs.register_task_definition(family="worker", containerDefinitions=[container])["taskDefinition"]
    ecs.create_service(
        cluster=CLUSTER, serviceName=SERVICE, taskDefinition=task["taskDefinitionArn"], desiredCount=TASKS
    )


# The SAM template


def create_stack(folder, package):
    s3, stacks = client("s3"), client("cloudformation")
    location = {"LocationConstraint": s3.meta.region_name}
    s3.create_bucket(Bucket="packages", CreateBucketConfiguration=location)
    s3.put_object(Bucket="packages", Key="tidegate.zip", Body=Path(package).read_bytes())
    queue = client("sqs").get_queue_attributes(QueueUrl=queue_url(), AttributeNames=["QueueArn"])
    parameters = {
        "ClusterName": CLUSTER,
        "ServiceName": SERVICE,
        "QueueArn": queue["Attributes"]["QueueArn"],
        "MinTasks": "1",
        "MaxTasks": str(MAX_TASKS),
        "Architecture": "x86_64",
        "CodeBucket": "packages",
        "CodeKey": "tidegate.zip",
    }
    stacks.create_stack(
        StackName=STACK,
        TemplateBody=Path(folder, "template.json").read_text(),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    stacks.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})
    client("lambda").get_waiter("function_active_v2").wait(FunctionName=FUNCTION)


def arm_stack():
    stacks = client("cloudformation")
    stack = stacks.describe_stacks(StackName=STACK)["Stacks"][0]
    kept = [parameter["ParameterKey"] for parameter in stack["Parameters"] if parameter["ParameterKey"] != "DryRun"]
    stacks.update_stack(
        StackName=STACK,
        UsePreviousTemplate=True,
        Parameters=[{"ParameterKey": "DryRun", "ParameterValue": "false"}]
        + [{"ParameterKey": key, "UsePreviousValue": True} for key in kept],
        Capabilities=["CAPABILITY_IAM"],
    )
    stacks.get_waiter("stack_update_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})


def delete_stack():
    stacks, bucket = client("cloudformation"), settings()["S3_CONFIG_BUCKET"]
    stacks.delete_stack(StackName=STACK)
    stacks.get_waiter("stack_delete_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1})
    functions = [function["FunctionName"] for function in client("lambda").list_functions()["Functions"]]
    check(FUNCTION not in functions, "the stack is gone", functions)
    buckets = [kept["Name"] for kept in client("s3").list_buckets()["Buckets"]]
    check(bucket in buckets, "its state bucket is kept", buckets)


# The checks


def dry_run(events):
    bucket = settings()["S3_CONFIG_BUCKET"]
    failed, answer = invoke(b"{}")
    check(failed and "Denied" in answer, "the state bucket refuses what comes without TLS", answer)
    client("s3").delete_bucket_policy(Bucket=bucket)
    for event in sorted(Path(events).glob("*.json")):
        if event.name in OF_ANOTHER_DEPLOYMENT:
            continue
        failed, answer = invoke(event.read_bytes())
        # The first would have changed the count; those after it would have waited for its cooldown.
        records = [] if failed else json.loads(answer)["records"]
        rehearsed = [record["outcome"] in ("dry_run", "held") and "would_have" in record for record in records]
        check(rehearsed == [True], f"{event.name} is decided as a dry run", answer)
    check(desired_count() == TASKS, f"the desired count is still {TASKS}", desired_count())


def policy(tidegate):
    function = client("lambda").get_function_configuration(FunctionName=FUNCTION)
    account, region = function["FunctionArn"].split(":")[4], function["FunctionArn"].split(":")[3]
    needed = subprocess.run(
        [tidegate, "iam", "--account", account, "--region", region],
        env={**function["Environment"]["Variables"], "AWS_REGION": region},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    given, needed = permissions_of(function["Role"]), permissions(json.loads(needed))
    missing, spare = needed - given, given - needed
    check(not missing, "the role allows everything that `tidegate iam` lists", missing)
    spare = {one for one in spare if one[0] == "Allow" and one[1] not in OF_THE_DEPLOYMENT}
    check(not spare, "and nothing else, beside the log and the queue for failed ticks", spare)
    everything = {one for one in given if one[0] == "Allow" and one[2] == "*" and one[1] not in WITHOUT_RESOURCE}
    check(not everything, "no statement allows anything on * that has resources", everything)
    # The emulator invokes the function whatever the schedule's role allows.
    target = client("scheduler").get_schedule(Name=FUNCTION)["Target"]
    expected = {
        ("Allow", "lambda:InvokeFunction", function["FunctionArn"], "{}"),
        ("Allow", "sqs:SendMessage", target["DeadLetterConfig"]["Arn"], "{}"),
    }
    given = permissions_of(target["RoleArn"])
    check(given == expected, "the schedule's role may invoke the function, keep what it could not, and nothing else", given)


def permissions_of(role_arn):
    iam, role = client("iam"), role_arn.rsplit("/", 1)[-1]
    names = iam.list_role_policies(RoleName=role)["PolicyNames"]
    attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    if len(names) != 1 or attached:
        sys.exit(f"check_deployment: the role {role} should have one policy, and has {names} and {attached}")
    return permissions(iam.get_role_policy(RoleName=role, PolicyName=names[0])["PolicyDocument"])


def permissions(document):
    """Returns a policy as a set of effect, action, resource and condition, to be compared."""

    def listed(value):
        return value if isinstance(value, list) else [value]

    def condition(statement):
        operators = statement.get("Condition", {})
        return json.dumps(
            {operator: {key: listed(value) for key, value in keys.items()} for operator, keys in operators.items()},
            sort_keys=True,
        )

    return {
        (statement["Effect"], action, resource, condition(statement))
        for statement in document["Statement"]
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


def tick():
    bucket, prefix = settings()["S3_CONFIG_BUCKET"], settings()["STATE_PREFIX"]
    try:
        # Putting the changed settings in place has put back the policy that wants TLS, too.
        client("s3").delete_bucket_policy(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchBucketPolicy":
            raise
    # The emulator looks every 10 s whether a minute has passed.
    give_up = time.monotonic() + 150
    while desired_count() == TASKS and time.monotonic() < give_up:
        time.sleep(1)
    check(desired_count() == SCALED_OUT, f"the schedule scaled out from {TASKS} to {SCALED_OUT}", desired_count())
    kept = client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{prefix}v1/").get("Contents", [])
    check(len(kept) == 1, "one document of state is kept", kept)
    failed, answer = invoke(b"{}")
    outcomes = [record["outcome"] for record in json.loads(answer)["records"]]
    check(not failed and outcomes == ["held"], "the next tick holds, in the cooldown", answer)
    check(desired_count() == SCALED_OUT, f"the desired count is still {SCALED_OUT}", desired_count())
    check("changed" in recorded_outcomes(), "the log has the record of the change", recorded_outcomes())


def invoke(payload):
    """Runs one tick. Returns whether it failed, and the answer. A tick of the schedule may be in the way."""
    functions = client("lambda")
    for attempt in range(10):
        try:
            answer = functions.invoke(FunctionName=FUNCTION, Payload=payload)
            return "FunctionError" in answer, answer["Payload"].read().decode()
        except functions.exceptions.TooManyRequestsException:
            time.sleep(1)
    sys.exit("check_deployment: the function was busy for 10 s")


def recorded_outcomes():
    pages = client("logs").get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{FUNCTION}")
    lines = [event["message"] for page in pages for event in page["events"]]
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    return [entry["record"]["outcome"] for entry in entries if "record" in entry]


def settings():
    return client("lambda").get_function_configuration(FunctionName=FUNCTION)["Environment"]["Variables"]


def queue_url():
    return client("sqs").get_queue_url(QueueName=QUEUE)["QueueUrl"]


if __name__ == "__main__":
    main()
