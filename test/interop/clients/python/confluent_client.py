"""confluent-kafka (librdkafka) under test."""

import sys
import time
import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, OffsetSpec, ResourceType

import harness

BOOT = sys.argv[1]


def produce(cmd):
    p = Producer({
        "bootstrap.servers": BOOT, "compression.type": cmd["codec"], "enable.idempotence": cmd.get("idempotent", False),
        "acks": "all", "linger.ms": 50, "message.timeout.ms": 30000,
    })
    offsets, errors = [None] * len(cmd["records"]), []

    def done(i):
        def f(err, msg):
            if err:
                errors.append(str(err))
            else:
                offsets[i] = msg.offset()
        return f

    for i, r in enumerate(cmd["records"]):
        p.produce(cmd["topic"], value=harness.dec(r["v"]), key=harness.dec(r["k"]), partition=r["p"],
                  headers=harness.headers_in(r), timestamp=r["ts"], on_delivery=done(i))
    left = p.flush(30)
    if errors or left:
        raise RuntimeError("%d undelivered, %s" % (left, errors[:3]))
    return {"offsets": offsets}


def consume(cmd):
    c = Consumer({"bootstrap.servers": BOOT, "group.id": uuid.uuid4().hex, "enable.auto.commit": False, "check.crcs": True})
    c.assign([TopicPartition(cmd["topic"], p, 0) for p in range(cmd["partitions"])])
    out, end = [], time.time() + 30
    while len(out) < cmd["count"] and time.time() < end:
        for m in c.consume(500, 0.2):
            if m.error():
                raise KafkaException(m.error())
            out.append(harness.record(m.partition(), m.offset(), m.key(), m.value(), m.headers(), m.timestamp()[1]))
    c.close()
    return {"records": out}


ADMIN = AdminClient({"bootstrap.servers": BOOT})


def wait(futures):
    return [f.result(30) for f in futures.values()]


def create(cmd):
    wait(ADMIN.create_topics([NewTopic(cmd["topic"], cmd["partitions"], 1, config=cmd["configs"])]))


def list_topics(cmd):
    return {"topics": list(ADMIN.list_topics(timeout=30).topics)}


def describe(cmd):
    (entries,) = wait(ADMIN.describe_configs([ConfigResource(ResourceType.TOPIC, cmd["topic"])]))
    return {"configs": {k: e.value for k, e in entries.items()}}


def alter(cmd):
    changes = [ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in cmd["configs"].items()]
    wait(ADMIN.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, cmd["topic"], incremental_configs=changes)]))


def delete(cmd):
    wait(ADMIN.delete_topics([cmd["topic"]]))


def groups(cmd):
    return {"groups": [g.group_id for g in ADMIN.list_consumer_groups().result(30).valid]}


def offsets(cmd):
    spec = {-1: OffsetSpec.latest(), -2: OffsetSpec.earliest()}.get(cmd["ts"]) or OffsetSpec.for_timestamp(cmd["ts"])
    asked = {TopicPartition(cmd["topic"], p): spec for p in range(cmd["partitions"])}
    return {"offsets": [f.result(30).offset for f in ADMIN.list_offsets(asked).values()]}


def group(cmd, stop):
    conf = {"bootstrap.servers": BOOT, "group.id": cmd["group"], "enable.auto.commit": False, "auto.offset.reset": "earliest",
            "group.protocol": cmd["protocol"]}
    if cmd["protocol"] == "classic":
        conf["session.timeout.ms"] = cmd["sessionMs"]
        conf["heartbeat.interval.ms"] = 500
    c = Consumer(conf)
    c.subscribe([cmd["topic"]])
    while not stop.is_set():
        got = c.consume(100, 0.2)
        for m in got:
            if m.error():
                if m.error().code() == KafkaError._PARTITION_EOF or m.error().retriable():
                    continue
                raise KafkaException(m.error())
            harness.emit({"ev": "rec", "p": m.partition(), "o": m.offset(), "v": harness.enc(m.value())})
        if got:
            try:
                c.commit(asynchronous=False)
            except KafkaException as e:  # a rebalance came between: what was read is read again by its new owner
                harness.emit({"ev": "commitfailed", "text": str(e)})
    c.close()


harness.serve({"produce": produce, "consume": consume, "create": create, "list": list_topics, "describe": describe, "alter": alter,
               "delete": delete, "groups": groups, "offsets": offsets, "group": group})
