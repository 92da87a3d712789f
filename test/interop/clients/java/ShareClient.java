import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicIdPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A member of a share group under test. Arguments: bootstrap, group, topic, acquire mode, then key=value client settings. It
 * accepts every record but those whose value begins with "reject" or "release", and with "once", which it releases at the first
 * delivery; of "renew" it wants more time once. One line for each record, another when its acknowledgement was answered. It ends
 * when its input does.
 */
public final class ShareClient {
    private static final Set<String> RENEWED = new HashSet<>();

    private ShareClient() { }

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        System.setOut(System.err);
        Map<String, Object> conf = new HashMap<>();
        conf.put("bootstrap.servers", args[0]);
        conf.put("group.id", args[1]);
        conf.put("share.acknowledgement.mode", "explicit");
        conf.put("share.acquire.mode", args[3]);
        for (int i = 4; i < args.length; i++) {
            String[] kv = args[i].split("=", 2);
            conf.put(kv[0], kv[1]);
        }
        boolean[] stop = {false};
        Thread ender = new Thread(() -> {
            try (BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
                while (in.readLine() != null) {
                    continue;
                }
            } catch (java.io.IOException e) {
                System.err.println(e);
            }
            synchronized (stop) {
                stop[0] = true;
            }
        });
        ender.setDaemon(true);
        ender.start();
        try (KafkaShareConsumer<String, String> c = new KafkaShareConsumer<>(conf, new StringDeserializer(), new StringDeserializer())) {
            c.subscribe(List.of(args[2]));
            out.println("ready");
            while (true) {
                synchronized (stop) {
                    if (stop[0]) {
                        break;
                    }
                }
                ConsumerRecords<String, String> records = c.poll(Duration.ofMillis(200));
                StringBuilder said = new StringBuilder();
                for (ConsumerRecord<String, String> r : records) {
                    String what = act(c, r);
                    said.append(what).append(' ').append(r.partition()).append(' ').append(r.offset()).append(' ')
                        .append(r.deliveryCount().orElse((short) 0)).append(' ').append(r.value()).append('\n');
                }
                if (said.length() == 0) {
                    continue;
                }
                out.print("got " + said.toString().replace("\n", "\ngot ").replaceAll("got $", ""));
                Map<TopicIdPartition, Optional<KafkaException>> done = c.commitSync();
                boolean ok = true;
                for (Map.Entry<TopicIdPartition, Optional<KafkaException>> e : done.entrySet()) {
                    if (e.getValue().isPresent()) {
                        ok = false;
                        out.println("failed " + e.getKey().partition() + " " + e.getValue().get());
                    }
                }
                if (ok) {
                    out.print("done " + said.toString().replace("\n", "\ndone ").replaceAll("done $", ""));
                }
                out.flush();
            }
        }
        out.println("closed");
    }

    private static String act(KafkaShareConsumer<String, String> c, ConsumerRecord<String, String> r) throws InterruptedException {
        if (r.value().startsWith("reject")) {
            c.acknowledge(r, AcknowledgeType.REJECT);
            return "reject";
        }
        boolean first = r.deliveryCount().orElse((short) 1) == 1;
        if (r.value().startsWith("release") || r.value().startsWith("once") && first) {
            c.acknowledge(r, AcknowledgeType.RELEASE);
            return "release";
        }
        if (r.value().startsWith("renew") && RENEWED.add(r.partition() + "-" + r.offset())) {
            c.acknowledge(r, AcknowledgeType.RENEW); // the next poll gives it again
            return "renew";
        }
        c.acknowledge(r, AcknowledgeType.ACCEPT);
        return "accept";
    }
}
