// The client's half, in Java 17 with java.net.http and Gson: store the key, send, and do what `retry` says. Copy this file.
//
//     echo '{"decision": "order 7", "path": "/v1/orders", "body": {"customer": "ada", "items": [{"sku": "sticker", "quantity": 1}]}}' |
//         BASE=http://127.0.0.1:8080 API_KEY=sk_demo_acme java -cp gson.jar Client.java
//
// Run it twice: the second run gets the same answer. docs/clients.md says why each rule is as it is.

import com.google.gson.*;
import java.io.*;
import java.net.URI;
import java.net.http.*;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.security.MessageDigest;
import java.sql.*;
import java.time.*;
import java.time.format.DateTimeFormatter;
import java.util.*;
import java.util.concurrent.*;
import java.util.function.Function;
import java.util.regex.*;
import java.util.zip.GZIPInputStream;

public record Client(String base, String apiKey, Client.Store store, Client.Limits limits) {
    static final int LONGEST = 1 << 20; // bytes of one answer; the API's answers have a few kilobytes
    static final double FIRST_PAUSE = 0.2; // seconds; doubles with each sending

    /**
     * How a decision ended. done: it took effect once, and `body` is the object. no: it has no effect, and `body` is the problem
     * that says why. unknown: call `post` again later with the same decision. Only where `body` has `"retry": "never"`, look at
     * its `resource` instead.
     */
    public record Result(String outcome, String key, Integer status, JsonObject body) {}

    /** Where the keys are kept. What `begin` has written survives a crash of this process and of its machine. */
    public interface Store {
        /** The key of the decision, the same for every process, and a mark that a request is about to be sent. */
        Begun begin(String decision, String request) throws Exception;

        /** Removes the mark: each sending was answered. False if other runs of the decision left theirs. */
        boolean end(String mark) throws Exception;
    }

    public record Begun(String key, String mark) {}

    /** A folder for each decision. For one machine, on a file system with hard links. */
    public record FileStore(Path root) implements Store {
        public Begun begin(String decision, String request) throws Exception {
            Path folder = Files.createDirectories(root.resolve(sha256(decision)));
            Path mark = folder.resolve("open-" + UUID.randomUUID());
            try (var file = FileChannel.open(mark, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
                file.write(ByteBuffer.wrap((UUID.randomUUID() + " " + request + "\n").getBytes(StandardCharsets.UTF_8)));
                file.force(true);
            }
            Matcher whole;
            for (int number = 0; ; number++) {
                // A link is created whole or not at all, by one process only. What a crash left empty or incomplete is
                // skipped.
                Path note = folder.resolve("key-" + number);
                try { Files.createLink(note, mark); } catch (FileAlreadyExistsException another) { /* whose key it is */ }
                String text = new String(Files.readAllBytes(note), StandardCharsets.UTF_8);
                whole = Pattern.compile("([0-9a-f-]{36}) ([0-9a-f]{64})\n").matcher(text);
                if (whole.matches()) break;
            }
            if (!whole.group(2).equals(request)) {
                Files.delete(mark);
                throw new IllegalArgumentException("another request was sent for this decision: " + decision);
            }
            for (Path changed : List.of(folder, root)) {
                try (var directory = FileChannel.open(changed)) { directory.force(true); }
            }
            return new Begun(whole.group(1), mark.toString());
        }

        public boolean end(String mark) throws Exception {
            Files.delete(Path.of(mark));
            try (var left = Files.newDirectoryStream(Path.of(mark).getParent(), "open-*")) {
                return !left.iterator().hasNext();
            }
        }
    }

