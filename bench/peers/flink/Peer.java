import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.stream.Collectors;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;

/**
 * Runs a file of Flink SQL in this process, each INSERT to its end, and prints how many seconds they took.
 *
 * It is tuned as the public suite tunes it: objects are reused, aggregates take in small batches, those of distinct values
 * are split, and state is on the heap. Checkpoints are off.
 *
 * Usage: java .. Peer FILE PARALLELISM FOLDER_FOR_TEMPORARY_FILES
 */
public class Peer {
    public static void main(String[] arguments) throws Exception {
        TableEnvironment tables = open(arguments[1], arguments[2]);
        String text = Files.readAllLines(Paths.get(arguments[0])).stream()
            .filter(line -> !line.trim().startsWith("--")).collect(Collectors.joining("\n"));
        double seconds = 0;
        for (String statement : text.split(";\\s*(\n|$)")) {
            if (statement.isBlank()) continue;
            long started = System.nanoTime();
            TableResult result = tables.executeSql(statement.trim());
            if (statement.trim().startsWith("INSERT")) {
                result.await();
                seconds += (System.nanoTime() - started) / 1e9;
            }
        }
        System.err.printf("{\"job_seconds\":%.3f}%n", seconds);
        System.err.flush();
        // Threads of the cluster in this process would keep it alive.
        Runtime.getRuntime().halt(0);
    }

    static TableEnvironment open(String parallelism, String temporary) {
        Configuration options = new Configuration();
        options.setString("execution.runtime-mode", "STREAMING");
        options.setString("parallelism.default", parallelism);
        options.setString("taskmanager.numberOfTaskSlots", parallelism);
        options.setString("pipeline.object-reuse", "true");
        options.setString("state.backend.type", "hashmap");
        options.setString("restart-strategy.type", "none");
        options.setString("table.local-time-zone", "UTC");
        options.setString("table.exec.mini-batch.enabled", "true");
        options.setString("table.exec.mini-batch.allow-latency", "2 s");
        options.setString("table.exec.mini-batch.size", "50000");
        options.setString("table.optimizer.distinct-agg.split.enabled", "true");
        options.setString("taskmanager.memory.network.min", "64m");
        options.setString("taskmanager.memory.network.max", "64m");
        options.setString("taskmanager.memory.managed.size", "64m");
        options.setString("io.tmp.dirs", temporary);
        return TableEnvironment.create(EnvironmentSettings.newInstance().withConfiguration(options).build());
    }
}
