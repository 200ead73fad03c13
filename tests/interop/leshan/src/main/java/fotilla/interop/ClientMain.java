package fotilla.interop;

import java.util.Date;
import java.util.EnumSet;
import java.util.Set;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

import org.eclipse.californium.core.config.CoapConfig;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.leshan.client.LeshanClient;
import org.eclipse.leshan.client.LeshanClientBuilder;
import org.eclipse.leshan.client.endpoint.LwM2mClientEndpointsProvider;
import org.eclipse.leshan.client.engine.DefaultRegistrationEngineFactory;
import org.eclipse.leshan.client.object.Security;
import org.eclipse.leshan.client.object.Server;
import org.eclipse.leshan.client.observer.LwM2mClientObserverAdapter;
import org.eclipse.leshan.client.resource.ObjectsInitializer;
import org.eclipse.leshan.client.resource.SimpleInstanceEnabler;
import org.eclipse.leshan.client.servers.LwM2mServer;
import org.eclipse.leshan.core.LwM2mId;
import org.eclipse.leshan.core.model.StaticModel;
import org.eclipse.leshan.core.node.ObjectLink;
import org.eclipse.leshan.core.request.BindingMode;
import org.eclipse.leshan.core.request.DeregisterRequest;
import org.eclipse.leshan.core.request.RegisterRequest;
import org.eclipse.leshan.core.request.UpdateRequest;
import org.eclipse.leshan.transport.californium.client.endpoint.CaliforniumClientEndpointsProvider;
import org.eclipse.leshan.transport.californium.client.endpoint.coap.CoapClientProtocolProvider;

/** One foreign device: Leshan's client with objects 1, 3, the test object and, if asked for, 5. Prints its story. */
public final class ClientMain {
    private static final int SHORT_SERVER_ID = 123;
    private static final int LARGEST_PACKAGE = 1024 * 1024;
    private static final int RESTART_MILLISECONDS = 300;

    private ClientMain() {
    }

    public static void main(String[] args) throws Exception {
        Options options = new Options(args, Set.of("--server", "--endpoint", "--lifetime", "--firmware"));
        String uri = options.text("--server", "coap://127.0.0.1:5683");

        ObjectsInitializer objects = new ObjectsInitializer(new StaticModel(Models.client()));
        objects.setInstancesForObject(LwM2mId.SECURITY, Security.noSec(uri, SHORT_SERVER_ID));
        objects.setInstancesForObject(LwM2mId.SERVER, new Server(SHORT_SERVER_ID,
                options.number("--lifetime", 60), EnumSet.of(BindingMode.U), false, BindingMode.U));
        ForeignDevice device = new ForeignDevice();
        objects.setInstancesForObject(LwM2mId.DEVICE, device);
        ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor();
        LeshanClient[] running = new LeshanClient[1];
        ForeignFirmware[] updates = new ForeignFirmware[1];
        updates[0] = new ForeignFirmware((digest, version) -> {
            if (digest != null) {
                print("package", digest);
                return;
            }
            // The answer to the Execute leaves first. A restart tells the server nothing.
            clock.schedule(() -> {
                running[0].stop(false);
                device.runs(version);
                updates[0].installed();
                running[0].start();
            }, RESTART_MILLISECONDS, TimeUnit.MILLISECONDS);
        });
        if (Boolean.parseBoolean(options.text("--firmware", "false"))) {
            objects.setFactoryForObject(LwM2mId.FIRMWARE, (model, id, taken) -> null); // never a second one
            objects.setInstancesForObject(LwM2mId.FIRMWARE, updates[0]);
        }
        objects.setFactoryForObject(Models.TEST_OBJECT, (model, id, taken) -> {
            SimpleInstanceEnabler instance = new SimpleInstanceEnabler(id == null ? taken.size() : id);
            instance.setModel(model);
            return instance;
        });
        objects.setInstancesForObject(Models.TEST_OBJECT, new SimpleInstanceEnabler(0, //
                Models.TEST_STRING, "initial", Models.TEST_INTEGER, 1024L, Models.TEST_FLOAT, 3.14159,
                Models.TEST_BOOLEAN, true, Models.TEST_OPAQUE, new byte[] { 1, 2, 3 }, //
                Models.TEST_TIME, new Date(946684800000L), Models.TEST_OBJLNK, new ObjectLink(3, 0)));

        DefaultRegistrationEngineFactory engine = new DefaultRegistrationEngineFactory();
        engine.setRequestTimeoutInMs(10_000).setDeregistrationTimeoutInMs(2_000);
        LeshanClient client = new LeshanClientBuilder(options.text("--endpoint", "foreign")) //
                .setObjects(objects.createAll()).setRegistrationEngineFactory(engine)
                .setEndpointsProviders(endpoints())
                .build();
        client.addObserver(new LwM2mClientObserverAdapter() {
            @Override
            public void onRegistrationSuccess(LwM2mServer server, RegisterRequest request, String id) {
                print("registered", id);
            }

            @Override
            public void onUpdateSuccess(LwM2mServer server, UpdateRequest request) {
                print("updated", request.getRegistrationId());
            }

            @Override
            public void onDeregistrationSuccess(LwM2mServer server, DeregisterRequest request) {
                print("deregistered", request.getRegistrationId());
            }
        });
        running[0] = client;
        client.start();
        clock.scheduleAtFixedRate(device::tick, 1, 1, TimeUnit.SECONDS);
        Options.awaitEndOfInput();
        clock.shutdownNow();
        client.destroy(true);
        System.exit(0);
    }

    private static LwM2mClientEndpointsProvider endpoints() {
        CaliforniumClientEndpointsProvider.Builder builder = new CaliforniumClientEndpointsProvider.Builder(
                new CoapClientProtocolProvider());
        Configuration coap = builder.createDefaultConfiguration();
        coap.set(CoapConfig.MAX_RESOURCE_BODY_SIZE, LARGEST_PACKAGE);
        return builder.setConfiguration(coap).build();
    }

    private static synchronized void print(String event, String detail) {
        System.out.printf("{\"event\": \"%s\", \"detail\": \"%s\"}%n", event, detail);
        System.out.flush();
    }
}
