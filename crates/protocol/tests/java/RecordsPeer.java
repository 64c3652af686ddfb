// The Java client's own record code, as the other side of tests/records_java.rs.
//
//   RecordsPeer write DIR     writes one file per case
//   RecordsPeer read FILE...  prints what it reads from each, in the words of `describe` in records_java.rs
//
// The test replaces IMPORTS and CODEC(..) by what the client's version calls them.

import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.Iterator;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.*;
/*IMPORTS*/

public class RecordsPeer {
    static final long NOW = 1_600_000_000_000L;
    static final long APPENDED = 1_600_000_777_000L;

    public static void main(String[] args) throws Exception {
        if (args[0].equals("write")) {
            write(Path.of(args[1]));
            return;
        }
        PrintStream out = new PrintStream(System.out, false, "UTF-8");
        for (int i = 1; i < args.length; i++) {
            out.println("file " + Path.of(args[i]).getFileName());
            try {
                read(out, ByteBuffer.wrap(Files.readAllBytes(Path.of(args[i]))));
            } catch (Exception e) {
                out.println("error " + e);
            }
        }
        out.flush();
    }

    static void write(Path dir) throws Exception {
        for (byte magic = 0; magic <= 2; magic++) {
            for (int codec = 0; codec <= (magic == 2 ? 4 : 3); codec++) {
                for (int type = 0; type <= (magic == 0 ? 0 : 1); type++) {
                    for (String size : new String[] {"small", "big"}) {
                        save(dir, "m" + magic + "-" + codec + "-" + type + "-" + size, batch(magic, codec, type, size));
                    }
                }
            }
        }
        MemoryRecordsBuilder marker = MemoryRecords.builder(ByteBuffer.allocate(256), (byte) 2, CODEC(0),
            TimestampType.CREATE_TIME, 55L, -1L, 4242L, (short) 3, -1, true, true, 9);
        marker.appendEndTxnMarker(NOW, new EndTransactionMarker(ControlRecordType.COMMIT, 12));
        save(dir, "marker", marker);
    }

    static MemoryRecordsBuilder batch(byte magic, int codec, int type, String size) {
        boolean producer = magic == 2 && type == 0;
        MemoryRecordsBuilder b = MemoryRecords.builder(ByteBuffer.allocate(1 << 20), magic, CODEC(codec),
            type == 0 ? TimestampType.CREATE_TIME : TimestampType.LOG_APPEND_TIME, 1000L, type == 0 ? -1L : APPENDED,
            producer ? 4242L : -1L, producer ? (short) 3 : (short) -1, producer ? 77 : -1, producer, false, magic == 2 ? 9 : -1);
        if (size.equals("small")) {
            append(b, magic, 0, 0, bytes("k0"), bytes("value-0"));
            append(b, magic, 1, 5, null, new byte[0]);
            append(b, magic, 2, -3, new byte[0], null);
            append(b, magic, 3, 1000, bytes("k3"), pattern(3, 300), new RecordHeader("h1", bytes("v1")),
                new RecordHeader("", bytes("x")), new RecordHeader("h2", (byte[]) null));
            append(b, magic, 4, 1000, bytes("k4"), bytes("value-4"));
        } else {
            for (int i = 0; i < 300; i++) append(b, magic, i, i, bytes("key-" + i), pattern(i, 700));
        }
        return b;
    }

    static void append(MemoryRecordsBuilder b, byte magic, int i, long ts, byte[] key, byte[] value, Header... headers) {
        b.appendWithOffset(1000L + i, magic == 0 ? -1L : NOW + ts, key, value, magic == 2 ? headers : new Header[0]);
    }

    static byte[] bytes(String s) {
        return s.getBytes(StandardCharsets.UTF_8);
    }

    /** Half noise, half text: compresses, but not to nothing. */
    static byte[] pattern(int seed, int length) {
        byte[] out = new byte[length];
        int x = seed * 2654435 + 1;
        for (int i = 0; i < length; i++) {
            x = x * 1103515245 + 12345;
            out[i] = (byte) ((i / 16) % 2 == 0 ? (x >>> 16) : 'a' + i % 7);
        }
        return out;
    }

    static void save(Path dir, String name, MemoryRecordsBuilder b) throws Exception {
        ByteBuffer buffer = b.build().buffer().duplicate();
        byte[] out = new byte[buffer.remaining()];
        buffer.get(out);
        Files.write(dir.resolve(name), out);
    }

    static void read(PrintStream out, ByteBuffer buffer) {
        for (RecordBatch batch : MemoryRecords.readableRecords(buffer).batches()) {
            batch.ensureValid();
            out.println("batch " + batch.magic() + " " + batch.compressionType().id + " " + batch.timestampType().id + " "
                + batch.baseOffset() + " " + batch.lastOffset() + " " + batch.maxTimestamp() + " " + batch.producerId() + " "
                + batch.producerEpoch() + " " + batch.baseSequence() + " " + batch.lastSequence() + " " + batch.partitionLeaderEpoch()
                + " " + batch.isTransactional() + " " + batch.isControlBatch());
            Iterator<Record> records = batch.iterator();
            while (records.hasNext()) {
                Record r = records.next();
                r.ensureValid();
                StringBuilder line = new StringBuilder("  " + r.offset() + " " + r.timestamp() + " " + hex(r.key()) + " " + hex(r.value()));
                for (Header h : r.headers()) {
                    line.append(" ").append(hex(ByteBuffer.wrap(bytes(h.key())))).append("=")
                        .append(hex(h.value() == null ? null : ByteBuffer.wrap(h.value())));
                }
                out.println(line);
            }
        }
    }

    static String hex(ByteBuffer field) {
        if (field == null) return "-";
        byte[] copy = new byte[field.remaining()];
        field.duplicate().get(copy);
        return "x" + HexFormat.of().formatHex(copy);
    }
}
