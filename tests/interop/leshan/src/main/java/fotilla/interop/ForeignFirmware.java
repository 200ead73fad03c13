package fotilla.interop;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.List;
import java.util.Map;
import java.util.function.BiConsumer;

import org.eclipse.leshan.client.resource.BaseInstanceEnabler;
import org.eclipse.leshan.client.servers.LwM2mServer;
import org.eclipse.leshan.core.model.ObjectModel;
import org.eclipse.leshan.core.model.ResourceModel.Type;
import org.eclipse.leshan.core.node.LwM2mResource;
import org.eclipse.leshan.core.request.argument.Arguments;
import org.eclipse.leshan.core.response.ExecuteResponse;
import org.eclipse.leshan.core.response.ReadResponse;
import org.eclipse.leshan.core.response.WriteResponse;
import org.eclipse.leshan.core.util.Hex;

/**
 * Object 5 of the foreign client, which takes packages by push only. Its packages are of its own kind: the text
 * {@code firmware VERSION}, a line feed, anything. What is not one ends in result 6.
 */
public final class ForeignFirmware extends BaseInstanceEnabler {
    private static final List<Integer> RESOURCES = List.of(0, 1, 2, 3, 5, 7, 8, 9);
    private static final String MAGIC = "firmware ";
    private static final int IDLE = 0;
    private static final int DOWNLOADED = 2;
    private static final int UPDATING = 3;
    private static final int SUCCESS = 1;
    private static final int UNSUPPORTED = 6;
    private static final int PUSH_ONLY = 1;

    /** Hears of (digest, version) of each package, and is then asked to install by {@code (null, version)}. */
    private final BiConsumer<String, String> listener;
    private int state = IDLE;
    private int result;
    private String version = "";

    ForeignFirmware(BiConsumer<String, String> listener) {
        this.listener = listener;
    }

    /** The device has started the new firmware. */
    synchronized void installed() {
        become(IDLE, SUCCESS, "");
    }

    private void become(int newState, int newResult, String newVersion) {
        state = newState;
        result = newResult;
        version = newVersion;
        fireResourceChange(3);
        fireResourceChange(5);
    }

    @Override
    public synchronized ReadResponse read(LwM2mServer server, int resource) {
        return switch (resource) {
        case 1 -> ReadResponse.success(resource, "");
        case 3 -> ReadResponse.success(resource, state);
        case 5 -> ReadResponse.success(resource, result);
        case 7 -> ReadResponse.success(resource, version);
        case 8 -> ReadResponse.success(resource, Map.of(0, 0L), Type.INTEGER);
        case 9 -> ReadResponse.success(resource, PUSH_ONLY);
        default -> super.read(server, resource);
        };
    }

    @Override
    public synchronized WriteResponse write(LwM2mServer server, boolean replace, int resource, LwM2mResource value) {
        if (resource == 1 && value.getValue().equals("")) {
            become(IDLE, 0, "");
            return WriteResponse.success();
        }
        if (resource != 0) {
            return super.write(server, replace, resource, value);
        }
        byte[] content = (byte[]) value.getValue();
        if (content.length == 1 && content[0] == 0) {
            become(IDLE, 0, "");
            return WriteResponse.success();
        }
        if (state != IDLE) {
            return WriteResponse.badRequest("not idle");
        }
        String text = new String(content, StandardCharsets.ISO_8859_1);
        int line = text.indexOf('\n');
        if (!text.startsWith(MAGIC) || line < 0) {
            become(IDLE, UNSUPPORTED, "");
            return WriteResponse.success();
        }
        become(DOWNLOADED, 0, text.substring(MAGIC.length(), line));
        listener.accept(digest(content), version);
        return WriteResponse.success();
    }

    private static String digest(byte[] content) {
        try {
            return Hex.encodeHexString(MessageDigest.getInstance("SHA-256").digest(content));
        } catch (NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    @Override
    public synchronized ExecuteResponse execute(LwM2mServer server, int resource, Arguments arguments) {
        if (resource != 2) {
            return super.execute(server, resource, arguments);
        }
        if (state != DOWNLOADED) {
            return ExecuteResponse.methodNotAllowed();
        }
        String next = version;
        become(UPDATING, 0, version);
        listener.accept(null, next);
        return ExecuteResponse.success();
    }

    @Override
    public List<Integer> getAvailableResourceIds(ObjectModel model) {
        return RESOURCES;
    }
}
