"""Five jobs that wait, two with a priority, one for later, one that is due, and a paused queue of three. `work` works on one."""
import asyncio, sys
from bullmq import Queue, Worker


async def fill(url):
    queue = Queue("orders", {"connection": url})
    for _ in range(5):
        await queue.add("job", {})
    for _ in range(2):
        await queue.add("job", {}, {"priority": 2})
    await queue.add("job", {}, {"delay": 3600000})
    await queue.add("job", {}, {"delay": 1})
    await queue.close()
    paused = Queue("paused", {"connection": url})
    for _ in range(3):
        await paused.add("job", {})
    await paused.pause()
    await paused.close()


async def work(url):
    async def process(job, token):
        await asyncio.sleep(600)

    Worker("orders", process, {"connection": url, "concurrency": 1})
    await asyncio.sleep(600)


asyncio.run({"fill": fill, "work": work}[sys.argv[1]](sys.argv[2]))
