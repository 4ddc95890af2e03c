"""The consumers' own client, librdkafka, as a test drives it: peer.py BOOTSTRAP COMMAND ARGUMENT... prints JSON.

BOOTSTRAP is HOST:PORT, or librdkafka's settings as a JSON object.
"""

import json
import sys
import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PATIENCE = 20


def settings(bootstrap):
    given = json.loads(bootstrap) if bootstrap.startswith("{") else {"bootstrap.servers": bootstrap}
    return {"topic.metadata.refresh.interval.ms": 1000, "log_level": 0, **given}


def create(given, topic, partitions):
    admin = AdminClient(given)
    for future in admin.create_topics([NewTopic(topic, int(partitions), 1)]).values():
        future.result(PATIENCE)


def produce(given, topic, count, partition=None):
    """Records with keys, which spread over the partitions, or all into one."""
    failed = []
    producer = Producer({**given, "acks": "all"})
    for number in range(int(count)):
        where = {} if partition is None else {"partition": int(partition)}
        producer.produce(
            topic, b"v", key=b"k%d" % number, on_delivery=lambda error, _: error and failed.append(error), **where
        )
    left = producer.flush(PATIENCE)
    assert not left and not failed, (left, failed[:1])


def consumer(given, group):
    more = {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    return Consumer({**given, **more, "session.timeout.ms": 6000})


def consume(given, group, topic, count):
    """Joins, consumes and commits so many, says so, and stays in the group until standard input ends."""
    rebalances = []
    member = consumer(given, group)
    member.subscribe([topic], on_assign=lambda *_: rebalances.append(1), on_revoke=lambda *_: rebalances.append(1))
    left, give_up = int(count), time.monotonic() + PATIENCE
    while left and time.monotonic() < give_up:
        message = member.poll(0.5)
        if message is not None:
            assert not message.error(), message.error()
            left -= 1
    assert not left, f"{left} records did not come"
    member.commit(asynchronous=False)
    member.pause(member.assignment())
    print(json.dumps("consumed"), flush=True)
    sys.stdin.read()
    member.poll(1.0)
    seen = len(rebalances)
    member.close()
    return seen


def partitions(given, topic):
    return sorted(AdminClient(given).list_topics(topic, timeout=PATIENCE).topics[topic].partitions)


def commit(given, group, topic, *offsets):
    """commit GROUP TOPIC PARTITION=OFFSET...: what the group has committed, without a member."""
    where = [TopicPartition(topic, *map(int, offset.split("="))) for offset in offsets]
    request = [ConsumerGroupTopicPartitions(group, where)]
    admin = AdminClient(given)
    for future in admin.alter_consumer_group_offsets(request).values():
        assert not any(offset.error for offset in future.result(PATIENCE).topic_partitions)


def lag(given, group, topic):
    """What the group's own client computes, without joining."""
    client, total = consumer(given, group), 0
    for offset in client.committed([TopicPartition(topic, number) for number in partitions(given, topic)], timeout=PATIENCE):
        low, high = client.get_watermark_offsets(offset, timeout=PATIENCE)
        total += high - max(offset.offset, low)
    client.close()
    return total


def group(given, name):
    admin = AdminClient(given)
    described = admin.describe_consumer_groups([name])[name].result(PATIENCE)
    members = sorted((member.member_id, member.client_id, str(member.assignment)) for member in described.members)
    shown = [(*member[:2], member[2].split(" object")[0]) for member in members]
    return {"state": described.state.name, "members": shown}


def topics(given):
    """Without the broker's own."""
    return sorted(name for name in AdminClient(given).list_topics(timeout=PATIENCE).topics if not name.startswith("__"))


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[2]](settings(sys.argv[1]), *sys.argv[3:])), flush=True)
