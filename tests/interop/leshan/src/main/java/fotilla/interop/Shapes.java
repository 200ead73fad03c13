package fotilla.interop;

import java.net.InetSocketAddress;
import java.util.Date;
import java.util.EnumSet;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Collectors;

import org.eclipse.leshan.core.link.Link;
import org.eclipse.leshan.core.link.attributes.Attribute;
import org.eclipse.leshan.core.model.ResourceModel.Type;
import org.eclipse.leshan.core.node.LwM2mChildNode;
import org.eclipse.leshan.core.node.LwM2mMultipleResource;
import org.eclipse.leshan.core.node.LwM2mNode;
import org.eclipse.leshan.core.node.LwM2mObject;
import org.eclipse.leshan.core.node.LwM2mObjectInstance;
import org.eclipse.leshan.core.node.LwM2mPath;
import org.eclipse.leshan.core.node.LwM2mResource;
import org.eclipse.leshan.core.node.LwM2mResourceInstance;
import org.eclipse.leshan.core.node.ObjectLink;
import org.eclipse.leshan.core.request.BindingMode;
import org.eclipse.leshan.core.response.DiscoverResponse;
import org.eclipse.leshan.core.response.LwM2mResponse;
import org.eclipse.leshan.core.response.ReadResponse;
import org.eclipse.leshan.core.util.Hex;
import org.eclipse.leshan.server.registration.Registration;
import org.eclipse.leshan.server.registration.RegistrationUpdate;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;

/** What the recorded exchanges look like: Leshan's objects as JSON trees. */
final class Shapes {
    private static final JsonNodeFactory JSON = JsonNodeFactory.instance;

    private Shapes() {
    }

    static ObjectNode response(LwM2mResponse response) {
        ObjectNode json = JSON.objectNode();
        json.put("status", response.getCode().toString());
        json.put("valid", response.isValid());
        json.put("success", response.isSuccess());
        json.put("failure", response.isFailure());
        String message = response.getErrorMessage();
        if (message != null && !message.isEmpty()) {
            json.put("errormessage", message);
        }
        if (response instanceof ReadResponse read && read.getContent() != null) {
            json.set("content", node(read.getContent()));
        }
        if (response instanceof DiscoverResponse discover && discover.getObjectLinks() != null) {
            json.set("objectLinks", links(discover.getObjectLinks()));
        }
        return json;
    }

    static ObjectNode node(LwM2mNode node) {
        ObjectNode json = JSON.objectNode();
        if (node instanceof LwM2mObject object) {
            ArrayNode instances = json.putArray("instances");
            object.getInstances().values().forEach(instance -> instances.add(node(instance)));
            json.put("kind", "obj");
        } else if (node instanceof LwM2mObjectInstance instance) {
            json.put("kind", "instance");
            ArrayNode resources = json.putArray("resources");
            instance.getResources().values().forEach(resource -> resources.add(node(resource)));
        } else if (node instanceof LwM2mMultipleResource multiple) {
            json.put("kind", "multiResource");
            ObjectNode values = json.putObject("values");
            for (LwM2mResourceInstance one : multiple.getInstances().values()) {
                put(values, Integer.toString(one.getId()), one.getType(), one.getValue());
            }
            json.put("type", multiple.getType().name());
        } else if (node instanceof LwM2mResource single) {
            json.put("kind", "singleResource");
            json.put("type", single.getType().name());
            put(json, "value", single.getType(), single.getValue());
        } else if (node instanceof LwM2mResourceInstance one) {
            json.put("kind", "resourceInstance");
            json.put("type", one.getType().name());
            put(json, "value", one.getType(), one.getValue());
        }
        json.put("id", ((LwM2mChildNode) node).getId());
        return json;
    }

    /** Integers travel as text, since 64 bits do not fit a JavaScript number; opaque values as hexadecimal. */
    private static void put(ObjectNode json, String name, Type type, Object value) {
        switch (type) {
        case INTEGER, UNSIGNED_INTEGER -> json.put(name, value.toString());
        case FLOAT -> json.put(name, ((Number) value).doubleValue());
        case BOOLEAN -> json.put(name, (Boolean) value);
        case TIME -> json.put(name, ((Date) value).getTime());
        case OPAQUE -> json.put(name, Hex.encodeHexString((byte[]) value));
        case OBJLNK -> {
            ObjectLink link = (ObjectLink) value;
            json.putObject(name).put("objectId", link.getObjectId()).put("objectInstanceId",
                    link.getObjectInstanceId());
        }
        default -> json.put(name, value.toString());
        }
    }

    static ArrayNode links(Link[] links) {
        ArrayNode json = JSON.arrayNode();
        for (Link link : links) {
            ObjectNode entry = json.addObject();
            entry.put("url", link.getUriReference());
            ObjectNode attributes = entry.putObject("attributes");
            for (Attribute attribute : link.getAttributes()) {
                attributes.put(attribute.getName(), attribute.hasValue() ? attribute.getCoreLinkValue() : null);
            }
        }
        return json;
    }

    static ObjectNode registration(Registration registration) {
        ObjectNode json = JSON.objectNode();
        json.put("endpoint", registration.getEndpoint());
        json.put("registrationId", registration.getId());
        json.put("registrationDate", registration.getRegistrationDate().getTime());
        json.put("lastUpdate", registration.getLastUpdate().getTime());
        json.put("address", address(registration.getSocketAddress()));
        json.put("lwM2mVersion", registration.getLwM2mVersion().toString());
        json.put("lifetime", registration.getLifeTimeInSec());
        json.put("bindingMode", binding(registration.getBindingMode()));
        json.put("rootPath", registration.getRootPath());
        json.set("objectLinks", links(registration.getSortedObjectLinks()));
        json.put("secure", false);
        text(json.putObject("additionalRegistrationAttributes"), registration.getAdditionalRegistrationAttributes());
        json.put("queuemode", registration.usesQueueMode());
        Map<Integer, TreeSet<Integer>> available = new TreeMap<>();
        for (LwM2mPath path : registration.getAvailableInstances()) {
            available.computeIfAbsent(path.getObjectId(), id -> new TreeSet<>()).add(path.getObjectInstanceId());
        }
        ObjectNode instances = json.putObject("availableInstances");
        available.forEach((object, ids) -> ids.forEach(instances.putArray(Integer.toString(object))::add));
        return json;
    }

    static ObjectNode update(RegistrationUpdate update) {
        ObjectNode json = JSON.objectNode();
        json.put("registrationId", update.getRegistrationId());
        json.put("address", address(new InetSocketAddress(update.getAddress(), update.getPort())));
        if (update.getLifeTimeInSec() != null) {
            json.put("lifetime", update.getLifeTimeInSec());
        }
        if (update.getBindingMode() != null) {
            json.put("bindingMode", binding(update.getBindingMode()));
        }
        if (update.getObjectLinks() != null) {
            json.set("objectLinks", links(update.getObjectLinks()));
        }
        json.put("secure", false);
        text(json.putObject("additionalAttributes"), update.getAdditionalAttributes());
        return json;
    }

    private static void text(ObjectNode json, Map<String, String> entries) {
        if (entries != null) {
            entries.forEach(json::put);
        }
    }

    private static String address(InetSocketAddress address) {
        return address.getAddress().getHostAddress() + ":" + address.getPort();
    }

    private static String binding(EnumSet<BindingMode> modes) {
        return modes.stream().map(Enum::name).collect(Collectors.joining());
    }
}
