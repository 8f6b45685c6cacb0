import java.io.PrintWriter;
import java.math.BigDecimal;
import java.nio.file.*;
import java.time.*;
import java.time.format.DateTimeFormatter;
import java.util.*;
import java.util.stream.*;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.*;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/**
 * Asks Flink for the type and the value of every case and writes one JSON line a case.
 *
 * A case is a line of `cases/FAMILY.txt`: an expression, a whole query when it starts with SELECT or WITH, or an INSERT
 * INTO the table `written`, whose rows are read back. `#` starts a comment line; `#! streaming` at the top runs the family
 * in streaming mode, `#! zone NAME` in another time zone than UTC. Expressions are evaluated many a job and one by one when
 * a job fails, so that an error belongs to one expression. A value is text, null, or an array.
 */
public class Record {
    static final DateTimeFormatter STAMP = DateTimeFormatter.ofPattern("uuuu-MM-dd HH:mm:ss.SSSSSSSSS");
    static TableEnvironment tables;
    static Path written;

    public static void main(String[] args) throws Exception {
        Path here = Paths.get(args[0]), out = Paths.get(args[1]);
        List<String> wanted = Arrays.asList(args).subList(2, args.length);
        List<Path> files;
        try (Stream<Path> list = Files.list(here.resolve("cases"))) {
            files = list.sorted().collect(Collectors.toList());
        }
        for (Path file : files) {
            String family = file.getFileName().toString().replace(".txt", "");
            if (!wanted.isEmpty() && !wanted.contains(family)) continue;
            List<String> lines = Files.readAllLines(file);
            String zone = lines.stream().filter(l -> l.startsWith("#! zone ")).map(l -> l.substring(8)).findFirst().orElse("UTC");
            open(here, lines.contains("#! streaming"), zone);
            List<String> cases = lines.stream().map(String::trim).filter(l -> !l.isEmpty() && !l.startsWith("#"))
                .distinct().collect(Collectors.toList());
            try (PrintWriter writer = new PrintWriter(Files.newBufferedWriter(out.resolve(family + ".jsonl")))) {
                record(cases, writer);
            }
            System.err.println(family + ": " + cases.size() + " cases");
        }
        System.exit(0);
    }

    static void open(Path here, boolean streaming, String zone) throws Exception {
        Configuration options = new Configuration();
        options.setString("parallelism.default", "1");
        options.setString("execution.runtime-mode", streaming ? "STREAMING" : "BATCH");
        options.setString("table.local-time-zone", zone);
        options.setString("taskmanager.memory.network.min", "32m");
        options.setString("taskmanager.memory.network.max", "32m");
        options.setString("taskmanager.memory.managed.size", "128m");
        tables = TableEnvironment.create(EnvironmentSettings.newInstance().withConfiguration(options).build());
        written = Files.createTempDirectory("written");
        String setup = Files.readString(here.resolve("tables.sql"))
            .replace("${data}", here.resolve("data").toUri().toString()).replace("${written}", written.toUri().toString());
        for (String statement : setup.split(";")) if (!statement.isBlank()) tables.executeSql(statement);
    }

    static void record(List<String> cases, PrintWriter writer) {
        Map<String, String> answers = new LinkedHashMap<>();
        List<String> group = new ArrayList<>();
        for (String sql : cases) {
            answers.put(sql, null);
            if (sql.startsWith("SELECT") || sql.startsWith("WITH")) { answers.put(sql, query(sql, sql)); continue; }
            if (sql.startsWith("INSERT")) { answers.put(sql, insert(sql)); continue; }
            try {
                tables.sqlQuery("SELECT " + sql + " AS v");
                group.add(sql);
            } catch (Throwable e) {
                answers.put(sql, line(sql, null, null, "plan", e));
            }
            if (group.size() == 30) { evaluate(group, answers); group.clear(); }
        }
        evaluate(group, answers);
        for (String answer : answers.values()) writer.println(answer);
    }

