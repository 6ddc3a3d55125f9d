// A receiver that verifies with the Java of docs/receiving.md. The query's `hub` is the secret.
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.HexFormat;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

class Receiver {
    // The snippet stands here.

    static String secret(HttpExchange exchange) {
        for (String pair : exchange.getRequestURI().getRawQuery().split("&")) {
            if (pair.startsWith("hub=")) return URLDecoder.decode(pair.substring(4), StandardCharsets.UTF_8);
        }
        throw new IllegalArgumentException("no hub in the query");
    }

    static void receive(HttpExchange exchange) throws IOException {
        boolean good = false;
        try {
            byte[] body = exchange.getRequestBody().readAllBytes();
            String header = exchange.getRequestHeaders().getFirst("X-Hub-Signature-256");
            good = header != null && verify(header, body, secret(exchange));
        } catch (GeneralSecurityException | RuntimeException error) {
            error.printStackTrace();
        }
        exchange.sendResponseHeaders(good ? 204 : 400, -1);
        exchange.close();
    }

    public static void main(String[] arguments) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/", Receiver::receive);
        server.start();
        System.out.println(server.getAddress().getPort());
    }
}
