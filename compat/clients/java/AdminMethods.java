import java.time.Duration;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.*;
import org.apache.kafka.common.resource.*;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Calls every method of Admin that a broker without share and streams groups serves, with a good and a bad argument, and prints a line
 * for each: what came back, or which exception. Ids, times, ports and folders are blank, so that the lines of two brokers can be compared.
 * Run as a source file: `java -cp LIBRARIES AdminMethods.java BOOTSTRAP FOLDER`. Compiles with kafka-clients from 3.9 on; what only later
 * ones have is called by name.
 */
public class AdminMethods {
    private static String port;
    private static String folder;
    private static Admin admin;

    private static String clean(String text) {
        java.util.regex.Matcher lists = java.util.regex.Pattern.compile("topicPartitions=([^)]*)\\)").matcher(text);
        // a set, in the order of its hashes
        text = lists.replaceAll(m -> "topicPartitions=" + String.join(",", new TreeSet<>(Arrays.asList(m.group(1).split(",")))) + ")");
        return text.replace(folder, "$folder")
            .replaceAll("\\b" + port + "\\b", "\\$port")
            .replaceAll("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "#uuid")
            .replaceAll("(?<=[=\\[ ])[A-Za-z0-9_-]{22}(?=[,)\\] ]|$)", "#id")
            .replaceAll("\\b1[0-9]{12}\\b", "#time")
            .replaceAll("(producerId|totalBytes|usableBytes|highWatermark|logEndOffset|leaderEpoch|lastTimestamp|transactionStartTimeMs)=[A-Za-z]*\\[?-?[0-9]+\\]?", "$1=#");
    }

    private static String show(Object value) throws Exception {
        if (value == null) return "null";
        if (value instanceof KafkaFuture) return show(get((KafkaFuture<?>) value));
        if (value instanceof Throwable) return value.getClass().getSimpleName();
        if (value instanceof Optional) return ((Optional<?>) value).isPresent() ? "some " + show(((Optional<?>) value).get()) : "none";
        if (value instanceof Node) return "node " + ((Node) value).id();
        if (value instanceof Uuid) return "#id";
        if (value instanceof Map) {
            TreeMap<String, String> sorted = new TreeMap<>();
            for (Map.Entry<?, ?> e : ((Map<?, ?>) value).entrySet()) sorted.put(show(e.getKey()), safely(e.getValue()));
            return sorted.toString();
        }
        if (value instanceof Config) {
            TreeSet<String> sorted = new TreeSet<>();
            for (ConfigEntry e : ((Config) value).entries()) {
                // a setting of Milena's own, and where the files and sockets are
                if (e.name().contains("ack.durability")) continue;
                sorted.add(e.name() + "=" + e.value() + " " + e.source() + (e.isReadOnly() ? " read-only" : "") + (e.isSensitive() ? " secret" : "") + " " + e.type());
            }
            return sorted.toString();
        }
        if (value instanceof LogDirDescription) {
            LogDirDescription d = (LogDirDescription) value;
            return "error " + show(d.error()) + " " + show(d.replicaInfos());
        }
        if (value instanceof ConsumerGroupDescription) {
            ConsumerGroupDescription d = (ConsumerGroupDescription) value;
            return d.groupId() + " simple " + d.isSimpleConsumerGroup() + " assignor " + d.partitionAssignor() + " state " + d.state() + " type " + d.type() + " members " + show(d.members()) + " may " + show(d.authorizedOperations());
        }
        if (value instanceof List) {
            StringBuilder out = new StringBuilder("[");
            for (Object item : (List<?>) value) out.append(out.length() > 1 ? ", " : "").append(safely(item));
            return out.append("]").toString();
        }
        if (value instanceof Collection) {
            TreeSet<String> sorted = new TreeSet<>();
            for (Object item : (Collection<?>) value) sorted.add(safely(item));
            return sorted.toString();
        }
        return clean(value.toString());
    }

    private static String safely(Object value) {
        try {
            return show(value);
        } catch (Throwable e) {
            return exception(e);
        }
    }

    private static String exception(Throwable e) {
        while ((e instanceof ExecutionException || e instanceof java.lang.reflect.InvocationTargetException) && e.getCause() != null) e = e.getCause();
        return "! " + e.getClass().getSimpleName();
    }

    private static <T> T get(KafkaFuture<T> future) throws Exception {
        return future.get(20, TimeUnit.SECONDS);
    }

    private static void say(String what, Callable<?> call) {
        String line;
        try {
            line = show(call.call());
        } catch (Throwable e) {
            line = exception(e);
        }
        System.out.println(what + ": " + line);
        System.out.flush();
    }

    /** A method that older clients lack, and a method of its result. */
    private static Object byName(String method, String of, Object... arguments) throws Exception {
        for (java.lang.reflect.Method m : Admin.class.getMethods()) {
            if (!m.getName().equals(method) || m.getParameterCount() != arguments.length) continue;
            Object result = m.invoke(admin, arguments);
            return result.getClass().getMethod(of).invoke(result);
        }
        return "not in this client";
    }

    private static void until(Callable<Boolean> holds) throws Exception {
        long deadline = System.currentTimeMillis() + 20_000;
        while (System.currentTimeMillis() < deadline) {
            try {
                if (holds.call()) return;
            } catch (ExecutionException e) {
                // not yet
            }
            Thread.sleep(50);
        }
    }

    private static ConfigResource topic(String name) {
        return new ConfigResource(ConfigResource.Type.TOPIC, name);
    }

    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[0];
        folder = arguments[1];
        port = bootstrap.substring(bootstrap.lastIndexOf(':') + 1);
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("default.api.timeout.ms", "20000");
        settings.put("request.timeout.ms", "15000");
        admin = Admin.create(settings);
        topics();
        configs();
        records(settings);
        groups(settings);
        transactions(settings);
        replicas();
        security();
        cluster();
        System.exit(0);
    }

