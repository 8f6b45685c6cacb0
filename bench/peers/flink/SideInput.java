import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.LookupTableSource;
import org.apache.flink.table.connector.source.lookup.LookupFunctionProvider;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.functions.LookupFunction;

/** The connector 'side-input': looks q13's texts up in memory, because Flink's own files cannot be looked up in. */
public class SideInput implements DynamicTableSourceFactory {
    static final ConfigOption<String> PATH = ConfigOptions.key("path").stringType().noDefaultValue();

    @Override
    public String factoryIdentifier() {
        return "side-input";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of(PATH);
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of(FactoryUtil.FORMAT);
    }

    @Override
    public DynamicTableSource createDynamicTableSource(Context context) {
        FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);
        return new Source(helper.getOptions().get(PATH));
    }

    static class Source implements LookupTableSource {
        final String folder;

        Source(String folder) {
            this.folder = folder;
        }

        @Override
        public LookupRuntimeProvider getLookupRuntimeProvider(LookupContext context) {
            int[][] keys = context.getKeys();
            if (keys.length != 1 || keys[0].length != 1 || keys[0][0] != 0)
                throw new IllegalArgumentException("a side input is looked up by its first column");
            return LookupFunctionProvider.of(new Read(folder));
        }

        @Override
        public DynamicTableSource copy() {
            return new Source(folder);
        }

        @Override
        public String asSummaryString() {
            return "side input " + folder;
        }
    }

    /** Reads all lines `key,value` when a task begins. */
    public static class Read extends LookupFunction {
        final String folder;
        transient Map<Long, RowData> rows;

        public Read(String folder) {
            this.folder = folder;
        }

        @Override
        public void open(FunctionContext context) throws Exception {
            rows = new HashMap<>();
            try (DirectoryStream<Path> files = Files.newDirectoryStream(Paths.get(folder))) {
                for (Path file : files) read(file);
            }
        }

        void read(Path file) throws IOException {
            for (String line : Files.readAllLines(file)) {
                int comma = line.indexOf(',');
                long key = Long.parseLong(line.substring(0, comma));
                rows.put(key, GenericRowData.of(key, StringData.fromString(line.substring(comma + 1))));
            }
        }

        @Override
        public Collection<RowData> lookup(RowData key) {
            RowData row = rows.get(key.getLong(0));
            return row == null ? Collections.emptyList() : Collections.singletonList(row);
        }
    }
}