    /** A row of the table in docs/clients.md for each decision. `connect` gives a connection that commits each statement. */
    public record SqlStore(Callable<Connection> connect) implements Store {
        public Begun begin(String decision, String request) throws Exception {
            try (var connection = connect.call(); var insert = connection.prepareStatement("""
                    INSERT INTO decisions (decision, key, request, open_runs) VALUES (?, ?, ?, 1)
                    ON CONFLICT (decision) DO UPDATE SET open_runs = decisions.open_runs + 1
                    WHERE decisions.request = excluded.request RETURNING key""")) {
                insert.setString(1, decision);
                insert.setObject(2, UUID.randomUUID());
                insert.setString(3, request);
                var row = insert.executeQuery();
                if (!row.next()) throw new IllegalArgumentException("another request was sent for this decision: " + decision);
                return new Begun(row.getString(1), decision);
            }
        }

        public boolean end(String mark) throws Exception {
            try (var connection = connect.call(); var update = connection.prepareStatement(
                    "UPDATE decisions SET open_runs = open_runs - 1 WHERE decision = ? RETURNING open_runs")) {
                update.setString(1, mark);
                var row = update.executeQuery();
                return row.next() && row.getInt(1) == 0;
            }
        }
    }

    /** Times are in seconds. `pause` is the longest pause between two sendings, whatever Retry-After says. */
    public record Limits(double answer, double pause, double deadline) {}

    static {
        // java.net.http reads this once, at its first use in the process. In a service, give the JVM the flag -D with this name.
        System.setProperty("jdk.httpclient.allowRestrictedHeaders", "connection");
    }

    private static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    /** Carries out one decision once. `decision` is your name for it, such as "pay order 7": a new decision, a new name. */
    public Result post(String path, String body, String decision) throws Exception {
        Begun begun = store.begin(decision, sha256(path + "\n" + body));
        double end = now() + limits.deadline, backoff = FIRST_PAUSE;
        for (boolean unanswered = false; ; backoff = Math.min(backoff * 2, limits.pause)) {
            Answer answer = send(path, body, begun.key, Math.min(limits.answer, end - now()));
            String advice = answer == null ? "" : answer.advice();
            unanswered |= advice.isEmpty();
            double asked = answer == null ? 0 : Math.min(answer.retryAfter(), limits.pause);
            double pause = Math.max(asked, backoff / 2) + ThreadLocalRandom.current().nextDouble() * backoff / 2;
            if (!Set.of("", "again").contains(advice) || now() + pause >= end) {
                // While a sending may still be on its way, it may still take effect. Then `fix` is not an answer.
                boolean alone = !unanswered && store.end(begun.mark);
                boolean no = advice.equals("new-key") || advice.equals("fix") && alone;
                String outcome = advice.equals("done") ? "done" : no ? "no" : "unknown";
                return new Result(outcome, begun.key, answer == null ? null : answer.head.statusCode(), answer == null ? null : answer.body);
            }
            Thread.sleep((long) (pause * 1000));
        }
    }

    /** One sending. Null if no whole answer came in time: the request may have taken effect or not. */
    private Answer send(String path, String body, String key, double limit) throws InterruptedException {
        HttpRequest request = HttpRequest.newBuilder(URI.create(base + path)).header("Authorization", "Bearer " + apiKey)
            .header("Content-Type", "application/json").header("Idempotency-Key", key)
            // A connection for each sending: what a proxy left on a connection can't become the answer to another request.
            .header("Connection", "close").POST(HttpRequest.BodyPublishers.ofString(body)).build();
        var sending = HTTP.sendAsync(request, head -> new Bounded());
        try {
            // A limit for the head and the body; HttpRequest's own covers only the head.
            var head = sending.get((long) (limit * 1e9), TimeUnit.NANOSECONDS);
            byte[] text = head.body();
            if (head.headers().firstValue("Content-Encoding").orElse("").equals("gzip")) {
                text = new GZIPInputStream(new ByteArrayInputStream(text)).readNBytes(LONGEST);
            }
            return new Answer(head, object(new String(text, StandardCharsets.UTF_8)));
        } catch (ExecutionException | TimeoutException | IOException lost) {
            sending.cancel(true);
            return null;
        }
    }

