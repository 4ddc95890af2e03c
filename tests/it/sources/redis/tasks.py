"""Celery tasks. BROKER says where; the options are those that change how the queues lie in Redis."""
import json, os, time
from celery import Celery

app = Celery("tasks", broker=os.environ["BROKER"])
app.conf.broker_transport_options = json.loads(os.environ.get("OPTIONS", "{}"))
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 4


@app.task
def work():
    time.sleep(600)


if __name__ == "__main__":
    for priority in range(10):
        work.apply_async(priority=priority)
    work.apply_async(queue="other")
    work.apply_async(queue="other")
