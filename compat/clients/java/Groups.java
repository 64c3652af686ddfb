import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.Arrays;
import java.util.Collection;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Consumers of one group in one process, told by lines on standard input what to do: `start NAME SUBSCRIPTION key=value...`, where SUBSCRIPTION is topics
 * separated by commas, or `re2:` and a pattern; `stop NAME`. Says `NAME has t-0 t-1 ...` whenever a consumer's assignment changed, `NAME stopped`, or
 * `NAME failed ...`. Run as a source file: `java -cp LIBRARIES Groups.java BOOTSTRAP GROUP`.
 */
public class Groups {
    private static final Map<String, Member> MEMBERS = new ConcurrentHashMap<>();

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static class Member extends Thread implements ConsumerRebalanceListener {
        private final String id;
        private final String subscription;
        private final KafkaConsumer<byte[], byte[]> consumer;
        private volatile boolean stopping;
        private TreeSet<String> told;

        Member(String id, String subscription, Properties settings) {
            this.id = id;
            this.subscription = subscription;
            this.consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        }

        @Override
        public void run() {
            try {
                if (subscription.startsWith("re2:")) {
                    consumer.subscribe(new SubscriptionPattern(subscription.substring(4)), this);
                } else {
                    consumer.subscribe(Arrays.asList(subscription.split(",")), this);
                }
                while (!stopping) {
                    consumer.poll(Duration.ofMillis(50));
                    TreeSet<String> has = consumer.assignment().stream().map(TopicPartition::toString).collect(Collectors.toCollection(TreeSet::new));
                    if (!has.equals(told)) {
                        say((id + " has " + String.join(" ", has)).trim());
                        told = has;
                    }
                }
                consumer.close();
                say(id + " stopped");
            } catch (Exception e) {
                say(id + " failed " + e);
            }
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) { }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) { }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            say(id + " lost " + partitions.size());
        }
    }

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("start")) {
                Properties settings = new Properties();
                settings.put("bootstrap.servers", args[0]);
                settings.put("group.id", args[1]);
                settings.put("client.id", words[1]);
                settings.put("auto.offset.reset", "earliest");
                for (int i = 3; i < words.length; i++) {
                    String[] setting = words[i].split("=", 2);
                    settings.put(setting[0], setting[1]);
                }
                Member member = new Member(words[1], words[2], settings);
                MEMBERS.put(words[1], member);
                member.start();
            } else {
                MEMBERS.remove(words[1]).stopping = true;
            }
        }
        System.exit(0);
    }
}
