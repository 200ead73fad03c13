package fotilla.interop;

import java.io.IOException;
import java.io.OutputStream;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Locale;
import java.util.Map;

import org.eclipse.leshan.core.link.attributes.InvalidAttributeException;
import org.eclipse.leshan.core.link.lwm2m.attributes.DefaultLwM2mAttributeParser;
import org.eclipse.leshan.core.link.lwm2m.attributes.LwM2mAttributeSet;
import org.eclipse.leshan.core.node.InvalidLwM2mPathException;
import org.eclipse.leshan.core.node.LwM2mNode;
import org.eclipse.leshan.core.node.LwM2mObjectInstance;
import org.eclipse.leshan.core.node.LwM2mPath;
import org.eclipse.leshan.core.node.codec.CodecException;
import org.eclipse.leshan.core.observation.Observation;
import org.eclipse.leshan.core.observation.SingleObservation;
import org.eclipse.leshan.core.request.CancelObservationRequest;
import org.eclipse.leshan.core.request.ContentFormat;
import org.eclipse.leshan.core.request.CreateRequest;
import org.eclipse.leshan.core.request.DeleteRequest;
import org.eclipse.leshan.core.request.DiscoverRequest;
import org.eclipse.leshan.core.request.DownlinkDeviceManagementRequest;
import org.eclipse.leshan.core.request.ExecuteRequest;
import org.eclipse.leshan.core.request.ObserveRequest;
import org.eclipse.leshan.core.request.ReadRequest;
import org.eclipse.leshan.core.request.WriteAttributesRequest;
import org.eclipse.leshan.core.request.WriteRequest;
import org.eclipse.leshan.core.request.WriteRequest.Mode;
import org.eclipse.leshan.core.request.exception.ClientSleepingException;
import org.eclipse.leshan.core.request.exception.InvalidRequestException;
import org.eclipse.leshan.core.response.LwM2mResponse;
import org.eclipse.leshan.server.LeshanServer;
import org.eclipse.leshan.server.registration.Registration;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;

/** {@code /api/clients...}: one blocking LwM2M exchange per HTTP request. */
final class RestApi implements HttpHandler {
    private static final long DEFAULT_TIMEOUT = 5;
    /** A push of a large package may take this long; nothing that still lives takes longer. */
    private static final long LONGEST_TIMEOUT = 600;

    /** An answer that is ready: status, content type or null, body. */
    private record Answer(int status, String type, String body) {
        static Answer json(Object tree) {
            return new Answer(200, "application/json", tree.toString());
        }

        static Answer refused(int status, String why) {
            return new Answer(status, "text/plain;charset=utf-8", why);
        }
    }

    private final LeshanServer server;
    private final EventStream events;
    private final ObjectMapper mapper = new ObjectMapper();
    private final DefaultLwM2mAttributeParser attributes = new DefaultLwM2mAttributeParser();

    RestApi(LeshanServer server, EventStream events) {
        this.server = server;
        this.events = events;
    }

    @Override
    public void handle(HttpExchange exchange) throws IOException {
        List<String> path = new ArrayList<>();
        for (String part : exchange.getRequestURI().getRawPath().split("/")) {
            if (!part.isEmpty()) {
                path.add(URLDecoder.decode(part, StandardCharsets.UTF_8));
            }
        }
        Map<String, String> query = query(exchange.getRequestURI().getRawQuery());
        try (exchange) {
            if (path.size() == 2 && path.get(1).equals("event")) {
                events.serve(exchange, query.get("ep"));
                return;
            }
            Answer answer = path.size() >= 2 && path.get(1).equals("clients")
                    ? answer(exchange, path.subList(2, path.size()), query)
                    : Answer.refused(404, "no such resource");
            byte[] body = answer.body().getBytes(StandardCharsets.UTF_8);
            if (answer.type() != null) {
                exchange.getResponseHeaders().set("Content-Type", answer.type());
            }
            exchange.sendResponseHeaders(answer.status(), body.length == 0 ? -1 : body.length);
            if (body.length > 0) {
                try (OutputStream out = exchange.getResponseBody()) {
                    out.write(body);
                }
            }
        }
    }

