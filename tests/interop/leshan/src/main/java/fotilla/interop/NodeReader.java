package fotilla.interop;

import java.util.ArrayList;
import java.util.Date;
import java.util.List;
import java.util.Locale;
import java.util.Map;

import org.eclipse.leshan.core.model.ResourceModel.Type;
import org.eclipse.leshan.core.node.LwM2mMultipleResource;
import org.eclipse.leshan.core.node.LwM2mNode;
import org.eclipse.leshan.core.node.LwM2mObjectInstance;
import org.eclipse.leshan.core.node.LwM2mResource;
import org.eclipse.leshan.core.node.LwM2mResourceInstance;
import org.eclipse.leshan.core.node.LwM2mSingleResource;
import org.eclipse.leshan.core.node.ObjectLink;
import org.eclipse.leshan.core.util.Hex;
import org.eclipse.leshan.core.util.datatype.ULong;

import com.fasterxml.jackson.databind.JsonNode;

/** The body of a write or a create: {@code {"id", "kind", "type", "value" | "values" | "resources"}}. */
final class NodeReader {
    private NodeReader() {
    }

    static LwM2mNode node(JsonNode json) {
        String kind = json.path("kind").asText();
        int id = json.path("id").asInt(LwM2mObjectInstance.UNDEFINED);
        switch (kind) {
        case "instance": {
            List<LwM2mResource> resources = new ArrayList<>();
            json.path("resources").forEach(resource -> resources.add((LwM2mResource) node(resource)));
            return new LwM2mObjectInstance(id, resources);
        }
        case "singleResource": {
            Type type = type(json);
            return LwM2mSingleResource.newResource(id, value(json.path("value"), type), type);
        }
        case "resourceInstance": {
            Type type = type(json);
            return LwM2mResourceInstance.newInstance(id, value(json.path("value"), type), type);
        }
        case "multiResource": {
            Type type = type(json);
            List<LwM2mResourceInstance> instances = new ArrayList<>();
            for (Map.Entry<String, JsonNode> one : json.path("values").properties()) {
                instances.add(LwM2mResourceInstance.newInstance(Integer.parseInt(one.getKey()),
                        value(one.getValue(), type), type));
            }
            return new LwM2mMultipleResource(id, type, instances);
        }
        default:
            throw new IllegalArgumentException("unknown kind '" + kind + "'");
        }
    }

    private static Type type(JsonNode json) {
        return Type.valueOf(json.path("type").asText().toUpperCase(Locale.ROOT));
    }

    private static Object value(JsonNode value, Type type) {
        return switch (type) {
        case INTEGER -> Long.valueOf(value.asText());
        case UNSIGNED_INTEGER -> ULong.valueOf(value.asText());
        case FLOAT -> Double.valueOf(value.asText());
        case BOOLEAN -> value.asBoolean();
        case TIME -> new Date(value.asLong());
        case OPAQUE -> Hex.decodeHex(value.asText().toCharArray());
        case OBJLNK -> new ObjectLink(value.path("objectId").asInt(), value.path("objectInstanceId").asInt());
        case STRING -> value.asText();
        default -> throw new IllegalArgumentException("type " + type + " cannot be written");
        };
    }
}
