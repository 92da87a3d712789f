// @confluentinc/kafka-javascript (librdkafka in Node) under test.
'use strict';
const { KafkaJS } = require('@confluentinc/kafka-javascript');
const h = require('./harness');

const { Kafka, logLevel } = KafkaJS;
const boot = process.argv[2];
const kafka = new Kafka({ kafkaJS: { brokers: [boot], logLevel: logLevel.NOTHING } });

async function produce(cmd) {
  const p = kafka.producer({
    kafkaJS: { idempotent: !!cmd.idempotent, acks: -1 },
    'compression.type': cmd.codec, 'linger.ms': 50,
  });
  await p.connect();
  try {
    const offsets = await Promise.all(cmd.records.map(async (r) => {
      const [a] = await p.send({ topic: cmd.topic, messages: [{ partition: r.p, key: h.dec(r.k), value: h.dec(r.v), headers: h.headersIn(r), timestamp: String(r.ts) }] });
      return Number(a.baseOffset);
    }));
    return { offsets };
  } finally {
    await p.disconnect();
  }
}

async function consume(cmd) {
  const c = kafka.consumer({ kafkaJS: { groupId: 'read-' + Math.random().toString(36).slice(2), fromBeginning: true, autoCommit: false } });
  const out = [];
  await c.connect();
  try {
    await c.subscribe({ topics: [cmd.topic] });
    await h.withTimeout(new Promise((done, no) => {
      c.run({
        eachMessage: async ({ partition, message: m }) => {
          const heads = Array.isArray(m.headers) ? m.headers.flatMap(h.headersOut) : h.headersOut(m.headers);
          out.push({ p: partition, o: Number(m.offset), k: h.enc(m.key), v: h.enc(m.value), h: heads, ts: Number(m.timestamp) });
          if (out.length === cmd.count) done();
        },
      }).catch(no);
    }), 30000, 'consume');
    return { records: out };
  } finally {
    await c.disconnect();
  }
}

let shared;
async function admin() {
  if (!shared) {
    shared = kafka.admin();
    await shared.connect();
  }
  return shared;
}

h.serve({
  produce,
  consume,
  create: async (cmd) => {
    const configEntries = Object.entries(cmd.configs).map(([name, value]) => ({ name, value }));
    await (await admin()).createTopics({ topics: [{ topic: cmd.topic, numPartitions: cmd.partitions, replicationFactor: 1, configEntries }] });
  },
  list: async () => ({ topics: await (await admin()).listTopics() }),
  delete: async (cmd) => { await (await admin()).deleteTopics({ topics: [cmd.topic] }); },
  groups: async () => ({ groups: (await (await admin()).listGroups()).groups.map((g) => g.groupId) }),
  offsets: async (cmd) => {
    const a = await admin();
    const found = cmd.ts < 0 ? await a.fetchTopicOffsets(cmd.topic) : await a.fetchTopicOffsetsByTimestamp(cmd.topic, cmd.ts);
    found.sort((x, y) => x.partition - y.partition);
    return { offsets: found.map((f) => Number(cmd.ts === -2 ? f.low : f.offset)) };
  },
  group: async (cmd, closed) => {
    const conf = { 'group.id': cmd.group, 'auto.offset.reset': 'earliest', 'enable.auto.commit': false, 'group.protocol': cmd.protocol };
    if (cmd.protocol === 'classic') Object.assign(conf, { 'session.timeout.ms': cmd.sessionMs, 'heartbeat.interval.ms': 500 });
    const c = kafka.consumer(conf);
    await c.connect();
    await c.subscribe({ topics: [cmd.topic] });
    await c.run({
      eachMessage: async ({ partition, message: m }) => {
        h.emit({ ev: 'rec', p: partition, o: Number(m.offset), v: h.enc(m.value) });
        try {
          await c.commitOffsets([{ topic: cmd.topic, partition, offset: String(Number(m.offset) + 1) }]);
        } catch (e) {
          h.emit({ ev: 'commitfailed', text: String(e) });
        }
      },
    });
    await closed;
    await c.disconnect();
  },
});
