"""aiokafka under test."""

import asyncio
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

import harness

BOOT = sys.argv[1]


def sync(f):
    return lambda *a: asyncio.run(f(*a))


async def produce(cmd):
    codec = None if cmd["codec"] == "none" else cmd["codec"]
    p = AIOKafkaProducer(bootstrap_servers=BOOT, compression_type=codec, enable_idempotence=cmd.get("idempotent", False), acks="all", linger_ms=50)
    await p.start()
    try:
        futures = [await p.send(cmd["topic"], value=harness.dec(r["v"]), key=harness.dec(r["k"]), partition=r["p"],
                                headers=harness.headers_in(r), timestamp_ms=r["ts"]) for r in cmd["records"]]
        return {"offsets": [(await asyncio.wait_for(f, 30)).offset for f in futures]}
    finally:
        await p.stop()


async def consume(cmd):
    c = AIOKafkaConsumer(bootstrap_servers=BOOT, enable_auto_commit=False, auto_offset_reset="earliest", check_crcs=True)
    await c.start()
    try:
        tps = [TopicPartition(cmd["topic"], p) for p in range(cmd["partitions"])]
        c.assign(tps)
        await c.seek_to_beginning(*tps)
        out, end = [], time.time() + 30
        while len(out) < cmd["count"] and time.time() < end:
            for batch in (await c.getmany(timeout_ms=200)).values():
                for m in batch:
                    out.append(harness.record(m.partition, m.offset, m.key, m.value, m.headers, m.timestamp))
        return {"records": out}
    finally:
        await c.stop()


async def with_admin(f):
    a = AIOKafkaAdminClient(bootstrap_servers=BOOT)
    await a.start()
    try:
        return await f(a)
    finally:
        await a.close()


def check(response):
    for t in getattr(response, "topic_errors", None) or getattr(response, "topic_error_codes", None) or []:
        if t[1] != 0:
            raise RuntimeError("error code %s for %s" % (t[1], t[0]))
    return response


async def create(cmd):
    topic = NewTopic(name=cmd["topic"], num_partitions=cmd["partitions"], replication_factor=1, topic_configs=cmd["configs"])
    check(await with_admin(lambda a: a.create_topics([topic])))


async def list_topics(cmd):
    return {"topics": list(await with_admin(lambda a: a.list_topics()))}


async def describe(cmd):
    responses = await with_admin(lambda a: a.describe_configs([ConfigResource(ConfigResourceType.TOPIC, cmd["topic"])]))
    return {"configs": {e[0]: e[1] for r in responses for res in r.resources for e in res[4]}}


async def alter(cmd):
    # aiokafka has only the old AlterConfigs, which replaces all settings of the topic.
    await with_admin(lambda a: a.alter_configs([ConfigResource(ConfigResourceType.TOPIC, cmd["topic"], configs=cmd["configs"])]))


async def delete(cmd):
    check(await with_admin(lambda a: a.delete_topics([cmd["topic"]])))


async def groups(cmd):
    return {"groups": [g[0] for g in await with_admin(lambda a: a.list_consumer_groups())]}


async def offsets(cmd):
    c = AIOKafkaConsumer(bootstrap_servers=BOOT)
    await c.start()
    try:
        tps = [TopicPartition(cmd["topic"], p) for p in range(cmd["partitions"])]
        if cmd["ts"] == -1:
            found = await c.end_offsets(tps)
        elif cmd["ts"] == -2:
            found = await c.beginning_offsets(tps)
        else:
            found = {tp: -1 if o is None else o.offset for tp, o in (await c.offsets_for_times({tp: cmd["ts"] for tp in tps})).items()}
        return {"offsets": [found[tp] for tp in tps]}
    finally:
        await c.stop()


async def group(cmd, stop):
    if cmd["protocol"] != "classic":
        raise harness.Unsupported("aiokafka speaks the classic group protocol only")
    c = AIOKafkaConsumer(cmd["topic"], bootstrap_servers=BOOT, group_id=cmd["group"], enable_auto_commit=False, auto_offset_reset="earliest",
                         session_timeout_ms=cmd["sessionMs"], heartbeat_interval_ms=500)
    await c.start()
    try:
        while not stop.is_set():
            got = await c.getmany(timeout_ms=200)
            for batch in got.values():
                for m in batch:
                    harness.emit({"ev": "rec", "p": m.partition, "o": m.offset, "v": harness.enc(m.value)})
            if got:
                try:
                    await c.commit()
                except KafkaError as e:
                    harness.emit({"ev": "commitfailed", "text": str(e)})
    finally:
        await c.stop()


harness.serve({name: sync(f) for name, f in {
    "produce": produce, "consume": consume, "create": create, "list": list_topics, "describe": describe, "alter": alter,
    "delete": delete, "groups": groups, "offsets": offsets, "group": group}.items()})
