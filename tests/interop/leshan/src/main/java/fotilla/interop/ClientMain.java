package fotilla.interop;

import java.util.Date;
import java.util.EnumSet;
import java.util.Set;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

import org.eclipse.leshan.client.LeshanClient;
import org.eclipse.leshan.client.LeshanClientBuilder;
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

/** One foreign device: Leshan's client with objects 1, 3 and the test object. Prints what its registration does. */
public final class ClientMain {
    private static final int SHORT_SERVER_ID = 123;

    private ClientMain() {
    }

    public static void main(String[] args) throws Exception {
        Options options = new Options(args, Set.of("--server", "--endpoint", "--lifetime"));
        String uri = options.text("--server", "coap://127.0.0.1:5683");

        ObjectsInitializer objects = new ObjectsInitializer(new StaticModel(Models.client()));
        objects.setInstancesForObject(LwM2mId.SECURITY, Security.noSec(uri, SHORT_SERVER_ID));
        objects.setInstancesForObject(LwM2mId.SERVER, new Server(SHORT_SERVER_ID,
                options.number("--lifetime", 60), EnumSet.of(BindingMode.U), false, BindingMode.U));
        ForeignDevice device = new ForeignDevice();
        objects.setInstancesForObject(LwM2mId.DEVICE, device);
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
                .setEndpointsProviders(new CaliforniumClientEndpointsProvider.Builder(
                        new CoapClientProtocolProvider()).build())
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
        client.start();
        ScheduledExecutorService clock = Executors.newSingleThreadScheduledExecutor();
        clock.scheduleAtFixedRate(device::tick, 1, 1, TimeUnit.SECONDS);
        Options.awaitEndOfInput();
        clock.shutdownNow();
        client.destroy(true);
        System.exit(0);
    }

    private static synchronized void print(String event, String registration) {
        System.out.printf("{\"event\": \"%s\", \"registration\": \"%s\"}%n", event, registration);
        System.out.flush();
    }
}
