import java.io.*;
import java.nio.ByteBuffer;
import java.util.*;
import org.apache.kafka.common.protocol.*;

/**
 * Reads frames from standard input (class name, version, bytes), parses each with Kafka's own generated class, serialises the
 * result again and answers with the bytes, or with why it could not.
 */
public class Reserialize {
    static final int SAME = 0, NO_CLASS = 1, NO_VERSION = 2, FAILED = 3;

    public static void main(String[] arguments) throws Exception {
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in, 1 << 20));
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out, 1 << 20));
        Map<String, Optional<Class<?>>> classes = new HashMap<>();
        while (true) {
            String name;
            try {
                name = in.readUTF();
            } catch (EOFException end) {
                break;
            }
            short version = in.readShort();
            byte[] bytes = new byte[in.readInt()];
            in.readFully(bytes);
            Optional<Class<?>> found = classes.computeIfAbsent(name, Reserialize::find);
            if (!found.isPresent()) {
                answer(out, NO_CLASS, new byte[0]);
                continue;
            }
            try {
                Message message = (Message) found.get().getDeclaredConstructor().newInstance();
                if (version < message.lowestSupportedVersion() || version > message.highestSupportedVersion()) {
                    answer(out, NO_VERSION, new byte[0]);
                    continue;
                }
                ByteBuffer rest = ByteBuffer.wrap(bytes);
                message.read(new ByteBufferAccessor(rest), version);
                if (rest.hasRemaining()) throw new IllegalStateException(rest.remaining() + " bytes left");
                ObjectSerializationCache cache = new ObjectSerializationCache();
                ByteBuffer again = ByteBuffer.allocate(message.size(cache, version));
                message.write(new ByteBufferAccessor(again), cache, version);
                answer(out, SAME, again.array());
            } catch (Throwable e) {
                answer(out, FAILED, e.toString().getBytes("UTF-8"));
            }
        }
        out.flush();
    }

    static void answer(DataOutputStream out, int status, byte[] bytes) throws IOException {
        out.writeByte(status);
        out.writeInt(bytes.length);
        out.write(bytes);
    }

    static Optional<Class<?>> find(String name) {
        String[] candidates = {
            "org.apache.kafka.common.message." + name + "Data",
            "org.apache.kafka.common.message." + name,
            "org.apache.kafka.common.metadata." + name,
            "org.apache.kafka.coordinator.group.generated." + name,
            "org.apache.kafka.coordinator.transaction.generated." + name,
            "org.apache.kafka.coordinator.share.generated." + name,
            "kafka.internals.generated." + name,
        };
        for (String candidate : candidates) {
            try {
                return Optional.of(Class.forName(candidate));
            } catch (ClassNotFoundException | NoClassDefFoundError next) {
                // another package
            }
        }
        return Optional.empty();
    }
}
