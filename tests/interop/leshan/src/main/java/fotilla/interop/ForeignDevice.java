package fotilla.interop;

import java.util.Date;
import java.util.List;
import java.util.Map;

import org.eclipse.leshan.client.resource.BaseInstanceEnabler;
import org.eclipse.leshan.client.servers.LwM2mServer;
import org.eclipse.leshan.core.model.ObjectModel;
import org.eclipse.leshan.core.model.ResourceModel.Type;
import org.eclipse.leshan.core.node.LwM2mResource;
import org.eclipse.leshan.core.request.argument.Arguments;
import org.eclipse.leshan.core.response.ExecuteResponse;
import org.eclipse.leshan.core.response.ReadResponse;
import org.eclipse.leshan.core.response.WriteResponse;

/** Object 3 of the foreign client; its current time moves once a second, so that an observer has something to see. */
public final class ForeignDevice extends BaseInstanceEnabler {
    private static final List<Integer> RESOURCES = List.of(0, 1, 2, 3, 9, 11, 12, 13, 14, 15, 16);

    private volatile String utcOffset = "Z";
    private volatile String version = "1.0.0";

    void runs(String newVersion) {
        version = newVersion;
        fireResourceChange(3);
    }

    void tick() {
        fireResourceChange(13);
    }

    @Override
    public ReadResponse read(LwM2mServer server, int resource) {
        return switch (resource) {
        case 0 -> ReadResponse.success(resource, "Leshan");
        case 1 -> ReadResponse.success(resource, "Interop");
        case 2 -> ReadResponse.success(resource, "LT-0001");
        case 3 -> ReadResponse.success(resource, version);
        case 9 -> ReadResponse.success(resource, 95);
        case 11 -> ReadResponse.success(resource, Map.of(0, 0L), Type.INTEGER);
        case 13 -> ReadResponse.success(resource, new Date(System.currentTimeMillis() / 1000 * 1000));
        case 14 -> ReadResponse.success(resource, utcOffset);
        case 15 -> ReadResponse.success(resource, "Etc/UTC");
        case 16 -> ReadResponse.success(resource, "U");
        default -> super.read(server, resource);
        };
    }

    @Override
    public WriteResponse write(LwM2mServer server, boolean replace, int resource, LwM2mResource value) {
        if (resource != 14) {
            return super.write(server, replace, resource, value);
        }
        utcOffset = (String) value.getValue();
        fireResourceChange(resource);
        return WriteResponse.success();
    }

    @Override
    public ExecuteResponse execute(LwM2mServer server, int resource, Arguments arguments) {
        return resource == 12 ? ExecuteResponse.success() : super.execute(server, resource, arguments);
    }

    @Override
    public List<Integer> getAvailableResourceIds(ObjectModel model) {
        return RESOURCES;
    }
}
