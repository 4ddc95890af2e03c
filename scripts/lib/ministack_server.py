"""Starts ministack with what it lacks of the AWS interfaces that Tidegate uses. Everything else is ministack's own.

ministack 1.5.33 checks ECS calls against the ARN of the cluster, so that a policy which names exactly one service is denied
and one which names the cluster is allowed, and knows no `ecs:cluster`. Here calls on services and tasks are authorized
on those, as AWS does. It also forgets which tasks are protected, and has no Application Auto Scaling: both are kept here.
"""

import gc
import json
import threading
import time

from ministack import app
from ministack.core import iam_actions, iam_evaluator, responses, router
from ministack.services import ecs


class Arns(str):
    """The ARN of the first service or task of a call; `others` are those of the rest, `keys` its condition keys."""

    others = ()
    keys = {}


def ecs_arns(action, body, region, account):
    """Returns the services or tasks that a call names, or None where it names none."""
    try:
        call = json.loads(body or b"{}")
    except ValueError:
        return None
    kind, names = "service", call.get("services") or [call.get("service")]
    if "tasks" in call:
        kind, names = "task", call["tasks"]
    cluster = (call.get("cluster") or "default").rsplit("/", 1)[-1]
    prefix = f"arn:aws:ecs:{region}:{account}"
    keys = {"ecs:cluster": f"{prefix}:cluster/{cluster}"}
    if action == "ListTasks":
        # ListTasks of a service has no resource, see the service authorization reference.
        kind, names = "container-instance", ["*"]
    if not all(isinstance(name, str) and name for name in names):
        return None
    first, *others = [name if name.startswith("arn:") else f"{prefix}:{kind}/{cluster}/{name}" for name in names]
    arns = Arns(first)
    arns.others, arns.keys = others, keys
    return arns


original_arn = iam_actions.extract_resource_arn
original_enforce = iam_evaluator.enforce


def extract_resource_arn(service, method, path, headers, body, query_params, region, account):
    action = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
    arns = ecs_arns(action, body, region, account) if service == "ecs" else None
    return arns or original_arn(service, method, path, headers, body, query_params, region, account)


def enforce(*args, resource_arn="*", service_context=None, **more):
    context = {**(service_context or {}), **getattr(resource_arn, "keys", {})}
    for arn in (resource_arn, *getattr(resource_arn, "others", ())):
        denied = original_enforce(*args, resource_arn=arn, service_context=context, **more)
        if denied:
            return denied
    return None


# The request handler imports both by name at each call.
iam_actions.extract_resource_arn = extract_resource_arn
iam_evaluator.enforce = enforce

protected_until = {}


def task_protection(call):
    """GetTaskProtection: what is told of each task, or that it is missing."""
    told, failures = [], []
    for task in call.get("tasks", []):
        if task not in ecs._tasks or ecs._tasks[task]["desiredStatus"] == "STOPPED":
            failures.append({"arn": task, "reason": "MISSING"})
            continue
        until = protected_until.get(task, 0)
        is_protected = time.time() < until
        expiration = {"expirationDate": until} if is_protected else {}
        told.append({"taskArn": task, "protectionEnabled": is_protected, **expiration})
    return responses.json_response({"protectedTasks": told, "failures": failures})


def update_task_protection(call):
    for task in call["tasks"]:
        lasts = 60 * call.get("expiresInMinutes", 120) if call["protectionEnabled"] else 0
        protected_until[task] = time.time() + lasts
    return task_protection(call)


ecs._ACTION_MAP["GetTaskProtection"] = task_protection
ecs._ACTION_MAP["UpdateTaskProtection"] = update_task_protection

scalable_targets = {}


async def auto_scaling(_method, _path, headers, body, _query):
    """Application Auto Scaling, as far as its scalable targets are registered and described, each account by itself."""
    call, action = json.loads(body), headers["x-amz-target"].rsplit(".", 1)[-1]
    mine = scalable_targets.setdefault((responses.get_account_id(), responses.get_region()), {})
    if action == "RegisterScalableTarget":
        mine[call["ResourceId"]] = {**mine.get(call["ResourceId"], {"CreationTime": time.time()}), **call}
        return responses.json_response({})
    if action == "DeregisterScalableTarget":
        mine.pop(call["ResourceId"], None)
        return responses.json_response({})
    asked = call.get("ResourceIds", list(mine))
    return responses.json_response({"ScalableTargets": [mine[name] for name in asked if name in mine]})


iam_actions.SERVICE_TO_IAM_NAMESPACE["application-autoscaling"] = "application-autoscaling"
router.SERVICE_PATTERNS["application-autoscaling"] = {"target_prefixes": ["AnyScaleFrontendService"]}
app.SERVICE_HANDLERS["application-autoscaling"] = auto_scaling


def collect_garbage():
    while True:
        time.sleep(10)
        gc.collect()


if __name__ == "__main__":
    # It lists its records with `list(records.items())` beside threads that add some. Up to Python 3.11 the collector may run amid that,
    # and a finalizer let another thread go on: "dictionary changed size during iteration". On a thread of its own it cannot.
    gc.disable()
    threading.Thread(target=collect_garbage, daemon=True).start()
    app.main()
