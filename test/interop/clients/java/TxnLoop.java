import java.io.PrintStream;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Consume, transform, produce, exactly once. Arguments: bootstrap, input topic, output topic, group, transactional id, then key=value
 * settings of both clients. Prints the number of records of every transaction that was committed, "fenced" where another instance has
 * taken over. Runs until it is killed.
 */
public final class TxnLoop {
    private TxnLoop() { }

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        System.setOut(System.err);
        Map<String, Object> conf = new HashMap<>();
        conf.put("bootstrap.servers", args[0]);
        for (int i = 5; i < args.length; i++) {
            String[] kv = args[i].split("=", 2);
            conf.put(kv[0], kv[1]);
        }
        Map<String, Object> p = new HashMap<>(conf);
        p.put("transactional.id", args[4]);
        Map<String, Object> c = new HashMap<>(conf);
        c.put("group.id", args[3]);
        c.put("isolation.level", "read_committed");
        c.put("enable.auto.commit", "false");
        c.put("auto.offset.reset", "earliest");
        c.put("max.poll.records", "50");
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(p, new StringSerializer(), new StringSerializer());
             KafkaConsumer<String, String> consumer = new KafkaConsumer<>(c, new StringDeserializer(), new StringDeserializer())) {
            producer.initTransactions();
            consumer.subscribe(List.of(args[1]));
            out.println("ready");
            while (true) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                if (records.isEmpty()) {
                    continue;
                }
                try {
                    producer.beginTransaction();
                    Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                    for (ConsumerRecord<String, String> r : records) {
                        producer.send(new ProducerRecord<>(args[2], r.key(), "seen " + r.value()));
                        offsets.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
                    }
                    producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                    producer.commitTransaction();
                    out.println("committed " + records.count());
                } catch (ProducerFencedException e) {
                    out.println("fenced");
                    return;
                } catch (KafkaException e) {
                    System.err.println("aborting: " + e);
                    producer.abortTransaction();
                    for (TopicPartition tp : consumer.assignment()) {
                        OffsetAndMetadata at = consumer.committed(java.util.Set.of(tp)).get(tp);
                        if (at == null) {
                            consumer.seekToBeginning(List.of(tp));
                        } else {
                            consumer.seek(tp, at.offset());
                        }
                    }
                }
            }
        }
    }
}
