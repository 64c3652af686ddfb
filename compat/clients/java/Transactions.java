import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/** Transactions as applications use them: {@code BOOTSTRAP SUFFIX [SCENARIO...]}. Prints what each scenario saw, one line per fact. */
public class Transactions {
    static String bootstrap, suffix;
    static Admin admin;

    public static void main(String[] a) throws Exception {
        System.setOut(new java.io.PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), true));
        bootstrap = a[0];
        suffix = a[1];
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        Set<String> wanted = new LinkedHashSet<>(Arrays.asList(a).subList(2, a.length));
        try (Admin it = Admin.create(p)) {
            admin = it;
            if (wanted.isEmpty() || wanted.contains("commit")) commit();
            if (wanted.isEmpty() || wanted.contains("abort")) abort();
            if (wanted.isEmpty() || wanted.contains("empty")) empty();
            if (wanted.isEmpty() || wanted.contains("zombie")) zombie();
            if (wanted.isEmpty() || wanted.contains("rivals")) rivals();
            if (wanted.isEmpty() || wanted.contains("timeout")) timeout();
            if (wanted.isEmpty() || wanted.contains("offsets")) offsets();
            if (wanted.isEmpty() || wanted.contains("stable")) stable();
            if (wanted.isEmpty() || wanted.contains("many")) many();
            if (wanted.isEmpty() || wanted.contains("admin")) admin();
            if (wanted.contains("leave-open")) leaveOpen();
            if (wanted.contains("settle")) {
                for (int n = 0; n < 4; n++)
                    try (Producer<String, String> crashed = producer("crash-" + n, 60000)) {
                        crashed.initTransactions();
                    }
                settle(topic("crash"));
            }
            if (wanted.contains("read")) for (String v : read(topic("crash"), true)) System.out.println("read " + v);
            if (wanted.contains("endless")) endless();
        }
    }

    static void commit() throws Exception {
        String t = newTopic("commit");
        try (Producer<String, String> p = producer("commit", 60000)) {
            p.initTransactions();
            p.beginTransaction();
            for (int i = 0; i < 4; i++) p.send(new ProducerRecord<>(t, i % 2, null, "c" + i));
            p.commitTransaction();
            settle(t);
        System.out.println("commit: committed " + read(t, true));
            p.beginTransaction();
            p.send(new ProducerRecord<>(t, 0, null, "again"));
            p.commitTransaction();
            settle(t);
        System.out.println("commit: committed " + read(t, true));
        }
    }

    static void abort() throws Exception {
        String t = newTopic("abort");
        try (Producer<String, String> p = producer("abort", 60000)) {
            p.initTransactions();
            p.beginTransaction();
            p.send(new ProducerRecord<>(t, 0, null, "a0")).get();
            p.send(new ProducerRecord<>(t, 1, null, "a1")).get();
            p.abortTransaction();
            settle(t);
        System.out.println("abort: committed " + read(t, true) + " all " + read(t, false));
            p.beginTransaction();
            p.send(new ProducerRecord<>(t, 0, null, "then"));
            p.commitTransaction();
            p.beginTransaction();
            p.send(new ProducerRecord<>(t, 0, null, "x")).get();
            p.abortTransaction();
            p.beginTransaction();
            p.send(new ProducerRecord<>(t, 0, null, "last"));
            p.commitTransaction();
            settle(t);
        System.out.println("abort: committed " + read(t, true) + " all " + read(t, false));
        }
    }

    static void empty() throws Exception {
        String t = newTopic("empty");
        try (Producer<String, String> p = producer("empty", 60000)) {
            p.initTransactions();
            p.beginTransaction();
            p.commitTransaction();
            p.beginTransaction();
            p.abortTransaction();
            p.beginTransaction();
            p.send(new ProducerRecord<>(t, 0, null, "e"));
            p.commitTransaction();
            settle(t);
        System.out.println("empty: committed " + read(t, true));
        }
    }

    static void zombie() throws Exception {
        String t = newTopic("zombie");
        Producer<String, String> old = producer("zombie", 60000);
        old.initTransactions();
        old.beginTransaction();
        old.send(new ProducerRecord<>(t, 0, null, "old")).get();
        try (Producer<String, String> p = producer("zombie", 60000)) {
            p.initTransactions();
            System.out.println("zombie: commit " + thrown(old::commitTransaction));
            p.beginTransaction();
            p.send(new ProducerRecord<>(t, 0, null, "new")).get();
            System.out.println("zombie: send " + thrown(() -> old.send(new ProducerRecord<>(t, 0, null, "late")).get()));
            p.commitTransaction();
        }
        old.close(Duration.ZERO);
        settle(t);
        System.out.println("zombie: committed " + read(t, true) + " all " + read(t, false));
    }

    static void rivals() throws Exception {
        String t = newTopic("rivals");
        Producer<String, String> before = null;
        for (int i = 0; i < 4; i++) {
            Producer<String, String> p = producer("rivals", 60000);
            p.initTransactions();
            p.beginTransaction();
            p.send(new ProducerRecord<>(t, 0, null, "r" + i)).get();
            if (before != null) {
                Producer<String, String> b = before;
                System.out.println("rivals: " + thrown(b::commitTransaction));
                b.close(Duration.ZERO);
            }
            before = p;
        }
        before.commitTransaction();
        before.close();
        settle(t);
        System.out.println("rivals: committed " + read(t, true));
    }

    static void timeout() throws Exception {
        String t = newTopic("timeout");
        Producer<String, String> p = producer("timeout", 1000);
        p.initTransactions();
        p.beginTransaction();
        p.send(new ProducerRecord<>(t, 0, null, "slow")).get();
        settle(t);
        System.out.println("timeout: committed " + read(t, true) + " all " + read(t, false));
        System.out.println("timeout: commit " + thrown(p::commitTransaction));
        System.out.println("timeout: then " + thrown(() -> { p.beginTransaction(); p.send(new ProducerRecord<>(t, 0, null, "z")).get(); p.commitTransaction(); }));
        p.close(Duration.ZERO);
        try (Producer<String, String> q = producer("timeout", 60000)) {
            q.initTransactions();
            q.beginTransaction();
            q.send(new ProducerRecord<>(t, 0, null, "fresh"));
            q.commitTransaction();
        }
        settle(t);
        System.out.println("timeout: committed " + read(t, true));
    }

    static void offsets() throws Exception {
        String in = newTopic("in"), out = newTopic("out"), group = "g" + suffix;
        try (Producer<String, String> p = producer("seed", 60000)) {
            p.initTransactions();
            p.beginTransaction();
            for (int i = 0; i < 6; i++) p.send(new ProducerRecord<>(in, 0, null, "i" + i));
            p.commitTransaction();
        }
        settle(in);
        Properties c = consumerProperties(true);
        c.put("group.id", group);
        c.put("max.poll.records", "2");
        try (Producer<String, String> p = producer("offsets", 60000);
             KafkaConsumer<String, String> consumer = new KafkaConsumer<>(c, new StringDeserializer(), new StringDeserializer())) {
            p.initTransactions();
            consumer.subscribe(Collections.singletonList(in));
            int round = 0, seen = 0;
            long deadline = System.currentTimeMillis() + 30000;
            while (seen < 6 && System.currentTimeMillis() < deadline) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                if (records.isEmpty()) continue;
                p.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> at = new HashMap<>();
                for (ConsumerRecord<String, String> r : records) {
                    p.send(new ProducerRecord<>(out, 0, null, r.value() + "'"));
                    at.put(new TopicPartition(in, r.partition()), new OffsetAndMetadata(r.offset() + 1, "round"));
                }
                p.sendOffsetsToTransaction(at, consumer.groupMetadata());
                if (round++ == 1) {
                    // as an application does that failed: back to what is committed
                    p.flush();
                    p.abortTransaction();
                    System.out.println("offsets: after abort " + committed(group, in));
                    consumer.seek(new TopicPartition(in, 0), committed(group, in));
                } else {
                    p.commitTransaction();
                    seen += records.count();
                    System.out.println("offsets: after commit " + committed(group, in));
                }
            }
            settle(out);
            System.out.println("offsets: committed " + read(out, true) + " all " + read(out, false).size());
            // somebody who was thrown out of the group commits no more
            ConsumerGroupMetadata stale = consumer.groupMetadata();
            consumer.close();
            p.beginTransaction();
            Map<TopicPartition, OffsetAndMetadata> at = new HashMap<>();
            at.put(new TopicPartition(in, 0), new OffsetAndMetadata(1));
            System.out.println("offsets: stale member " + thrown(() -> { p.sendOffsetsToTransaction(at, stale); p.commitTransaction(); }));
            System.out.println("offsets: then " + thrown(p::abortTransaction) + " " + committed(group, in));
        }
    }

    static void stable() throws Exception {
        String t = newTopic("stable");
        try (Producer<String, String> open = producer("stable-1", 60000); Producer<String, String> p = producer("stable-2", 60000)) {
            open.initTransactions();
            p.initTransactions();
            open.beginTransaction();
            open.send(new ProducerRecord<>(t, 0, null, "first")).get();
            p.beginTransaction();
            p.send(new ProducerRecord<>(t, 0, null, "second")).get();
            p.commitTransaction();
            System.out.println("stable: committed " + read(t, true) + " ends " + endOffsets(t, true).get(new TopicPartition(t, 0)));
            open.abortTransaction();
            settle(t);
            System.out.println("stable: committed " + read(t, true) + " ends " + endOffsets(t, true).get(new TopicPartition(t, 0)));
        }
    }

    static void many() throws Exception {
        String t = newTopic("many");
        List<String> sent = new ArrayList<>();
        try (Producer<String, String> p = producer("many", 60000)) {
            p.initTransactions();
            for (int i = 0; i < 40; i++) {
                p.beginTransaction();
                for (int k = 0; k < 3; k++) p.send(new ProducerRecord<>(t, k % 2, null, i + "." + k));
                if (i % 3 == 2) p.abortTransaction();
                else {
                    p.commitTransaction();
                    for (int k = 0; k < 3; k++) sent.add(i + "." + k);
                }
            }
        }
        settle(t);
        List<String> got = read(t, true);
        Collections.sort(sent);
        Collections.sort(got);
        System.out.println("many: " + (sent.equals(got) ? "all " + got.size() : "sent " + sent + " got " + got));
    }

    static void admin() throws Exception {
        String t = newTopic("admin");
        Producer<String, String> p = producer("admin", 60000);
        p.initTransactions();
        System.out.println("admin: " + described("admin"));
        p.beginTransaction();
        p.send(new ProducerRecord<>(t, 1, null, "open")).get();
        System.out.println("admin: " + described("admin") + " ongoing " + listed("admin"));
        TopicPartition tp = new TopicPartition(t, 1);
        ProducerState s = admin.describeProducers(Collections.singleton(tp)).partitionResult(tp).get().activeProducers().get(0);
        System.out.println("admin: producer at " + s.currentTransactionStartOffset() + " sequence " + s.lastSequence());
        System.out.println("admin: nobody " + thrown(() -> admin.describeTransactions(Collections.singleton("nobody" + suffix)).all().get()));
        admin.abortTransaction(new AbortTransactionSpec(tp, s.producerId(), (short) s.producerEpoch(), s.coordinatorEpoch().orElse(0))).all().get();
        settle(t);
        System.out.println("admin: committed " + read(t, true));
        admin.fenceProducers(Collections.singleton("admin" + suffix)).all().get();
        System.out.println("admin: fenced " + thrown(p::commitTransaction));
        p.close(Duration.ZERO);
        waitUntil(() -> !described("admin").startsWith("Prepare"));
        System.out.println("admin: " + described("admin"));
    }

    /** For crash rounds: transactions in every state, then this process is killed with the broker. */
    static void endless() throws Exception {
        String t = newTopic("crash");
        List<Thread> all = new ArrayList<>();
        for (int n = 0; n < 4; n++) {
            int me = n;
            Thread thread = new Thread(() -> {
                try (Producer<String, String> p = producer("crash-" + me, 60000)) {
                    p.initTransactions();
                    for (int i = 0; ; i++) {
                        p.beginTransaction();
                        String id = UUID.randomUUID().toString();
                        for (int k = 0; k < 2; k++) p.send(new ProducerRecord<>(t, k, null, id));
                        if (i % 4 == 3) {
                            p.flush();
                            p.abortTransaction();
                            System.out.println("aborted " + id);
                        } else {
                            p.commitTransaction();
                            System.out.println("done " + id);
                        }
                    }
                } catch (Exception e) {
                    System.out.println("ended " + e.getClass().getSimpleName());
                }
            });
            thread.start();
            all.add(thread);
        }
        for (Thread thread : all) thread.join();
    }

    /** Leaves a transaction open, its records on the disk. */
    static void leaveOpen() throws Exception {
        Producer<String, String> p = producer("open", 2000);
        p.initTransactions();
        p.beginTransaction();
        p.send(new ProducerRecord<>(topic("crash"), 0, null, "open")).get();
        System.out.println("open");
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    interface Action { void run() throws Exception; }
    interface Test { boolean holds() throws Exception; }

    static String thrown(Action action) {
        try {
            action.run();
            return "fine";
        } catch (ExecutionException e) {
            return e.getCause().getClass().getSimpleName();
        } catch (Exception e) {
            return e.getClass().getSimpleName();
        }
    }

    static void waitUntil(Test test) throws Exception {
        long deadline = System.currentTimeMillis() + 30000;
        while (!test.holds()) {
            if (System.currentTimeMillis() > deadline) {
                System.out.println("waited in vain");
                return;
            }
            Thread.sleep(50);
        }
    }

    /** Waits until nothing is open. */
    static void settle(String topic) throws Exception {
        waitUntil(() -> endOffsets(topic, true).equals(endOffsets(topic, false)));
    }

    static String topic(String name) {
        return name + "-t" + suffix;
    }

    static String newTopic(String name) throws Exception {
        admin.createTopics(Collections.singleton(new NewTopic(topic(name), 2, (short) 1))).all().get();
        return topic(name);
    }

    static Producer<String, String> producer(String id, int timeoutMs) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("transactional.id", id + suffix);
        p.put("transaction.timeout.ms", String.valueOf(timeoutMs));
        p.put("delivery.timeout.ms", "20000");
        p.put("request.timeout.ms", "10000");
        p.put("linger.ms", "0");
        return new KafkaProducer<>(p, new StringSerializer(), new StringSerializer());
    }

    static Properties consumerProperties(boolean committed) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("auto.offset.reset", "earliest");
        p.put("enable.auto.commit", "false");
        p.put("isolation.level", committed ? "read_committed" : "read_uncommitted");
        return p;
    }

    static Map<TopicPartition, Long> endOffsets(String topic, boolean committed) throws Exception {
        try (KafkaConsumer<String, String> c = new KafkaConsumer<>(consumerProperties(committed), new StringDeserializer(), new StringDeserializer())) {
            return c.endOffsets(Arrays.asList(new TopicPartition(topic, 0), new TopicPartition(topic, 1)));
        }
    }

    static List<String> read(String topic, boolean committed) throws Exception {
        List<String> values = new ArrayList<>();
        List<TopicPartition> partitions = Arrays.asList(new TopicPartition(topic, 0), new TopicPartition(topic, 1));
        try (KafkaConsumer<String, String> c = new KafkaConsumer<>(consumerProperties(committed), new StringDeserializer(), new StringDeserializer())) {
            c.assign(partitions);
            c.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = c.endOffsets(partitions);
            long deadline = System.currentTimeMillis() + 20000;
            while (System.currentTimeMillis() < deadline) {
                boolean done = true;
                for (TopicPartition tp : partitions) done &= c.position(tp) >= ends.get(tp);
                if (done) break;
                for (ConsumerRecord<String, String> r : c.poll(Duration.ofMillis(100))) values.add(r.partition() + ":" + r.value());
            }
            if (System.currentTimeMillis() >= deadline) values.add("(not to the end)");
        }
        List<String> sorted = new ArrayList<>(values);
        sorted.sort(Comparator.comparing((String v) -> v.charAt(0)));
        List<String> bare = new ArrayList<>();
        for (String v : sorted) bare.add(v.substring(v.indexOf(':') + 1));
        return bare;
    }

    static long committed(String group, String topic) throws Exception {
        // as a consumer asks: it waits while the end of a transaction is on its way to the group, where an admin passes the partition over
        Properties c = consumerProperties(true);
        c.put("group.id", group);
        TopicPartition partition = new TopicPartition(topic, 0);
        OffsetAndMetadata at;
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(c, new StringDeserializer(), new StringDeserializer())) {
            at = consumer.committed(Collections.singleton(partition)).get(partition);
        }
        return at == null ? -1 : at.offset();
    }

    static String described(String id) throws Exception {
        TransactionDescription d = admin.describeTransactions(Collections.singleton(id + suffix)).description(id + suffix).get();
        return d.state().toString() + " epoch " + d.producerEpoch() + " of " + d.topicPartitions().size() + " within " + d.transactionTimeoutMs();
    }

    static List<String> listed(String id) throws Exception {
        List<String> names = new ArrayList<>();
        for (TransactionListing l : admin.listTransactions(new ListTransactionsOptions().filterStates(Collections.singleton(TransactionState.ONGOING))).all().get())
            if (l.transactionalId().equals(id + suffix)) names.add(l.state().toString());
        return names;
    }
}
