"""Prepares and checks what `cargo lambda deploy` made on the emulator. Run by scripts/check-cargo-lambda.

check_cargo_lambda.py role                prints the ARN of a new role for the function
check_cargo_lambda.py world               creates a queue with messages, a service and a bucket; prints the queue's URL
check_cargo_lambda.py has NAME=VALUE...   the function has these settings; with an empty VALUE, any value
"""

import json
import sys

import check_deployment
from check_deployment import FUNCTION, client, settings

ACTIONS = [
    "sqs:GetQueueAttributes",
    "ecs:DescribeServices",
    "ecs:UpdateService",
    "ecs:ListTasks",
    "ecs:GetTaskProtection",
    "application-autoscaling:DescribeScalableTargets",
    "s3:GetObject",
    "s3:PutObject",
    "s3:ListBucket",
]


def main():
    check_deployment.refuse_anything_but_an_emulator()
    commands = {"role": role, "world": world, "has": has}
    commands[sys.argv[1]](*sys.argv[2:])


def role():
    def document(**statement):
        return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})

    iam = client("iam")
    trust = document(Action="sts:AssumeRole", Principal={"Service": "lambda.amazonaws.com"})
    role = iam.create_role(RoleName=FUNCTION, AssumeRolePolicyDocument=trust)["Role"]
    iam.put_role_policy(RoleName=FUNCTION, PolicyName=FUNCTION, PolicyDocument=document(Action=ACTIONS, Resource="*"))
    print(role["Arn"])


def world():
    check_deployment.world()
    s3 = client("s3")
    s3.create_bucket(Bucket="state", CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name})
    print(check_deployment.queue_url())


def has(*expected):
    found = settings()
    for name, value in (setting.split("=", 1) for setting in expected):
        if name not in found or value not in ("", found[name]):
            sys.exit(f"check_cargo_lambda: {name} should be {value or 'set'}; the function has {sorted(found.items())}")


if __name__ == "__main__":
    main()
