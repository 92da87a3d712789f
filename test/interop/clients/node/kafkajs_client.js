// kafkajs under test.
'use strict';
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = require('kafkajs');
const h = require('./harness');

// kafkajs brings gzip; the other codecs are plug-ins, as its manual shows.
const lz4 = require('lz4-napi');
const zstd = require('@bokuweb/zstd-wasm');
const zstdReady = zstd.init();
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy');
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: (buffer) => lz4.decompressFrame(buffer),
});
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => (await zstdReady, Buffer.from(zstd.compress(encoder.buffer))),
  decompress: async (buffer) => (await zstdReady, Buffer.from(zstd.decompress(buffer))),
});

const kafka = new Kafka({ clientId: 'interop', brokers: [process.argv[2]], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50, retries: 8 } });
const codecs = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD };

async function produce(cmd) {
  const p = kafka.producer({ idempotent: !!cmd.idempotent });
  await p.connect();
  try {
    const messages = cmd.records.map((r) => ({ partition: r.p, key: h.dec(r.k), value: h.dec(r.v), headers: h.headersIn(r), timestamp: String(r.ts) }));
    const answer = await p.send({ topic: cmd.topic, acks: -1, compression: codecs[cmd.codec], messages });
    const next = {};
    for (const a of answer) next[a.partition] = Number(a.baseOffset);
    return { offsets: cmd.records.map((r) => next[r.p]++) };
  } finally {
    await p.disconnect();
  }
}

async function consume(cmd) {
  const c = kafka.consumer({ groupId: 'read-' + Math.random().toString(36).slice(2) });
  const out = [];
  await c.connect();
  try {
    await c.subscribe({ topics: [cmd.topic], fromBeginning: true });
    await h.withTimeout(new Promise((done, no) => {
      c.on(c.events.CRASH, (e) => no(e.payload.error));
      c.run({
        autoCommit: false,
        eachMessage: async ({ partition, message: m }) => {
          out.push({ p: partition, o: Number(m.offset), k: h.enc(m.key), v: h.enc(m.value), h: h.headersOut(m.headers), ts: Number(m.timestamp) });
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
const entries = (o) => Object.entries(o).map(([name, value]) => ({ name, value }));

h.serve({
  produce,
  consume,
  create: async (cmd) => {
    await (await admin()).createTopics({ waitForLeaders: false, topics: [{ topic: cmd.topic, numPartitions: cmd.partitions, replicationFactor: 1, configEntries: entries(cmd.configs) }] });
  },
  list: async () => ({ topics: await (await admin()).listTopics() }),
  describe: async (cmd) => {
    const r = await (await admin()).describeConfigs({ includeSynonyms: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: cmd.topic }] });
    return { configs: Object.fromEntries(r.resources[0].configEntries.map((e) => [e.configName, e.configValue])) };
  },
  alter: async (cmd) => {
    await (await admin()).alterConfigs({ resources: [{ type: ConfigResourceTypes.TOPIC, name: cmd.topic, configEntries: entries(cmd.configs) }] });
  },
  delete: async (cmd) => { await (await admin()).deleteTopics({ topics: [cmd.topic] }); },
  groups: async () => ({ groups: (await (await admin()).listGroups()).groups.map((g) => g.groupId) }),
  offsets: async (cmd) => {
    const a = await admin();
    const found = cmd.ts < 0 ? await a.fetchTopicOffsets(cmd.topic) : await a.fetchTopicOffsetsByTimestamp(cmd.topic, cmd.ts);
    found.sort((x, y) => x.partition - y.partition);
    return { offsets: found.map((f) => Number(cmd.ts === -2 ? f.low : f.offset)) };
  },
  group: async (cmd, closed) => {
    if (cmd.protocol !== 'classic') throw new h.Unsupported('kafkajs speaks the classic group protocol only');
    const c = kafka.consumer({ groupId: cmd.group, sessionTimeout: cmd.sessionMs, heartbeatInterval: 500, rebalanceTimeout: 10000 });
    await c.connect();
    await c.subscribe({ topics: [cmd.topic], fromBeginning: true });
    await c.run({
      autoCommit: false,
      eachBatch: async ({ batch, resolveOffset, heartbeat, isRunning, isStale }) => {
        let last;
        for (const m of batch.messages) {
          if (!isRunning() || isStale()) break;
          h.emit({ ev: 'rec', p: batch.partition, o: Number(m.offset), v: h.enc(m.value) });
          resolveOffset(m.offset);
          last = m.offset;
        }
        if (last === undefined) return;
        try {
          await c.commitOffsets([{ topic: cmd.topic, partition: batch.partition, offset: String(Number(last) + 1) }]);
          await heartbeat();
        } catch (e) {
          h.emit({ ev: 'commitfailed', text: String(e) });
          throw e;
        }
      },
    });
    await closed;
    await c.disconnect();
  },
});
