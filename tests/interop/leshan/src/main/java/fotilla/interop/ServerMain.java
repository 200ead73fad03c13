package fotilla.interop;

import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

import org.eclipse.californium.core.config.CoapConfig;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.leshan.core.endpoint.Protocol;
import org.eclipse.leshan.server.LeshanServer;
import org.eclipse.leshan.server.LeshanServerBuilder;
import org.eclipse.leshan.server.model.VersionedModelProvider;
import org.eclipse.leshan.transport.californium.server.endpoint.CaliforniumServerEndpointsProvider;
import org.eclipse.leshan.transport.californium.server.endpoint.coap.CoapServerProtocolProvider;

import com.sun.net.httpserver.HttpServer;

/** Leshan's LwM2M server behind the part of its demo's REST API that the tests need. */
public final class ServerMain {
    /** A read may bring back as much as the largest package that is pushed. */
    private static final int LARGEST_BODY = 2 * 1024 * 1024;

    private ServerMain() {
    }

    public static void main(String[] args) throws Exception {
        Options options = new Options(args, Set.of("--coap-port", "--http-port", "--block-size"));
        InetAddress loopback = InetAddress.getByName("127.0.0.1");

        CaliforniumServerEndpointsProvider.Builder endpoints = new CaliforniumServerEndpointsProvider.Builder(
                new CoapServerProtocolProvider());
        Configuration coap = endpoints.createDefaultConfiguration();
        int blockSize = options.number("--block-size", coap.get(CoapConfig.PREFERRED_BLOCK_SIZE));
        coap.set(CoapConfig.PREFERRED_BLOCK_SIZE, blockSize);
        coap.set(CoapConfig.MAX_MESSAGE_SIZE, 1024);
        coap.set(CoapConfig.MAX_RESOURCE_BODY_SIZE, LARGEST_BODY);
        // A block transfer is forgotten when none of its blocks came for this long.
        coap.set(CoapConfig.BLOCKWISE_STATUS_LIFETIME, 10, TimeUnit.MINUTES);
        endpoints.setConfiguration(coap);
        endpoints.addEndpoint(new InetSocketAddress(loopback, options.number("--coap-port", 0)), Protocol.COAP);

        LeshanServerBuilder builder = new LeshanServerBuilder();
        builder.setEndpointsProviders(endpoints.build());
        builder.setObjectModelProvider(new VersionedModelProvider(Models.server()));
        LeshanServer server = builder.build();
        EventStream events = new EventStream();
        server.getRegistrationService().addListener(events);
        server.getObservationService().addListener(events);
        server.start();

        // Without it each answer on a kept connection waits for the peer's delayed acknowledgement.
        System.setProperty("sun.net.httpserver.nodelay", "true");
        HttpServer http = HttpServer.create(new InetSocketAddress(loopback, options.number("--http-port", 0)), 1024);
        ExecutorService threads = Executors.newCachedThreadPool();
        http.setExecutor(threads);
        http.createContext("/api", new RestApi(server, events));
        http.start();

        System.out.printf("{\"coap\": %d, \"http\": %d}%n", server.getEndpoint(Protocol.COAP).getURI().getPort(),
                http.getAddress().getPort());
        System.out.flush();
        Options.awaitEndOfInput();
        http.stop(0);
        threads.shutdownNow();
        server.destroy();
    }
}
