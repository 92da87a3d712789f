import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Kafka's own Java clients under test: one JSON command a line in, one JSON answer a line out. A group member answers
 * with events until its input ends; then it leaves its group and ends.
 */
public final class JavaClient {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final PrintStream OUT = System.out;
    private static String boot;
    private static Admin admin;
    private static volatile boolean stopped;

    private JavaClient() { }

    public static void main(String[] args) throws Exception {
        boot = args[0];
        System.setOut(System.err);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = in.readLine()) != null; ) {
            JsonNode cmd = JSON.readTree(line);
            ObjectNode answer = JSON.createObjectNode();
            boolean last = false;
            try {
                if (cmd.get("cmd").asText().equals("group")) {
                    Thread t = new Thread(() -> drain(in));
                    t.setDaemon(true);
                    t.start();
                    group(cmd);
                    answer.put("ev", "closed");
                    last = true;
                } else {
                    run(cmd, answer);
                }
            } catch (Throwable e) {
                java.io.StringWriter w = new java.io.StringWriter();
                e.printStackTrace(new java.io.PrintWriter(w));
                answer.removeAll();
                answer.put("error", w.toString());
            }
            emit(answer);
            if (last) {
                break;
            }
        }
        System.exit(0);
    }

    private static void drain(BufferedReader in) {
        try {
            while (in.readLine() != null) { }
        } catch (IOException e) {
            // an input that cannot be read any more has ended
        }
        stopped = true;
    }

    private static synchronized void emit(ObjectNode o) {
        OUT.println(o);
        OUT.flush();
    }

    private static void run(JsonNode cmd, ObjectNode answer) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, cmd.path("topic").asText());
        switch (cmd.get("cmd").asText()) {
            case "produce": produce(cmd, answer); break;
            case "consume": consume(cmd, answer); break;
            case "create":
                admin().createTopics(List.of(new NewTopic(cmd.get("topic").asText(), cmd.get("partitions").asInt(), (short) 1)
                    .configs(strings(cmd.get("configs"))))).all().get();
                break;
            case "list":
                ArrayNode topics = answer.putArray("topics");
                admin().listTopics().names().get().forEach(topics::add);
                break;
            case "describe":
                ObjectNode configs = answer.putObject("configs");
                admin().describeConfigs(List.of(resource)).all().get().get(resource).entries().forEach(e -> configs.put(e.name(), e.value()));
                break;
            case "alter":
                List<AlterConfigOp> ops = new ArrayList<>();
                strings(cmd.get("configs")).forEach((k, v) -> ops.add(new AlterConfigOp(new ConfigEntry(k, v), AlterConfigOp.OpType.SET)));
                admin().incrementalAlterConfigs(Map.<ConfigResource, Collection<AlterConfigOp>>of(resource, ops)).all().get();
                break;
            case "delete": admin().deleteTopics(List.of(cmd.get("topic").asText())).all().get(); break;
            case "groups":
                ArrayNode groups = answer.putArray("groups");
                admin().listGroups().all().get().forEach(g -> groups.add(g.groupId()));
                break;
            case "offsets":
                long ts = cmd.get("ts").asLong();
                OffsetSpec spec = ts == -1 ? OffsetSpec.latest() : ts == -2 ? OffsetSpec.earliest() : OffsetSpec.forTimestamp(ts);
                ArrayNode offsets = answer.putArray("offsets");
                for (TopicPartition tp : partitions(cmd)) {
                    offsets.add(admin().listOffsets(Map.of(tp, spec)).partitionResult(tp).get().offset());
                }
                break;
            default: answer.put("unsupported", cmd.get("cmd").asText() + " is not offered by this client");
        }
    }

    private static void produce(JsonNode cmd, ObjectNode answer) throws Exception {
        Map<String, Object> conf = Map.of("bootstrap.servers", boot, "compression.type", cmd.get("codec").asText(), "linger.ms", 50,
            "enable.idempotence", cmd.path("idempotent").asBoolean(), "acks", "all");
        try (KafkaProducer<byte[], byte[]> p = new KafkaProducer<>(conf, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (JsonNode r : cmd.get("records")) {
                var record = new ProducerRecord<>(cmd.get("topic").asText(), r.get("p").asInt(), r.get("ts").asLong(), dec(r.get("k")), dec(r.get("v")));
                for (JsonNode h : r.path("h")) {
                    record.headers().add(h.get(0).asText(), dec(h.get(1)));
                }
                sent.add(p.send(record));
            }
            ArrayNode offsets = answer.putArray("offsets");
            for (Future<RecordMetadata> f : sent) {
                offsets.add(f.get().offset());
            }
        }
    }

    private static KafkaConsumer<byte[], byte[]> consumer(Map<String, Object> more) {
        Map<String, Object> conf = new HashMap<>(Map.of("bootstrap.servers", boot, "enable.auto.commit", false, "auto.offset.reset", "earliest"));
        conf.putAll(more);
        return new KafkaConsumer<>(conf, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static void consume(JsonNode cmd, ObjectNode answer) {
        ArrayNode out = answer.putArray("records");
        long end = System.currentTimeMillis() + 30000;
        try (KafkaConsumer<byte[], byte[]> c = consumer(Map.of("group.id", UUID.randomUUID().toString()))) {
            c.assign(partitions(cmd));
            c.seekToBeginning(partitions(cmd));
            while (out.size() < cmd.get("count").asInt() && System.currentTimeMillis() < end) {
                for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(200))) {
                    ObjectNode n = out.addObject().put("p", r.partition()).put("o", r.offset()).put("k", enc(r.key())).put("v", enc(r.value())).put("ts", r.timestamp());
                    ArrayNode hs = n.putArray("h");
                    for (Header h : r.headers()) {
                        hs.addArray().add(h.key()).add(enc(h.value()));
                    }
                }
            }
        }
    }

    private static void group(JsonNode cmd) {
        Map<String, Object> conf = new HashMap<>(Map.of("group.id", cmd.get("group").asText(), "group.protocol", cmd.get("protocol").asText()));
        if (cmd.get("protocol").asText().equals("classic")) {
            conf.put("session.timeout.ms", cmd.get("sessionMs").asInt());
            conf.put("heartbeat.interval.ms", 500);
        }
        try (KafkaConsumer<byte[], byte[]> c = consumer(conf)) {
            c.subscribe(List.of(cmd.get("topic").asText()));
            while (!stopped) {
                var got = c.poll(Duration.ofMillis(200));
                for (ConsumerRecord<byte[], byte[]> r : got) {
                    emit(JSON.createObjectNode().put("ev", "rec").put("p", r.partition()).put("o", r.offset()).put("v", enc(r.value())));
                }
                if (!got.isEmpty()) {
                    try {
                        c.commitSync();
                    } catch (KafkaException e) {
                        emit(JSON.createObjectNode().put("ev", "commitfailed").put("text", e.toString()));
                    }
                }
            }
        }
    }

    private static Admin admin() {
        if (admin == null) {
            admin = Admin.create(Map.of("bootstrap.servers", boot));
        }
        return admin;
    }

    private static List<TopicPartition> partitions(JsonNode cmd) {
        List<TopicPartition> out = new ArrayList<>();
        for (int i = 0; i < cmd.get("partitions").asInt(); i++) {
            out.add(new TopicPartition(cmd.get("topic").asText(), i));
        }
        return out;
    }

    private static Map<String, String> strings(JsonNode n) {
        Map<String, String> out = new HashMap<>();
        n.fields().forEachRemaining(e -> out.put(e.getKey(), e.getValue().asText()));
        return out;
    }

    private static byte[] dec(JsonNode n) {
        return n == null || n.isNull() ? null : Base64.getDecoder().decode(n.asText());
    }

    private static String enc(byte[] b) {
        return b == null ? null : Base64.getEncoder().encodeToString(b);
    }
}
