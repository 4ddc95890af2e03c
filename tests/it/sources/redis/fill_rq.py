"""Six jobs that wait, one of which a worker may take, one for later, one that is due, one that waits for another."""
import sys, time
from datetime import datetime, timedelta, timezone
from redis import Redis
from rq import Queue

queue = Queue("orders", connection=Redis.from_url(sys.argv[1]))
jobs = [queue.enqueue(time.sleep, 600) for _ in range(6)]
now = datetime.now(timezone.utc)
queue.enqueue_at(now + timedelta(hours=1), time.sleep, 0)
queue.enqueue_at(now - timedelta(minutes=1), time.sleep, 0)
queue.enqueue(time.sleep, 0, depends_on=jobs[0])