    private static void topics() throws Exception {
        CreateTopicsResult made = admin.createTopics(Arrays.asList(new NewTopic("a", 2, (short) 1), new NewTopic("b", Optional.empty(), Optional.empty()),
            new NewTopic("c", Map.of(0, List.of(1))).configs(Map.of("retention.ms", "60000"))));
        say("createTopics", made::values);
        say("createTopics numPartitions", () -> made.numPartitions("a"));
        say("createTopics replicationFactor", () -> made.replicationFactor("b"));
        say("createTopics config", () -> made.config("c"));
        say("createTopics topicId", () -> made.topicId("a"));
        say("createTopics bad", () -> admin.createTopics(Arrays.asList(new NewTopic("a", 2, (short) 1), new NewTopic("a/b", 1, (short) 1), new NewTopic("d", 0, (short) 1),
            new NewTopic("e", 1, (short) 3), new NewTopic("f", 1, (short) 1).configs(Map.of("no.such", "1")), new NewTopic("g", Map.of(0, List.of(9))))).values());
        say("createTopics validate", () -> admin.createTopics(List.of(new NewTopic("only-asked", 1, (short) 1)), new CreateTopicsOptions().validateOnly(true)).values());
        until(() -> get(admin.describeTopics(List.of("a", "b", "c")).allTopicNames()).values().stream().allMatch(d -> d.partitions().stream().allMatch(p -> p.leader() != null)));
        Thread.sleep(300);
        say("listTopics", () -> admin.listTopics().names());
        say("listTopics internal", () -> admin.listTopics(new ListTopicsOptions().listInternal(true)).listings());
        say("describeTopics", () -> admin.describeTopics(List.of("a", "nowhere", "a/b")).topicNameValues());
        say("describeTopics with rights", () -> admin.describeTopics(List.of("a"), new DescribeTopicsOptions().includeAuthorizedOperations(true)).topicNameValues());
        Uuid id = get(admin.describeTopics(List.of("a")).allTopicNames()).get("a").topicId();
        say("describeTopics by id", () -> admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds());
        say("describeTopics by a bad id", () -> admin.describeTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()))).allTopicIds());
        Map<String, NewPartitions> more = new LinkedHashMap<>();
        more.put("b", NewPartitions.increaseTo(3));
        more.put("a", NewPartitions.increaseTo(1));
        more.put("nowhere", NewPartitions.increaseTo(4));
        more.put("c", NewPartitions.increaseTo(2, List.of(List.of(7))));
        say("createPartitions", () -> admin.createPartitions(more).values());
        until(() -> get(admin.describeTopics(List.of("b")).allTopicNames()).get("b").partitions().size() == 3);
        say("deleteTopics", () -> admin.deleteTopics(List.of("c", "nowhere", "a/b")).topicNameValues());
        say("deleteTopics by a bad id", () -> admin.deleteTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()))).all());
        until(() -> !get(admin.listTopics().names()).contains("c"));
        say("listTopics then", () -> admin.listTopics().names());
    }

    private static void configs() {
        ConfigResource a = topic("a");
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
        ConfigResource group = new ConfigResource(ConfigResource.Type.forId((byte) 32), "g");
        ConfigResource metrics = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, "m");
        say("describeConfigs", () -> admin.describeConfigs(List.of(a)).values());
        say("describeConfigs of a group", () -> admin.describeConfigs(List.of(group)).values());
        say("describeConfigs of metrics", () -> admin.describeConfigs(List.of(metrics)).values());
        say("describeConfigs bad", () -> admin.describeConfigs(List.of(topic("nowhere"), topic("a/b"))).values());
        say("describeConfigs of another broker", () -> admin.describeConfigs(List.of(new ConfigResource(ConfigResource.Type.BROKER, "77"))).values());
        Map<ConfigResource, Collection<AlterConfigOp>> changes = new LinkedHashMap<>();
        changes.put(a, List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "7000"), AlterConfigOp.OpType.SET),
            new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), AlterConfigOp.OpType.APPEND)));
        changes.put(topic("nowhere"), List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "7000"), AlterConfigOp.OpType.SET)));
        changes.put(topic("b"), List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "x"), AlterConfigOp.OpType.SET)));
        changes.put(group, List.of(new AlterConfigOp(new ConfigEntry("consumer.session.timeout.ms", "50000"), AlterConfigOp.OpType.SET)));
        changes.put(metrics, List.of(new AlterConfigOp(new ConfigEntry("interval.ms", "30000"), AlterConfigOp.OpType.SET)));
        say("incrementalAlterConfigs", () -> admin.incrementalAlterConfigs(changes).values());
        say("incrementalAlterConfigs of the broker", () -> admin.incrementalAlterConfigs(Map.of(broker,
            List.of(new AlterConfigOp(new ConfigEntry("log.cleaner.threads", "-1"), AlterConfigOp.OpType.SET)))).values());
        say("incrementalAlterConfigs read-only", () -> admin.incrementalAlterConfigs(Map.of(broker,
            List.of(new AlterConfigOp(new ConfigEntry("node.id", "3"), AlterConfigOp.OpType.SET)))).values());
        say("incrementalAlterConfigs subtract", () -> admin.incrementalAlterConfigs(Map.of(a,
            List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "7000"), AlterConfigOp.OpType.SUBTRACT)))).values());
        pause();
        say("describeConfigs then", () -> admin.describeConfigs(List.of(a, group, metrics), new DescribeConfigsOptions().includeSynonyms(true)).values());
        say("listConfigResources", () -> {
            Object all = byName("listConfigResources", "all");
            return all instanceof KafkaFuture ? new java.util.HashSet<>((Collection<?>) get((KafkaFuture<?>) all)) : all;
        });
        say("listClientMetricsResources", () -> admin.listClientMetricsResources().all());
    }

    private static void pause() {
        try {
            Thread.sleep(500);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private static void records(Properties settings) throws Exception {
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int i = 0; i < 5; i++) producer.send(new ProducerRecord<>("b", 0, 1_700_000_000_000L + i, "k", "v" + i)).get();
        }
        TopicPartition b0 = new TopicPartition("b", 0);
        TopicPartition nowhere = new TopicPartition("nowhere", 0);
        for (OffsetSpec spec : List.of(OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.maxTimestamp(), OffsetSpec.forTimestamp(1_700_000_000_002L),
            OffsetSpec.forTimestamp(1_800_000_000_000L), OffsetSpec.earliestLocal(), OffsetSpec.latestTiered())) {
            say("listOffsets " + spec.getClass().getSimpleName(), () -> {
                ListOffsetsResult.ListOffsetsResultInfo info = get(admin.listOffsets(Map.of(b0, spec)).partitionResult(b0));
                return info.offset() + " at " + info.timestamp() + " epoch " + info.leaderEpoch();
            });
        }
        say("listOffsets bad", () -> admin.listOffsets(Map.of(nowhere, OffsetSpec.latest()), new ListOffsetsOptions(org.apache.kafka.common.IsolationLevel.READ_COMMITTED).timeoutMs(3000)).partitionResult(nowhere));
        say("deleteRecords", () -> get(admin.deleteRecords(Map.of(b0, RecordsToDelete.beforeOffset(2))).lowWatermarks().get(b0)).lowWatermark());
        say("deleteRecords bad", () -> admin.deleteRecords(Map.of(b0, RecordsToDelete.beforeOffset(99), nowhere, RecordsToDelete.beforeOffset(1)), new DeleteRecordsOptions().timeoutMs(3000)).lowWatermarks());
        say("listOffsets then", () -> get(admin.listOffsets(Map.of(b0, OffsetSpec.earliest())).partitionResult(b0)).offset());
        say("describeProducers", () -> get(admin.describeProducers(List.of(b0)).partitionResult(b0)).activeProducers());
        say("describeProducers bad", () -> admin.describeProducers(List.of(nowhere), new DescribeProducersOptions().timeoutMs(3000)).partitionResult(nowhere));
    }

    private static KafkaConsumer<String, String> consumer(Properties settings, String group, String protocol) {
        Properties own = new Properties();
        own.putAll(settings);
        own.put("group.id", group);
        own.put("group.protocol", protocol);
        own.put("auto.offset.reset", "earliest");
        own.put("enable.auto.commit", "false");
        own.put("client.id", "reader");
        if (protocol.equals("classic")) own.put(ConsumerConfig.GROUP_INSTANCE_ID_CONFIG, "static");
        return new KafkaConsumer<>(own, new StringDeserializer(), new StringDeserializer());
    }

    private static void groups(Properties settings) throws Exception {
        TopicPartition b0 = new TopicPartition("b", 0);
        KafkaConsumer<String, String> classic = consumer(settings, "classic", "classic");
        KafkaConsumer<String, String> fresh = consumer(settings, "fresh", "consumer");
        for (KafkaConsumer<String, String> consumer : List.of(classic, fresh)) {
            consumer.subscribe(List.of("b"));
            long deadline = System.currentTimeMillis() + 30_000;
            int read = 0;
            while (read < 3 && System.currentTimeMillis() < deadline) read += consumer.poll(Duration.ofMillis(200)).count();
            consumer.commitSync(Map.of(b0, new OffsetAndMetadata(4, "note")));
        }
        say("listConsumerGroups", () -> admin.listConsumerGroups().all());
        say("listGroups", () -> byName("listGroups", "all"));
        say("describeConsumerGroups", () -> admin.describeConsumerGroups(List.of("classic", "fresh"), new DescribeConsumerGroupsOptions().includeAuthorizedOperations(true)).describedGroups());
        say("describeConsumerGroups bad", () -> admin.describeConsumerGroups(List.of("nobody", "")).describedGroups());
        say("describeClassicGroups", () -> byName("describeClassicGroups", "describedGroups", List.of("classic", "fresh", "nobody")));
        say("listConsumerGroupOffsets", () -> admin.listConsumerGroupOffsets("fresh").partitionsToOffsetAndMetadata());
        say("listConsumerGroupOffsets of some", () -> admin.listConsumerGroupOffsets(Map.of("classic", new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(b0, new TopicPartition("nowhere", 7))))).all());
        say("listConsumerGroupOffsets bad", () -> admin.listConsumerGroupOffsets("nobody").partitionsToOffsetAndMetadata());
        say("alterConsumerGroupOffsets of a live group", () -> admin.alterConsumerGroupOffsets("fresh", Map.of(b0, new OffsetAndMetadata(1))).all());
        say("alterConsumerGroupOffsets of a live classic group", () -> admin.alterConsumerGroupOffsets("classic", Map.of(b0, new OffsetAndMetadata(1))).all());
        say("deleteConsumerGroupOffsets of a subscribed topic", () -> admin.deleteConsumerGroupOffsets("fresh", Set.of(b0)).all());
        say("deleteConsumerGroupOffsets of a subscribed topic, classic", () -> admin.deleteConsumerGroupOffsets("classic", Set.of(b0)).all());
        say("deleteConsumerGroups of live ones", () -> admin.deleteConsumerGroups(List.of("classic", "fresh", "nobody")).deletedGroups());
        say("removeMembersFromConsumerGroup bad", () -> admin.removeMembersFromConsumerGroup("classic", new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("nobody")))).all());
        say("removeMembersFromConsumerGroup", () -> admin.removeMembersFromConsumerGroup("classic", new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("static")))).all());
        say("removeMembersFromConsumerGroup all", () -> admin.removeMembersFromConsumerGroup("fresh", new RemoveMembersFromConsumerGroupOptions()).all());
        say("removeMembersFromConsumerGroup of none", () -> admin.removeMembersFromConsumerGroup("nobody", new RemoveMembersFromConsumerGroupOptions()).all());
        classic.close(Duration.ofSeconds(5));
        fresh.close(Duration.ofSeconds(5));
        say("describeConsumerGroups then", () -> admin.describeConsumerGroups(List.of("classic", "fresh")).describedGroups());
        say("alterConsumerGroupOffsets", () -> admin.alterConsumerGroupOffsets("classic", Map.of(b0, new OffsetAndMetadata(1))).all());
        say("alterConsumerGroupOffsets bad", () -> admin.alterConsumerGroupOffsets("fresh", Map.of(new TopicPartition("nowhere", 0), new OffsetAndMetadata(1))).all());
        say("alterConsumerGroupOffsets of a new group", () -> admin.alterConsumerGroupOffsets("made", Map.of(b0, new OffsetAndMetadata(2, "by hand"))).all());
        say("listConsumerGroupOffsets then", () -> admin.listConsumerGroupOffsets("made").partitionsToOffsetAndMetadata());
        say("deleteConsumerGroupOffsets", () -> admin.deleteConsumerGroupOffsets("classic", Set.of(b0)).all());
        say("deleteConsumerGroupOffsets bad", () -> admin.deleteConsumerGroupOffsets("nobody", Set.of(b0)).all());
        say("deleteConsumerGroups", () -> admin.deleteConsumerGroups(List.of("classic", "made")).deletedGroups());
        say("listConsumerGroups then", () -> admin.listConsumerGroups().all());
        say("listGroups then", () -> byName("listGroups", "all"));
    }

    private static void transactions(Properties settings) throws Exception {
        Properties own = new Properties();
        own.putAll(settings);
        own.put("transactional.id", "x");
        TopicPartition a0 = new TopicPartition("a", 0);
        KafkaProducer<String, String> producer = new KafkaProducer<>(own, new StringSerializer(), new StringSerializer());
        producer.initTransactions();
        producer.beginTransaction();
        producer.send(new ProducerRecord<>("a", 0, "k", "v")).get();
        say("listTransactions", () -> admin.listTransactions().all());
        say("listTransactions filtered", () -> admin.listTransactions(new ListTransactionsOptions().filterStates(List.of(TransactionState.COMPLETE_COMMIT))).all());
        say("describeTransactions", () -> admin.describeTransactions(List.of("x")).all());
        say("describeTransactions bad", () -> admin.describeTransactions(List.of("nobody")).description("nobody"));
        say("describeProducers of a transaction", () -> get(admin.describeProducers(List.of(a0)).partitionResult(a0)).activeProducers());
        ProducerState state = get(admin.describeProducers(List.of(a0)).partitionResult(a0)).activeProducers().get(0);
        say("abortTransaction bad", () -> admin.abortTransaction(new AbortTransactionSpec(new TopicPartition("nowhere", 0), state.producerId(), (short) 0, 0), new AbortTransactionOptions().timeoutMs(3000)).all());
        say("abortTransaction of an old epoch", () -> admin.abortTransaction(new AbortTransactionSpec(a0, state.producerId(), (short) -1, 0)).all());
        say("abortTransaction", () -> admin.abortTransaction(new AbortTransactionSpec(a0, state.producerId(), (short) state.producerEpoch(), 0)).all());
        say("describeProducers then", () -> get(admin.describeProducers(List.of(a0)).partitionResult(a0)).activeProducers());
        FenceProducersResult fenced = admin.fenceProducers(List.of("x", "unheard-of"));
        say("fenceProducers", fenced::fencedProducers);
        say("fenceProducers epoch", () -> fenced.epochId("unheard-of"));
        say("commit of the fenced", () -> {
            producer.commitTransaction();
            return "done";
        });
        say("forceTerminateTransaction", () -> byName("forceTerminateTransaction", "result", "x"));
        say("forceTerminateTransaction bad", () -> byName("forceTerminateTransaction", "result", "nobody"));
        pause();
        say("describeTransactions then", () -> admin.describeTransactions(List.of("x")).all());
        producer.close(Duration.ZERO);
    }

    private static void replicas() throws Exception {
        TopicPartition a0 = new TopicPartition("a", 0);
        TopicPartition nowhere = new TopicPartition("nowhere", 0);
        say("electLeaders", () -> admin.electLeaders(ElectionType.PREFERRED, Set.of(a0, nowhere)).partitions());
        say("electLeaders of all", () -> admin.electLeaders(ElectionType.UNCLEAN, null).partitions());
        Map<TopicPartition, Optional<NewPartitionReassignment>> moves = new LinkedHashMap<>();
        moves.put(a0, Optional.of(new NewPartitionReassignment(List.of(1))));
        moves.put(nowhere, Optional.of(new NewPartitionReassignment(List.of(1))));
        moves.put(new TopicPartition("a", 1), Optional.empty());
        moves.put(new TopicPartition("b", 0), Optional.of(new NewPartitionReassignment(List.of(9))));
        say("alterPartitionReassignments", () -> admin.alterPartitionReassignments(moves).values());
        say("listPartitionReassignments", () -> admin.listPartitionReassignments().reassignments());
        say("listPartitionReassignments of some", () -> admin.listPartitionReassignments(Set.of(a0, nowhere)).reassignments());
        TopicPartitionReplica there = new TopicPartitionReplica("a", 0, 1);
        say("describeReplicaLogDirs", () -> {
            String dir = get(admin.describeReplicaLogDirs(List.of(there)).values().get(there)).getCurrentReplicaLogDir();
            return dir != null && dir.startsWith(folder);
        });
        say("describeReplicaLogDirs bad", () -> {
            TopicPartitionReplica bad = new TopicPartitionReplica("nowhere", 0, 1);
            return admin.describeReplicaLogDirs(List.of(bad)).values().get(bad);
        });
        say("describeLogDirs", () -> {
            TreeSet<String> partitions = new TreeSet<>();
            for (LogDirDescription dir : get(admin.describeLogDirs(List.of(1)).allDescriptions()).get(1).values()) {
                for (Map.Entry<TopicPartition, ReplicaInfo> e : dir.replicaInfos().entrySet()) {
                    if (!e.getKey().topic().startsWith("__")) partitions.add(e.getKey() + " " + e.getValue());
                }
            }
            return partitions;
        });
        say("describeLogDirs bad", () -> admin.describeLogDirs(List.of(77), new DescribeLogDirsOptions().timeoutMs(3000)).descriptions());
        say("alterReplicaLogDirs bad", () -> admin.alterReplicaLogDirs(Map.of(there, "/nowhere")).values());
        say("alterReplicaLogDirs of a broker that is not there", () -> admin.alterReplicaLogDirs(Map.of(new TopicPartitionReplica("a", 0, 77), folder + "/data-a"), new AlterReplicaLogDirsOptions().timeoutMs(3000)).values());
        String now = get(admin.describeReplicaLogDirs(List.of(there)).values().get(there)).getCurrentReplicaLogDir();
        String other = now.endsWith("-a") ? folder + "/data-b" : folder + "/data-a";
        say("alterReplicaLogDirs", () -> admin.alterReplicaLogDirs(Map.of(there, other)).values());
        until(() -> other.equals(get(admin.describeReplicaLogDirs(List.of(there)).values().get(there)).getCurrentReplicaLogDir()));
        say("describeReplicaLogDirs then", () -> other.equals(get(admin.describeReplicaLogDirs(List.of(there)).values().get(there)).getCurrentReplicaLogDir()));
    }

    private static void security() {
        AclBinding binding = new AclBinding(new ResourcePattern(ResourceType.TOPIC, "a", PatternType.LITERAL),
            new AccessControlEntry("User:u", "*", AclOperation.READ, AclPermissionType.ALLOW));
        say("createAcls", () -> admin.createAcls(List.of(binding)).values().values());
        say("describeAcls", () -> admin.describeAcls(AclBindingFilter.ANY).values());
        say("deleteAcls", () -> admin.deleteAcls(List.of(AclBindingFilter.ANY)).values().values());
        say("createDelegationToken", () -> admin.createDelegationToken().delegationToken());
        say("renewDelegationToken", () -> admin.renewDelegationToken(new byte[] {1}).expiryTimestamp());
        say("expireDelegationToken", () -> admin.expireDelegationToken(new byte[] {1}).expiryTimestamp());
        say("describeDelegationToken", () -> admin.describeDelegationToken().delegationTokens());
        say("alterUserScramCredentials", () -> admin.alterUserScramCredentials(List.of(
            new UserScramCredentialUpsertion("u", new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), "secret"),
            new UserScramCredentialUpsertion("v", new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 1), "secret"),
            new UserScramCredentialDeletion("nobody", ScramMechanism.SCRAM_SHA_256))).values());
        pause();
        say("describeUserScramCredentials", () -> admin.describeUserScramCredentials().all());
        say("describeUserScramCredentials bad", () -> admin.describeUserScramCredentials(List.of("nobody")).description("nobody"));
        say("alterUserScramCredentials then", () -> admin.alterUserScramCredentials(List.of(new UserScramCredentialDeletion("u", ScramMechanism.SCRAM_SHA_256))).all());
        ClientQuotaEntity user = new ClientQuotaEntity(Map.of(ClientQuotaEntity.USER, "u"));
        say("alterClientQuotas", () -> admin.alterClientQuotas(List.of(new ClientQuotaAlteration(user, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1000.0))))).values());
        say("alterClientQuotas bad", () -> admin.alterClientQuotas(List.of(new ClientQuotaAlteration(user, List.of(new ClientQuotaAlteration.Op("no_such", 1.0))))).values());
        pause();
        say("describeClientQuotas", () -> admin.describeClientQuotas(ClientQuotaFilter.all()).entities());
        say("describeClientQuotas bad", () -> admin.describeClientQuotas(ClientQuotaFilter.contains(List.of(ClientQuotaFilterComponent.ofEntity("no-such", "u")))).entities());
        say("alterClientQuotas then", () -> admin.alterClientQuotas(List.of(new ClientQuotaAlteration(user, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", null))))).values());
    }

    private static void cluster() {
        say("describeCluster", () -> {
            DescribeClusterResult result = admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true));
            return show(result.nodes()) + " controller " + show(result.controller()) + " id " + get(result.clusterId()) + " may " + show(result.authorizedOperations());
        });
        say("describeFeatures", () -> {
            FeatureMetadata features = get(admin.describeFeatures().featureMetadata());
            return show(features.finalizedFeatures()) + " of " + show(features.supportedFeatures());
        });
        say("updateFeatures bad", () -> admin.updateFeatures(Map.of("no.such", new FeatureUpdate((short) 1, FeatureUpdate.UpgradeType.UPGRADE)), new UpdateFeaturesOptions()).values());
        say("updateFeatures backwards", () -> admin.updateFeatures(Map.of("metadata.version", new FeatureUpdate((short) 1, FeatureUpdate.UpgradeType.UPGRADE)), new UpdateFeaturesOptions()).values());
        say("describeMetadataQuorum", () -> {
            QuorumInfo quorum = get(admin.describeMetadataQuorum().quorumInfo());
            return "leader " + quorum.leaderId() + " voters " + quorum.voters().size() + " observers " + quorum.observers().size();
        });
        say("unregisterBroker bad", () -> admin.unregisterBroker(77).all());
        say("clientInstanceId of nobody", () -> admin.clientInstanceId(Duration.ofSeconds(-1)));
        say("metrics", () -> !admin.metrics().isEmpty());
        say("deleteTopics of all", () -> admin.deleteTopics(List.of("a", "b")).all());
        say("close", () -> {
            admin.close(Duration.ofSeconds(5));
            return "done";
        });
    }
}
