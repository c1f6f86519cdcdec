// The client's half, in Java 17 without libraries: store the key, send the request, and do what `retry` says.
//
//     BASE=http://127.0.0.1:8080 java examples/clients/Client.java

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.UUID;
import java.util.regex.Pattern;

public class Client {
    static final String BASE = System.getenv().getOrDefault("BASE", "http://127.0.0.1:8080");
    // This folder survives a crash of this process, like your database.
    static final Path KEYS = Path.of(System.getenv().getOrDefault("KEYS", "keys"));
    // After this time, a person or a later job sends the same request again with the same key.
    static final Duration GIVE_UP_AFTER = Duration.ofSeconds(60);
    static final HttpClient HTTP = HttpClient.newHttpClient();

    /** Carries out one decision once. `decision` is your name for it, such as "pay order 7". A new decision needs a new name. */
    static HttpResponse<String> post(String decision, String path, String body) throws Exception {
        Files.createDirectories(KEYS);
        Path note = KEYS.resolve(decision.replace(' ', '-'));
        // Store the key before the first sending, so that a restarted process finds the key.
        if (!Files.exists(note)) Files.writeString(note, UUID.randomUUID().toString());
        HttpRequest request = HttpRequest.newBuilder(URI.create(BASE + path)).timeout(Duration.ofSeconds(15))
            .header("Authorization", "Bearer sk_demo_acme").header("Content-Type", "application/json")
            .header("Idempotency-Key", Files.readString(note)).POST(HttpRequest.BodyPublishers.ofString(body)).build();
        long deadline = System.nanoTime() + GIVE_UP_AFTER.toNanos();
        for (long pause = 200; ; pause = Math.min(pause * 2, 5000)) {
            try {
                HttpResponse<String> answer = HTTP.send(request, HttpResponse.BodyHandlers.ofString());
                // A success, or a problem whose `retry` is fix, new-key or never: the caller decides what to do.
                boolean ours = answer.body().startsWith("{");
                if (ours && answer.statusCode() != 202 && !"again".equals(member(answer, "retry"))) return answer;
                // A 202, or a problem with `retry: again`: send the same request with the same key after Retry-After.
                pause = answer.headers().firstValue("Retry-After").map(s -> Long.parseLong(s) * 1000).orElse(pause);
            } catch (IOException lost) {
                // The request or its answer was lost, so the client can't know whether the request took effect. Send it again.
            }
            if (System.nanoTime() > deadline) throw new IOException(decision + ": outcome unknown; send it again with the same key");
            Thread.sleep(pause);
        }
    }

    /** Reads a member of a flat JSON object. In your service, use a JSON library. */
    static String member(HttpResponse<String> answer, String name) {
        var found = Pattern.compile("\"" + name + "\":\"([^\"]*)\"").matcher(answer.body());
        return found.find() ? found.group(1) : null;
    }

    static HttpResponse<String> order(String run, String name, String sku, int quantity) throws Exception {
        String items = "[{\"sku\":\"" + sku + "\",\"quantity\":" + quantity + "}]";
        return post(run + " order " + name, "/v1/orders", "{\"customer\":\"java-" + run + "\",\"items\":" + items + "}");
    }

    static HttpResponse<String> pay(String run, String name, String order, String card) throws Exception {
        return post(run + " pay " + name, "/v1/charges", "{\"order_id\":\"" + order + "\",\"payment_method\":\"" + card + "\"}");
    }

    public static void main(String[] args) throws Exception {
        String run = args.length > 0 ? args[0] : UUID.randomUUID().toString();
        var made = order(run, "a", "pro-monthly", 1);
        System.out.println("order " + made.statusCode() + " " + member(made, "status"));
        var charge = pay(run, "a", member(made, "id"), "pm_card_lost_reply");
        System.out.println("lost reply " + charge.statusCode() + " " + member(charge, "status"));
        String second = member(order(run, "b", "pro-monthly", 1), "id");
        var declined = pay(run, "b", second, "pm_card_visa_chargeDeclined");
        System.out.println("declined " + declined.statusCode() + " " + member(declined, "type") + " " + member(declined, "retry"));
        var another = pay(run, "b with another card", second, "pm_card_visa"); // a new decision needs a new key
        System.out.println("another card " + another.statusCode() + " " + member(another, "status"));
        var refused = order(run, "c", "sticker", 10000);
        System.out.println("out of stock " + refused.statusCode() + " " + member(refused, "type") + " " + member(refused, "retry"));
    }
}
