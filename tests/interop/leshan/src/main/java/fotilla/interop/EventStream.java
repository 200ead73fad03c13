package fotilla.interop;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

import org.eclipse.leshan.core.observation.CompositeObservation;
import org.eclipse.leshan.core.observation.Observation;
import org.eclipse.leshan.core.observation.SingleObservation;
import org.eclipse.leshan.core.response.ObserveCompositeResponse;
import org.eclipse.leshan.core.response.ObserveResponse;
import org.eclipse.leshan.server.observation.ObservationListener;
import org.eclipse.leshan.server.registration.Registration;
import org.eclipse.leshan.server.registration.RegistrationListener;
import org.eclipse.leshan.server.registration.RegistrationUpdate;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.sun.net.httpserver.HttpExchange;

/** {@code GET /api/event[?ep=NAME]}: server-sent events, one queue per listener so that none holds up another. */
final class EventStream implements RegistrationListener, ObservationListener {
    /** A comment is written after this many idle seconds; that is how a listener that left is found. */
    private static final int HEARTBEAT = 2;

    private record Subscriber(String endpoint, BlockingQueue<String> queue) {
    }

    private final Set<Subscriber> subscribers = ConcurrentHashMap.newKeySet();

    /** Serves one listener until it goes away. */
    void serve(HttpExchange exchange, String endpoint) throws IOException {
        Subscriber subscriber = new Subscriber(endpoint, new LinkedBlockingQueue<>());
        subscribers.add(subscriber);
        try (OutputStream out = open(exchange)) {
            while (true) {
                String event = subscriber.queue().poll(HEARTBEAT, TimeUnit.SECONDS);
                out.write((event == null ? ":\n\n" : event).getBytes(StandardCharsets.UTF_8));
                out.flush();
            }
        } catch (InterruptedException stopping) {
            Thread.currentThread().interrupt();
        } finally {
            subscribers.remove(subscriber);
        }
    }

    private static OutputStream open(HttpExchange exchange) throws IOException {
        exchange.getResponseHeaders().set("Content-Type", "text/event-stream;charset=utf-8");
        exchange.getResponseHeaders().set("Cache-Control", "no-cache");
        exchange.sendResponseHeaders(200, 0);
        OutputStream out = exchange.getResponseBody();
        // The first bytes tell the listener that from here on it misses nothing.
        out.write(":\n\n".getBytes(StandardCharsets.UTF_8));
        out.flush();
        return out;
    }

    private void send(String event, ObjectNode data, String endpoint) {
        String text = "event: " + event + "\ndata: " + data + "\n\n";
        for (Subscriber subscriber : subscribers) {
            if (subscriber.endpoint() == null || subscriber.endpoint().equals(endpoint)) {
                subscriber.queue().add(text);
            }
        }
    }

    @Override
    public void registered(Registration registration, Registration previous, Collection<Observation> observations) {
        send("REGISTRATION", Shapes.registration(registration), registration.getEndpoint());
    }

    @Override
    public void updated(RegistrationUpdate update, Registration updated, Registration previous) {
        ObjectNode data = JsonNodeFactory.instance.objectNode();
        data.set("registration", Shapes.registration(updated));
        data.set("update", Shapes.update(update));
        send("UPDATED", data, updated.getEndpoint());
    }

    @Override
    public void unregistered(Registration registration, Collection<Observation> observations, boolean expired,
            Registration replacement) {
        send("DEREGISTRATION", Shapes.registration(registration), registration.getEndpoint());
    }

    @Override
    public void onResponse(SingleObservation observation, Registration registration, ObserveResponse response) {
        if (registration == null || response.getContent() == null) {
            return;
        }
        ObjectNode data = JsonNodeFactory.instance.objectNode();
        data.put("ep", registration.getEndpoint());
        data.put("kind", "single");
        data.put("res", observation.getPath().toString());
        data.set("val", Shapes.node(response.getContent()));
        send("NOTIFICATION", data, registration.getEndpoint());
    }

    @Override
    public void onError(Observation observation, Registration registration, Exception error) {
        System.err.println("notification of " + observation + " refused: " + error);
    }

    @Override
    public void onResponse(CompositeObservation observation, Registration registration,
            ObserveCompositeResponse response) {
        // composite observations are never asked for here
    }

    @Override
    public void newObservation(Observation observation, Registration registration) {
        // the answer to the request says so already
    }

    @Override
    public void cancelled(Observation observation) {
        // the answer to the request says so already
    }
}