    private record Answer(HttpResponse<byte[]> head, JsonObject body) {
        /** `done`, or the API's own advice. Empty if this is not a final answer, or not the API's. */
        String advice() {
            if (body == null) return "";
            int status = head.statusCode();
            if (status >= 200 && status < 300) {
                return status != 202 && head.headers().firstValue("Idempotency-Expires").isPresent() ? "done" : "";
            }
            String mediaType = head.headers().firstValue("Content-Type").orElse("").split(";", 2)[0].trim();
            if (!mediaType.equalsIgnoreCase("application/problem+json")) return "";
            JsonElement retry = body.get("retry");
            String advice = retry != null && retry.isJsonPrimitive() ? retry.getAsString() : "";
            return Set.of("again", "fix", "new-key", "never").contains(advice) ? advice : "";
        }

        /** What Retry-After says in seconds, a number or a date. 0 if it says nothing that makes sense. */
        double retryAfter() {
            String value = head.headers().firstValue("Retry-After").orElse("");
            if (value.matches("[0-9]+")) return Double.parseDouble(value);
            try {
                var date = ZonedDateTime.parse(value, DateTimeFormatter.RFC_1123_DATE_TIME);
                return Math.max(Duration.between(Instant.now(), date).toSeconds(), 0);
            } catch (DateTimeException | ArithmeticException neither) {
                return 0;
            }
        }
    }

    /** Collects a body, and gives up on one that is too long. */
    private static final class Bounded implements HttpResponse.BodySubscriber<byte[]> {
        private final CompletableFuture<byte[]> whole = new CompletableFuture<>();
        private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        private Flow.Subscription subscription;

        public CompletionStage<byte[]> getBody() { return whole; }

        public void onSubscribe(Flow.Subscription subscription) {
            this.subscription = subscription;
            subscription.request(Long.MAX_VALUE);
        }

        public void onNext(List<ByteBuffer> pieces) {
            for (ByteBuffer piece : pieces) while (piece.hasRemaining()) bytes.write(piece.get());
            if (bytes.size() > LONGEST) {
                subscription.cancel();
                whole.completeExceptionally(new IOException("a longer answer than the API's"));
            }
        }

        public void onError(Throwable error) { whole.completeExceptionally(error); }

        public void onComplete() { whole.complete(bytes.toByteArray()); }
    }

    private static double now() { return System.nanoTime() / 1e9; }

    private static JsonObject object(String text) {
        try {
            return new Gson().getAdapter(JsonElement.class).fromJson(text) instanceof JsonObject object ? object : null;
        } catch (IOException | JsonParseException notJson) {
            return null;
        }
    }

    private static String sha256(String text) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8)));
    }

    /** Reads decisions from the standard input, one JSON object per line, and prints how each ended. The hostile proxy drives this. */
    public static void main(String[] args) throws Exception {
        String where = System.getenv().getOrDefault("STORE", "keys");
        Store store = where.startsWith("jdbc:") ? new SqlStore(() -> DriverManager.getConnection(where)) : new FileStore(Path.of(where));
        var env = new HashMap<>(Map.of("ANSWER_SECONDS", "15", "PAUSE_SECONDS", "10", "DEADLINE_SECONDS", "60"));
        env.putAll(System.getenv());
        Function<String, Double> seconds = name -> Double.parseDouble(env.get(name));
        Limits limits = new Limits(seconds.apply("ANSWER_SECONDS"), seconds.apply("PAUSE_SECONDS"), seconds.apply("DEADLINE_SECONDS"));
        Client client = new Client(env.get("BASE"), env.get("API_KEY"), store, limits);
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = lines.readLine()) != null; ) {
            JsonObject asked = new Gson().fromJson(line, JsonObject.class);
            Result result = client.post(asked.get("path").getAsString(), asked.get("body").toString(), asked.get("decision").getAsString());
            System.out.println(new Gson().toJson(result));
        }
    }
}