    private Answer answer(HttpExchange exchange, List<String> path, Map<String, String> query) throws IOException {
        byte[] body = exchange.getRequestBody().readAllBytes();
        if (path.isEmpty()) {
            ArrayNode all = mapper.createArrayNode();
            Iterator<Registration> each = server.getRegistrationService().getAllRegistrations();
            each.forEachRemaining(registration -> all.add(Shapes.registration(registration)));
            return Answer.json(all);
        }
        Registration registration = server.getRegistrationService().getByEndpoint(path.get(0));
        if (registration == null) {
            return Answer.refused(400, "No registered client with id '" + path.get(0) + "'");
        }
        if (path.size() == 1) {
            return Answer.json(Shapes.registration(registration));
        }
        String verb = path.get(path.size() - 1);
        boolean named = !verb.chars().allMatch(Character::isDigit);
        String target = "/" + String.join("/", path.subList(1, named ? path.size() - 1 : path.size()));
        String operation = exchange.getRequestMethod() + (named ? " " + verb : "");
        try {
            if (operation.equals("DELETE observe")) {
                return cancel(registration, target, query);
            }
            return send(registration, request(exchange, operation, target, query, body), query);
        } catch (InvalidAttributeException invalid) {
            return new Answer(400, null, "Invalid attributes: " + invalid.getMessage());
        } catch (InvalidRequestException | InvalidLwM2mPathException | CodecException | ClientSleepingException
                | IllegalArgumentException | JsonProcessingException invalid) {
            return new Answer(400, null, "Invalid request: " + invalid.getMessage());
        } catch (InterruptedException stopping) {
            Thread.currentThread().interrupt();
            return Answer.refused(500, "Thread Interrupted");
        } catch (RuntimeException failed) {
            return Answer.refused(500, failed.getClass().getSimpleName() + ": " + failed.getMessage());
        }
    }

    private DownlinkDeviceManagementRequest<?> request(HttpExchange exchange, String operation, String target,
            Map<String, String> query, byte[] body) throws IOException, InvalidAttributeException {
        ContentFormat format = query.containsKey("format")
                ? ContentFormat.fromName(query.get("format").toUpperCase(Locale.ROOT))
                : null;
        switch (operation) {
        case "GET":
            return new ReadRequest(format, target);
        case "GET discover":
            return new DiscoverRequest(target);
        case "PUT": {
            Mode mode = Boolean.parseBoolean(query.getOrDefault("replace", "true")) ? Mode.REPLACE : Mode.UPDATE;
            return new WriteRequest(mode, format, target, node(exchange, body));
        }
        case "PUT attributes":
            return new WriteAttributesRequest(target, new LwM2mAttributeSet(
                    attributes.parseUriQuery(exchange.getRequestURI().getRawQuery())));
        case "POST":
            if (new LwM2mPath(target).isResource()) {
                return new ExecuteRequest(target,
                        body.length == 0 ? null : new String(body, StandardCharsets.UTF_8));
            }
            return create(format, target, node(exchange, body));
        case "POST observe":
            return new ObserveRequest(format, target);
        case "DELETE":
            return new DeleteRequest(target);
        default:
            throw new InvalidRequestException("no such operation: " + operation);
        }
    }

    private static CreateRequest create(ContentFormat format, String target, LwM2mNode node) {
        if (!(node instanceof LwM2mObjectInstance instance)) {
            throw new IllegalArgumentException("payload must contain an object instance");
        }
        return instance.getId() == LwM2mObjectInstance.UNDEFINED
                ? new CreateRequest(format, target, instance.getResources().values())
                : new CreateRequest(format, target, instance);
    }

    private LwM2mNode node(HttpExchange exchange, byte[] body) throws IOException {
        String type = exchange.getRequestHeaders().getFirst("Content-Type");
        if (type == null || !type.startsWith("application/json")) {
            throw new InvalidRequestException("content type " + type + " not supported");
        }
        JsonNode json = mapper.readTree(body);
        return NodeReader.node(json);
    }

    private Answer send(Registration registration, DownlinkDeviceManagementRequest<?> request,
            Map<String, String> query) throws InterruptedException {
        long seconds = query.containsKey("timeout") ? Long.parseLong(query.get("timeout")) : DEFAULT_TIMEOUT;
        if (seconds < 1 || seconds > LONGEST_TIMEOUT) {
            throw new InvalidRequestException("timeout must lie in 1.." + LONGEST_TIMEOUT);
        }
        LwM2mResponse response = server.send(registration, request, seconds * 1000);
        return response == null ? Answer.refused(504, "Request timeout") : Answer.json(Shapes.response(response));
    }

    /** Passive: forgets the observation, so the next notification is answered by a reset. Active: asks for its end. */
    private Answer cancel(Registration registration, String target, Map<String, String> query)
            throws InterruptedException {
        if (!query.containsKey("active")) {
            server.getObservationService().cancelObservations(registration, target);
            return new Answer(200, null, "");
        }
        LwM2mPath path = new LwM2mPath(target);
        for (Observation observation : server.getObservationService().getObservations(registration)) {
            if (observation instanceof SingleObservation single && single.getPath().equals(path)) {
                Answer answer = send(registration, new CancelObservationRequest(single), query);
                server.getObservationService().cancelObservations(registration, target);
                return answer;
            }
        }
        return Answer.refused(404, "no observation for path " + target);
    }

    private static Map<String, String> query(String raw) {
        Map<String, String> query = new HashMap<>();
        if (raw != null) {
            Arrays.stream(raw.split("&")).map(pair -> pair.split("=", 2)).forEach(pair -> query.put(pair[0],
                    pair.length == 2 ? URLDecoder.decode(pair[1], StandardCharsets.UTF_8) : ""));
        }
        return query;
    }
}
