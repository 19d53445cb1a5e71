import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * Publish one event to Yiqi through the HTTP door and print its answer; Java 11 or newer and nothing else.
 *
 * <pre>DOOR_URL=https://door.example DOOR_CA=ca.pem DOOR_TOKEN=440106.token java Publish.java event.json</pre>
 *
 * DOOR_TOKEN is the file with the token you were given. Run it again with the same file whenever you are not sure: same
 * id, same event, one effect. Ends with 0: accepted (perhaps with warnings), 1: rejected, 2: never stored, 3: no answer
 * yet. In a project with a JSON library read the answers with that; here two patterns are enough.
 */
class Publish {
    static final String DOOR = System.getenv("DOOR_URL");
    static HttpClient client;
    static String token;

    public static void main(String[] args) throws Exception {
        token = Files.readString(Path.of(System.getenv("DOOR_TOKEN"))).strip();
        client = HttpClient.newBuilder().sslContext(trusting(System.getenv("DOOR_CA"))).build();

        // Sent as it is, in UTF-8: a retry must not differ by a byte.
        byte[] event = Files.readAllBytes(Path.of(args[0]));
        HttpResponse<String> stored = null;
        for (long pause = 500; stored == null; pause = Math.min(2 * pause, 30_000)) {
            try {
                stored = send(to("/events").header("Content-Type", "application/cloudevents+json")
                        .POST(BodyPublishers.ofByteArray(event)));
                if (stored.statusCode() >= 500 || stored.statusCode() == 429) stored = null; // away, or too fast
            } catch (java.io.IOException error) {
                System.err.println("no answer of the door (" + error + "); the same event again"); // never a new id
                // A certificate that is not trusted stays so; everything else a program that stays tries for ever.
                if (error instanceof javax.net.ssl.SSLException || pause > 8_000) System.exit(2);
            }
            if (stored == null) Thread.sleep(pause);
        }
        System.err.println(stored.body());
        if (stored.statusCode() != 202) System.exit(2); // application/problem+json says what is wrong

        // Stored is not accepted: ask for the answer until there is one.
        String status = field("status", stored.body());
        String wait = System.getenv().getOrDefault("DOOR_WAIT", "30");
        for (int left = Integer.parseInt(wait); left > 0; left--, Thread.sleep(1000)) {
            HttpResponse<String> answer = send(to(status).GET());
            String state = answer.statusCode() == 200 ? field("state", answer.body()) : "";
            if (!state.equals("accepted") && !state.equals("rejected")) continue;
            System.out.println(answer.body());
            System.exit(state.equals("accepted") ? 0 : 1);
        }
        System.err.println("no answer yet; it is stored and will be judged, so run this again later");
        System.exit(3);
    }

    static HttpRequest.Builder to(String path) {
        return HttpRequest.newBuilder(URI.create(DOOR + path)).timeout(Duration.ofSeconds(20))
                .header("Authorization", "Bearer " + token);
    }

    static HttpResponse<String> send(HttpRequest.Builder request) throws Exception {
        return client.send(request.build(), BodyHandlers.ofString());
    }

    static String field(String name, String json) {
        Matcher found = Pattern.compile('"' + name + "\":\\s*\"([^\"]*)\"").matcher(json);
        return found.find() ? found.group(1) : "";
    }

    /** The authority that has signed the door's certificate, and no other. */
    static SSLContext trusting(String pem) throws Exception {
        if (pem == null) return SSLContext.getDefault();
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream file = new FileInputStream(pem)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }
}
