"""kafka-python under test."""

import logging
import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaError

import harness

BOOT = sys.argv[1]
logging.basicConfig(level=logging.INFO)


def produce(cmd):
    codec = None if cmd["codec"] == "none" else cmd["codec"]
    p = KafkaProducer(bootstrap_servers=BOOT, compression_type=codec, enable_idempotence=cmd.get("idempotent", False), acks="all", linger_ms=50)
    futures = [p.send(cmd["topic"], value=harness.dec(r["v"]), key=harness.dec(r["k"]), partition=r["p"],
                      headers=harness.headers_in(r), timestamp_ms=r["ts"]) for r in cmd["records"]]
    p.flush(30)
    out = [f.get(30).offset for f in futures]
    p.close()
    return {"offsets": out}


def consume(cmd):
    c = KafkaConsumer(bootstrap_servers=BOOT, enable_auto_commit=False, auto_offset_reset="earliest", check_crcs=True)
    tps = [TopicPartition(cmd["topic"], p) for p in range(cmd["partitions"])]
    c.assign(tps)
    c.seek_to_beginning(*tps)
    out, end = [], time.time() + 30
    while len(out) < cmd["count"] and time.time() < end:
        for batch in c.poll(200).values():
            for m in batch:
                out.append(harness.record(m.partition, m.offset, m.key, m.value, m.headers, m.timestamp))
    c.close()
    return {"records": out}


_admin = []


def admin():
    if not _admin:
        _admin.append(KafkaAdminClient(bootstrap_servers=BOOT))
    return _admin[0]


def create(cmd):
    admin().create_topics([NewTopic(name=cmd["topic"], num_partitions=cmd["partitions"], replication_factor=1, topic_configs=cmd["configs"])])


def list_topics(cmd):
    return {"topics": [t if isinstance(t, str) else t["name"] for t in admin().list_topics()]}


def describe(cmd):
    resource = ConfigResource(ConfigResourceType.TOPIC, cmd["topic"])
    found = {}

    def walk(x):  # the answer's nesting differs between releases; entries are name -> value or carry both
        if isinstance(x, dict):
            for k, v in x.items():
                if isinstance(v, dict) and "value" in v:
                    found[k] = v["value"]
                elif hasattr(v, "value") and "." in str(k):
                    found[k] = v.value
                elif isinstance(v, str) and "." in str(k):
                    found[k] = v
                else:
                    walk(v)
        elif isinstance(x, (list, tuple)):
            for v in x:
                walk(v)

    walk(admin().describe_configs([resource], config_filter="all"))
    return {"configs": found}


def alter(cmd):
    admin().alter_configs([ConfigResource(ConfigResourceType.TOPIC, cmd["topic"], configs=cmd["configs"])], incremental=True)


def delete(cmd):
    admin().delete_topics([cmd["topic"]])


def groups(cmd):
    names = []
    for g in admin().list_groups():
        names.append(g["group_id"] if isinstance(g, dict) else getattr(g, "group_id", None) or g[0])
    return {"groups": names}


def offsets(cmd):
    c = KafkaConsumer(bootstrap_servers=BOOT)
    tps = [TopicPartition(cmd["topic"], p) for p in range(cmd["partitions"])]
    if cmd["ts"] == -1:
        found = c.end_offsets(tps)
    elif cmd["ts"] == -2:
        found = c.beginning_offsets(tps)
    else:
        found = {tp: -1 if o is None else o.offset for tp, o in c.offsets_for_times({tp: cmd["ts"] for tp in tps}).items()}
    c.close()
    return {"offsets": [found[tp] for tp in tps]}


def group(cmd, stop):
    if cmd["protocol"] != "classic":
        raise harness.Unsupported("kafka-python speaks the classic group protocol only")
    c = KafkaConsumer(cmd["topic"], bootstrap_servers=BOOT, group_id=cmd["group"], enable_auto_commit=False, auto_offset_reset="earliest",
                      session_timeout_ms=cmd["sessionMs"], heartbeat_interval_ms=500)
    while not stop.is_set():
        got = c.poll(200)
        for batch in got.values():
            for m in batch:
                harness.emit({"ev": "rec", "p": m.partition, "o": m.offset, "v": harness.enc(m.value)})
        if got:
            try:
                c.commit()
            except KafkaError as e:
                harness.emit({"ev": "commitfailed", "text": str(e)})
    c.close()


harness.serve({"produce": produce, "consume": consume, "create": create, "list": list_topics, "describe": describe, "alter": alter,
               "delete": delete, "groups": groups, "offsets": offsets, "group": group})
