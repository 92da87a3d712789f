import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collections;
import java.util.List;

/**
 * Runs the main methods of Kafka's command line tools in one JVM, several at once.
 *
 * A request is one line of base64 words: id, class, standard input, arguments; the answer is one line: id, exit status,
 * standard output, standard error. The tools keep results in static fields, so every run gets the tools' own jar through
 * a class loader of its own, above the shared loader of the big client jars. Exits are caught through Kafka's exit hook.
 */
public final class Driver {
    private static final class Exited extends Error {
        final int status;

        Exited(int status) {
            super(null, null, false, false);
            this.status = status;
        }
    }

    private static final class Run {
        final ByteArrayOutputStream out = new ByteArrayOutputStream();
        final ByteArrayOutputStream err = new ByteArrayOutputStream();
        InputStream in;
        Integer status; // of the first exit: some tools catch what the hook throws and then exit again
        final List<Runnable> hooks = Collections.synchronizedList(new ArrayList<>());
    }

    // Threads that a tool starts inherit its run.
    private static final InheritableThreadLocal<Run> CURRENT = new InheritableThreadLocal<>();

    private static final class Split extends OutputStream {
        private final boolean err;
        private final PrintStream fallback;

        Split(boolean err, PrintStream fallback) {
            this.err = err;
            this.fallback = fallback;
        }

        private OutputStream target() {
            Run r = CURRENT.get();
            return r == null ? fallback : err ? r.err : r.out;
        }

        @Override
        public void write(int b) throws java.io.IOException {
            target().write(b);
        }

        @Override
        public void write(byte[] b, int off, int len) throws java.io.IOException {
            target().write(b, off, len);
        }
    }

    private static final class SplitIn extends InputStream {
        private InputStream target() {
            Run r = CURRENT.get();
            return r == null || r.in == null ? InputStream.nullInputStream() : r.in;
        }

        @Override
        public int read() throws java.io.IOException {
            return target().read();
        }

        @Override
        public int read(byte[] b, int off, int len) throws java.io.IOException {
            return target().read(b, off, len);
        }

        @Override
        public int available() throws java.io.IOException {
            return target().available();
        }
    }

    /** args: the directory of jars. */
    public static void main(String[] args) throws Exception {
        List<URL> shared = new ArrayList<>();
        List<URL> tools = new ArrayList<>();
        try (var files = Files.list(Path.of(args[0]))) {
            for (Path p : (Iterable<Path>) files.sorted()::iterator) {
                String name = p.getFileName().toString();
                if (name.endsWith(".jar")) {
                    (name.matches("kafka-tools-\\d.*") ? tools : shared).add(p.toUri().toURL());
                }
            }
        }
        ClassLoader base = new URLClassLoader(shared.toArray(new URL[0]), Driver.class.getClassLoader());
        PrintStream answers = System.out;
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        System.setOut(new PrintStream(new Split(false, System.err), true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(new Split(true, System.err), true, StandardCharsets.UTF_8));
        System.setIn(new SplitIn());
        hookExits(base);
        for (String line; (line = requests.readLine()) != null; ) {
            String[] words = line.split(" ", -1);
            Thread t = new Thread(() -> serve(words, base, tools, answers));
            t.setDaemon(true);
            t.start();
        }
        Runtime.getRuntime().halt(0);
    }

    private static void serve(String[] words, ClassLoader base, List<URL> tools, PrintStream answers) {
        Run run = new Run();
        CURRENT.set(run);
        run.in = new ByteArrayInputStream(Base64.getDecoder().decode(words[2]));
        String[] args = Arrays.stream(words, 3, words.length).map(Driver::text).toArray(String[]::new);
        int status = 0;
        try (URLClassLoader loader = new URLClassLoader(tools.toArray(new URL[0]), base)) {
            Thread.currentThread().setContextClassLoader(loader);
            loader.loadClass(text(words[1])).getMethod("main", String[].class).invoke(null, (Object) args);
        } catch (InvocationTargetException e) {
            status = statusOf(e.getCause(), run);
        } catch (Throwable e) {
            status = statusOf(e, run);
        }
        for (Runnable hook : new ArrayList<>(run.hooks)) {
            try {
                hook.run();
            } catch (Throwable e) {
                status = statusOf(e, run);
            }
        }
        status = run.status == null ? status : run.status;
        String answer = words[0] + " " + status + " " + encode(run.out) + " " + encode(run.err);
        synchronized (answers) {
            answers.println(answer);
            answers.flush();
        }
    }

    private static int statusOf(Throwable e, Run run) {
        for (Throwable c = e; c != null; c = c.getCause()) {
            if (c instanceof Exited) {
                return ((Exited) c).status;
            }
        }
        e.printStackTrace(new PrintStream(run.err, true));
        return 1;
    }

    private static void hookExits(ClassLoader base) throws Exception {
        Class<?> exit;
        try {
            exit = base.loadClass("org.apache.kafka.common.utils.Exit");
        } catch (ClassNotFoundException e) {
            exit = base.loadClass("org.apache.kafka.common.utils.internals.Exit");
        }
        for (Class<?> inner : exit.getDeclaredClasses()) {
            Object proxy = Proxy.newProxyInstance(base, new Class<?>[] {inner}, (self, method, a) -> {
                if (method.getName().equals("execute")) {
                    Run r = CURRENT.get();
                    if (r != null && r.status == null) {
                        r.status = (Integer) a[0];
                    }
                    throw new Exited((Integer) a[0]);
                }
                if (method.getName().equals("addShutdownHook")) {
                    Run r = CURRENT.get();
                    if (r != null) {
                        r.hooks.add((Runnable) a[1]);
                    }
                }
                return null;
            });
            if (inner.getSimpleName().equals("Procedure")) {
                exit.getMethod("setExitProcedure", inner).invoke(null, proxy);
                exit.getMethod("setHaltProcedure", inner).invoke(null, proxy);
            } else if (inner.getSimpleName().equals("ShutdownHookAdder")) {
                exit.getMethod("setShutdownHookAdder", inner).invoke(null, proxy);
            }
        }
    }

    private static String text(String word) {
        return new String(Base64.getDecoder().decode(word), StandardCharsets.UTF_8);
    }

    private static String encode(ByteArrayOutputStream b) {
        return Base64.getEncoder().encodeToString(b.toByteArray());
    }
}
