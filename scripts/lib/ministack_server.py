"""Starts ministack with one correction: ECS calls on services are authorized on those services, as AWS does.

ministack 1.5.33 checks them against the ARN of the cluster, so that a policy which names exactly one service is denied
and one which names the cluster is allowed. Everything else is ministack's own.
"""

import json

from ministack import app
from ministack.core import iam_actions, iam_evaluator


class ServiceArn(str):
    """The ARN of the first service of a call; `others` are those of the rest."""

    others = ()


def service_arn(body, region, account):
    """Returns the services that a call names, or None where it names none."""
    try:
        call = json.loads(body or b"{}")
    except ValueError:
        return None
    names = call.get("services") or [call.get("service")]
    if not all(isinstance(name, str) and name for name in names):
        return None
    cluster = (call.get("cluster") or "default").rsplit("/", 1)[-1]
    services = f"arn:aws:ecs:{region}:{account}:service"
    first, *others = [name if name.startswith("arn:") else f"{services}/{cluster}/{name}" for name in names]
    arn = ServiceArn(first)
    arn.others = others
    return arn


original_arn = iam_actions.extract_resource_arn
original_enforce = iam_evaluator.enforce


def extract_resource_arn(service, method, path, headers, body, query_params, region, account):
    arn = service_arn(body, region, account) if service == "ecs" else None
    return arn or original_arn(service, method, path, headers, body, query_params, region, account)


def enforce(*args, resource_arn="*", **more):
    for arn in (resource_arn, *getattr(resource_arn, "others", ())):
        denied = original_enforce(*args, resource_arn=arn, **more)
        if denied:
            return denied
    return None


# The request handler imports both by name at each call.
iam_actions.extract_resource_arn = extract_resource_arn
iam_evaluator.enforce = enforce

if __name__ == "__main__":
    app.main()
