"""A member of a share group on librdkafka's share consumer: prints a line for each record, "accept V" or "release V", until its input ends."""
import sys
import threading

from confluent_kafka import AcknowledgeType, ShareConsumer

addr, group, topic, who = sys.argv[1:5]
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
consumer = ShareConsumer({"bootstrap.servers": addr, "group.id": group, "client.id": who, "share.acknowledgement.mode": "explicit"})
consumer.subscribe([topic])
seen = set()
while not over.is_set():
    lines = []
    for m in consumer.poll(0.5):
        if m.error():
            print("error", m.error(), flush=True)
            continue
        value = m.value().decode()
        once = value not in seen and m.offset() % 9 == int(who) and (m.delivery_count() if hasattr(m, "delivery_count") else 1) == 1
        seen.add(value)
        consumer.acknowledge(m, AcknowledgeType.RELEASE if once else AcknowledgeType.ACCEPT)
        lines.append(("release " if once else "accept ") + value)
    if lines:
        for partition, err in consumer.commit_sync(30).items():
            if err is not None:
                print("refused", partition, err, flush=True)
        print("\n".join(lines), flush=True)
consumer.close()