    static void evaluate(List<String> group, Map<String, String> answers) {
        if (group.isEmpty()) return;
        try {
            List<String> items = new ArrayList<>();
            for (int i = 0; i < group.size(); i++) items.add(group.get(i) + " AS v" + i);
            TableResult result = tables.executeSql("SELECT " + String.join(", ", items));
            List<String> types = types(result);
            Row row = rows(result).get(0);
            for (int i = 0; i < group.size(); i++)
                answers.put(group.get(i), line(group.get(i), types.get(i), json(row.getField(i)), null, null));
        } catch (Throwable e) {
            if (group.size() == 1) {
                String type = null;
                try { type = types(tables.sqlQuery("SELECT " + group.get(0) + " AS v")).get(0); } catch (Throwable ignored) { }
                answers.put(group.get(0), line(group.get(0), type, null, "run", e));
                return;
            }
            int middle = group.size() / 2;
            evaluate(new ArrayList<>(group.subList(0, middle)), answers);
            evaluate(new ArrayList<>(group.subList(middle, group.size())), answers);
        }
    }

    static String insert(String sql) {
        try {
            try (Stream<Path> old = Files.walk(written)) {
                for (Path path : old.filter(Files::isRegularFile).collect(Collectors.toList())) Files.delete(path);
            }
            tables.executeSql(sql).await();
            return query(sql, "SELECT * FROM written");
        } catch (Throwable e) {
            return line(sql, null, null, "plan", e);
        }
    }

    /** Runs `query` and answers for the case `sql`. */
    static String query(String sql, String query) {
        try {
            TableResult result = tables.executeSql(query);
            String names = result.getResolvedSchema().getColumnNames().stream().map(Record::quote).collect(Collectors.joining(","));
            String types = types(result).stream().map(Record::quote).collect(Collectors.joining(","));
            List<String> lines = new ArrayList<>();
            for (Row row : rows(result)) {
                StringJoiner fields = new StringJoiner(",", "[", "]");
                fields.add(quote(row.getKind().shortString()));
                for (int i = 0; i < row.getArity(); i++) fields.add(json(row.getField(i)));
                lines.add(fields.toString());
            }
            return "{\"sql\":" + quote(sql) + ",\"names\":[" + names + "],\"types\":[" + types + "],\"rows\":["
                + String.join(",", lines) + "]}";
        } catch (Throwable e) {
            return line(sql, null, null, "plan", e);
        }
    }

    static List<Row> rows(TableResult result) throws Exception {
        List<Row> rows = new ArrayList<>();
        try (CloseableIterator<Row> all = result.collect()) { all.forEachRemaining(rows::add); }
        return rows;
    }

    static List<String> types(TableResult result) {
        return result.getResolvedSchema().getColumnDataTypes().stream().map(Object::toString).collect(Collectors.toList());
    }

    static List<String> types(Table table) {
        return table.getResolvedSchema().getColumnDataTypes().stream().map(Object::toString).collect(Collectors.toList());
    }

    static String line(String sql, String type, String value, String failedAt, Throwable error) {
        String head = "{\"sql\":" + quote(sql) + (type == null ? "" : ",\"type\":" + quote(type));
        if (error == null) return head + ",\"value\":" + value + "}";
        Throwable root = error;
        while (root.getCause() != null && root.getCause() != root) root = root.getCause();
        String message = String.valueOf(root.getMessage()).split("\n")[0];
        return head + ",\"fails\":" + quote(failedAt) + ",\"error\":" + quote(message) + "}";
    }

    static String json(Object value) {
        if (value == null) return "null";
        if (value instanceof BigDecimal) return quote(((BigDecimal) value).toPlainString());
        if (value instanceof LocalDateTime) return quote(((LocalDateTime) value).format(STAMP));
        if (value instanceof Instant) return quote(LocalDateTime.ofInstant((Instant) value, ZoneOffset.UTC).format(STAMP) + "Z");
        if (value instanceof LocalTime) return quote(((LocalTime) value).format(DateTimeFormatter.ofPattern("HH:mm:ss.SSSSSSSSS")));
        if (value instanceof byte[]) {
            StringBuilder hex = new StringBuilder();
            for (byte b : (byte[]) value) hex.append(String.format("%02x", b));
            return quote(hex.toString());
        }
        if (value instanceof Object[])
            return Arrays.stream((Object[]) value).map(Record::json).collect(Collectors.joining(",", "[", "]"));
        if (value instanceof Map)
            return ((Map<?, ?>) value).entrySet().stream().map(e -> "[" + json(e.getKey()) + "," + json(e.getValue()) + "]")
                .sorted().collect(Collectors.joining(",", "[", "]"));
        if (value instanceof Row) {
            Row row = (Row) value;
            return IntStream.range(0, row.getArity()).mapToObj(i -> json(row.getField(i))).collect(Collectors.joining(",", "[", "]"));
        }
        return quote(value.toString());
    }

    static String quote(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < 0x20) out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }
}
