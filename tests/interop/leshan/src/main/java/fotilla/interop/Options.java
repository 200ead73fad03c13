package fotilla.interop;

import java.util.HashMap;
import java.util.Map;
import java.util.Set;

/** Command-line flags of the form {@code --name value}; an unknown or dangling one ends the program. */
final class Options {
    private final Map<String, String> values = new HashMap<>();

    Options(String[] args, Set<String> known) {
        for (int i = 0; i < args.length; i += 2) {
            String name = args[i];
            if (!known.contains(name) || i + 1 == args.length) {
                System.err.println("unknown option or missing value: " + name + "; known: " + known);
                System.exit(2);
            }
            values.put(name, args[i + 1]);
        }
    }

    String text(String name, String otherwise) {
        return values.getOrDefault(name, otherwise);
    }

    int number(String name, int otherwise) {
        String text = values.get(name);
        return text == null ? otherwise : Integer.parseInt(text);
    }

    /** Returns when standard input ends: the one who started this process is done with it, or is gone. */
    static void awaitEndOfInput() throws java.io.IOException {
        while (System.in.read() >= 0) {
            // whatever is typed does not matter, only the end does
        }
    }
}
