import java.io.*;
import java.nio.file.*;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.header.*;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;

/** Driver for kafka-clients of any age: {@code produce BOOTSTRAP TOPIC CODEC,... FILE} and {@code consume BOOTSTRAP TOPIC COUNT}. */
public class Driver {
    public static void main(String[] a) throws Exception {
        if (a[0].equals("produce")) {
            for (String codec : a[3].split(",")) produce(a[1], a[2], codec, a[4]);
        } else consume(a[1], a[2], Integer.parseInt(a[3]));
    }

    static void produce(String bootstrap, String topic, String codec, String path) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("acks", "all");
        p.put("enable.idempotence", "true");
        p.put("compression.type", codec);
        p.put("max.request.size", "4194304");
        p.put("linger.ms", "20");
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (String line : Files.readAllLines(Paths.get(path))) {
                Line r = new Line(line);
                sent.add(producer.send(new ProducerRecord<>(topic, r.partition, r.timestamp, r.key, r.value, r.headers)));
            }
            producer.flush();
            for (Future<RecordMetadata> f : sent) f.get();
        }
    }

    static void consume(String bootstrap, String topic, int count) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("group.id", "g-" + topic + System.nanoTime());
        p.put("auto.offset.reset", "earliest");
        p.put("max.partition.fetch.bytes", "4194304");
        int seen = 0;
        long deadline = System.currentTimeMillis() + 60000;
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(Collections.singletonList(topic));
            while (seen < count && System.currentTimeMillis() < deadline)
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(500))) {
                    StringBuilder h = new StringBuilder();
                    for (Header x : r.headers()) h.append(h.length() == 0 ? "" : ", ").append("[\"").append(x.key()).append("\", ").append(shown(x.value())).append("]");
                    System.out.println("{\"partition\": " + r.partition() + ", \"offset\": " + r.offset() + ", \"timestamp\": " + r.timestamp()
                        + ", \"key\": " + shown(r.key()) + ", \"value\": " + shown(r.value()) + ", \"headers\": [" + h + "]}");
                    seen++;
                }
        }
    }

    static String shown(byte[] b) throws Exception {
        if (b == null) return "null";
        return "\"" + (b.length <= 64 ? hex(b) : "sha256:" + hex(MessageDigest.getInstance("SHA-256").digest(b)) + ":" + b.length) + "\"";
    }

    static String hex(byte[] b) {
        StringBuilder s = new StringBuilder();
        for (byte x : b) s.append(String.format("%02x", x));
        return s.toString();
    }

    /** One line of the records file. The writer's own plain JSON (fixed field order, no escapes), so a small reader does. */
    static class Line {
        final int partition;
        final long timestamp;
        final byte[] key, value;
        final List<Header> headers = new ArrayList<>();
        private final String s;
        private int at = 0;

        Line(String s) {
            this.s = s;
            skipTo(':'); partition = (int) number();
            skipTo(':'); timestamp = number();
            skipTo(':'); key = bytes();
            skipTo(':'); value = bytes();
            skipTo(':'); skipTo('[');
            while (true) {
                while (" ,".indexOf(s.charAt(at)) >= 0) at++;
                if (s.charAt(at) != '[') break;
                at++;
                String name = string();
                at++;
                headers.add(new RecordHeader(name, bytes()));
                skipTo(']');
            }
        }

        void skipTo(char c) { while (s.charAt(at) != c) at++; at++; }
        void space() { while (s.charAt(at) == ' ') at++; }
        long number() { space(); int from = at; while ("-0123456789".indexOf(s.charAt(at)) >= 0) at++; return Long.parseLong(s.substring(from, at)); }
        String string() { space(); if (s.charAt(at) == 'n') { at += 4; return null; } int end = s.indexOf('"', at + 1); String r = s.substring(at + 1, end); at = end + 1; return r; }

        byte[] bytes() {
            String t = string();
            if (t == null) return null;
            if (t.startsWith("repeat:")) {
                String[] p = t.split(":");
                byte[] b = new byte[Integer.parseInt(p[2])];
                Arrays.fill(b, (byte) Integer.parseInt(p[1], 16));
                return b;
            }
            byte[] b = new byte[t.length() / 2];
            for (int i = 0; i < b.length; i++) b[i] = (byte) Integer.parseInt(t.substring(2 * i, 2 * i + 2), 16);
            return b;
        }
    }
}
